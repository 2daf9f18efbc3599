//! Payloads that tell whether they are what was appended.

use mapwal::Record;

/// The payload of record `lsn`, appended in `term`, of a length that follows from both.
pub fn make(lsn: u64, term: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(lsn << 20 ^ term);
    let mut payload = [lsn.to_le_bytes(), term.to_le_bytes()].concat();
    let len = random.usize(..300);
    payload.extend(std::iter::repeat_with(|| random.u8(..)).take(len));
    payload
}

/// The term in which the record was appended; `None` if it is not what was appended then.
pub fn term(record: Record<'_>) -> Option<u64> {
    let term = u64::from_le_bytes(*record.payload().get(8..)?.first_chunk()?);
    (record.payload() == make(record.lsn().0, term)).then_some(term)
}
