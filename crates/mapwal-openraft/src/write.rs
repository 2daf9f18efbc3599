//! Changing the log: one call after the other.

use mapwal::{Lsn, Mark};

use crate::codec::Codec;
use crate::error::{Error, Result};
use crate::raft::{self, LogIdOf, RaftTypeConfig, Vote};
use crate::store::{Inner, check_begin};
use crate::stored::{self, Begin, index_of, lsn_of, slot};

impl<C: RaftTypeConfig, K: Codec<C>> Inner<C, K> {
    /// Appends `entries`, which can be read on return; what to wait for, if there is anything to be appended.
    ///
    /// Entries up to the purged one are left out: openraft may give them again. All others follow the last one, or are the
    /// first of a log that never had any.
    pub(crate) fn append(&self, entries: &[C::Entry]) -> Result<Option<Mark>> {
        let mut bounds = self.bounds.lock();
        let index = raft::index::<C>;
        let purged = bounds.purged.as_ref().map(|purged| purged.index);
        let entries = &entries[entries.partition_point(|entry| Some(index(entry)) <= purged)..];
        let Some(first) = entries.first().map(index) else { return Ok(None) };
        for pair in entries.windows(2) {
            let (index, expected) = (index(&pair[1]), index(&pair[0]).saturating_add(1));
            if index != expected {
                return Err(Error::NotNext { index, expected });
            }
        }
        let batch = Batch::encode(&self.codec, entries)?;
        let expected = self.next_index();
        if first != expected {
            if bounds.last.is_some() || bounds.purged.is_some() {
                return Err(Error::NotNext { index: first, expected });
            }
            let begin = Begin::<C>::encode_first(first);
            let reset = self.log.reset_to_with(lsn_of(first), &[(slot::PURGED, &begin)]);
            self.begin_with(&mut bounds, &begin, None, first);
            reset?;
        }
        let mut next = lsn_of(first);
        let appended = self.append_batch(&mut next, &batch);
        if let Some(last) = next.0.checked_sub(lsn_of(first).0 + 1) {
            bounds.last = Some(raft::log_id::<C>(&entries[last as usize]));
        }
        appended?;
        Ok(Some(Mark::from(next.previous())))
    }

    /// Appends `batch` from `next` on, in as few pieces as segments allow. `next` has come as far as it could.
    fn append_batch(&self, next: &mut Lsn, batch: &Batch<'_>) -> Result<()> {
        let parts: Vec<[&[u8]; 2]> = batch.parts().collect();
        let records: Vec<(u16, &[&[u8]])> =
            batch.tags().zip(&parts).map(|(tag, parts)| (tag, parts.as_slice())).collect();
        let max = self.log.payload_len_max();
        let lens = parts.iter().map(|[head, body]| (head.len() + body.len()) as u64);
        if let Some(len) = lens.max().filter(|&len| len > max) {
            return Err(mapwal::Error::RecordTooLarge { len, max }.into());
        }
        let (mut rest, mut count) = (records.as_slice(), records.len());
        while !rest.is_empty() {
            match self.log.append_batch_at(*next, &rest[..count]) {
                Ok(appended) => {
                    *next = appended.end;
                    rest = &rest[count..];
                    count = rest.len();
                }
                Err(mapwal::Error::RecordTooLarge { .. }) if count > 1 => count /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Drops all entries from `index` on. Durable on return.
    pub(crate) fn truncate(&self, index: u64) -> Result<()> {
        let mut bounds = self.bounds.lock();
        check_begin(bounds.first, self.log.first_lsn())?;
        let log_first = index_of(self.log.first_lsn());
        let from = index.max(log_first);
        if from >= self.next_index() {
            // It drops nothing, and fails where it would.
            return Ok(self.log.truncate_after(lsn_of(from).previous())?);
        }
        let purged = bounds.purged.as_ref().map(|purged| purged.index);
        if let Some(purged) = purged.filter(|&purged| index <= purged) {
            return Err(Error::Purged { index, purged });
        }
        let last = if from == bounds.first { None } else { Some(self.id_of(from - 1)?) };
        let truncated = self.log.truncate_after(lsn_of(from).previous());
        // Also if it is not durable.
        if self.next_index() == from {
            bounds.last = last;
        }
        Ok(truncated?)
    }

    /// Drops all entries up to `log_id`, which may be beyond the last one, and remembers it. Durable on return.
    pub(crate) fn purge(&self, log_id: LogIdOf<C>) -> Result<()> {
        let mut bounds = self.bounds.lock();
        if bounds.purged.as_ref().is_some_and(|purged| purged.index >= log_id.index) {
            // It remembers nothing, and does what is left of a purge that failed, or fails as that did.
            return Ok(self.log.trim_before(lsn_of(bounds.first)).map(drop)?);
        }
        let purged = stored::encode_log_id(&self.codec, Some(&log_id))?;
        let meta = [(slot::PURGED, purged.as_slice())];
        let next = lsn_of(log_id.index.saturating_add(1));
        let done = if next > self.log.next_lsn() {
            self.log.reset_to_with(next, &meta)
        } else {
            self.log.trim_before_with(next, &meta).map(drop)
        };
        // Also if the trim has failed, or is not durable.
        self.begin_with(&mut bounds, &purged, Some(log_id), index_of(next));
        Ok(done?)
    }

    /// Durable once the mark that is returned is.
    pub(crate) fn put_vote(&self, vote: &Vote<C>) -> Result<Mark> {
        let vote = stored::encode_vote(&self.codec, vote)?;
        Ok(self.log.put_meta(slot::VOTE, &vote)?)
    }

    pub(crate) fn vote(&self) -> Result<Option<Vote<C>>> {
        let vote = self.meta(slot::VOTE)?;
        vote.map(|vote| stored::decode_vote(&self.codec, &vote)).transpose()
    }

    /// Durable with the next sync.
    pub(crate) fn put_committed(&self, committed: Option<&LogIdOf<C>>) -> Result<()> {
        let committed = stored::encode_log_id(&self.codec, committed)?;
        Ok(self.log.put_meta(slot::COMMITTED, &committed).map(drop)?)
    }

    pub(crate) fn committed(&self) -> Result<Option<LogIdOf<C>>> {
        let committed = self.meta(slot::COMMITTED)?.unwrap_or_default();
        stored::decode_log_id(&self.codec, &committed)
    }
}

/// Entries as they are stored.
struct Batch<'e> {
    heads: Vec<u8>,
    items: Vec<(stored::Head, stored::Body<'e>)>,
}

impl<'e> Batch<'e> {
    fn encode<C: RaftTypeConfig>(codec: &impl Codec<C>, entries: &'e [C::Entry]) -> Result<Self> {
        let mut heads = Vec::new();
        let items =
            entries.iter().map(|entry| stored::encode_entry(codec, entry, &mut heads)).collect::<Result<_>>()?;
        Ok(Self { heads, items })
    }

    fn tags(&self) -> impl Iterator<Item = u16> {
        self.items.iter().map(|(head, _)| head.tag)
    }

    /// The payloads: head and data of each.
    fn parts(&self) -> impl Iterator<Item = [&[u8]; 2]> {
        self.items.iter().map(|(head, body)| [&self.heads[head.bytes.clone()], body.bytes()])
    }
}
