//! The bundled trace of a PostgreSQL log (see `examples/data/README.md`) as records to append and to check.

mod rows;

use rows::Row;

/// The records of the trace, over and over.
#[derive(Debug)]
pub(crate) struct Trace(Vec<TraceRecord>);

/// A record to be appended: of the traced kind and length, with a payload that follows from its line and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceRecord {
    /// The kind, numbered from 1 in the order of first appearance.
    pub(crate) tag: u16,
    /// Bytes of the payload.
    pub(crate) len: usize,
    seed: u64,
}

impl Trace {
    /// Unpacks the trace.
    pub(crate) fn bundled() -> Result<Self, csv::Error> {
        let mut kinds: Vec<(String, String)> = Vec::new();
        let mut records = Vec::new();
        for row in rows::read(rows::BUNDLED)? {
            let row = row?;
            let seed = row.seed();
            let kind = (row.resource_manager, row.record_type);
            let at = kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            let tag = u16::try_from(at + 1).expect("a trace has few kinds of records");
            records.push(TraceRecord { tag, len: row.record_length, seed });
        }
        Ok(Self(records))
    }

    /// How many records it has before it begins again.
    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Record `number`, counted from 0 and on through the repetitions, no two of which have the same payload.
    pub(crate) fn record(&self, number: u64) -> TraceRecord {
        let at = usize::try_from(number % self.len()).expect("below the length of a vector");
        let record = self.0[at];
        TraceRecord { seed: mix(record.seed ^ number), ..record }
    }
}

impl Row {
    fn seed(&self) -> u64 {
        let place = u64::from(self.relation.unwrap_or(0)) << 32 | u64::from(self.block.unwrap_or(0));
        self.lsn.bytes().fold(place ^ u64::from(self.xid), |seed, byte| mix(seed ^ u64::from(byte)))
    }
}

impl TraceRecord {
    /// Writes the payload to `bytes`, which are [`Self::len`] many.
    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        for (chunk, word) in bytes.chunks_mut(8).zip(self.words()) {
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// Whether a record that was read is this one.
    pub(crate) fn matches(&self, tag: u16, payload: &[u8]) -> bool {
        tag == self.tag
            && payload.len() == self.len
            && payload.chunks(8).zip(self.words()).all(|(chunk, word)| *chunk == word[..chunk.len()])
    }

    fn words(&self) -> impl Iterator<Item = [u8; 8]> + use<> {
        let seed = self.seed;
        (0..).map(move |index| mix(seed.wrapping_add(index)).to_le_bytes())
    }
}

/// A bijection that leaves no likeness between neighbours (the finalizer of `SplitMix64`).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
