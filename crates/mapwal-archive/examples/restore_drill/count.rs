//! What there is in the end, counted.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use mapwal::inspect::verify_segment;
use mapwal::{LogReader, Lsn};
use mapwal_archive::{Archive, ArchivedSegment};
use object_store::ObjectStoreExt;

use crate::s3::{Seen, Server};
use crate::trace::Trace;

/// The records that were ever written to the log: it is dense from record 1 on, so the last one's number says it.
pub(crate) fn records(log: &Path) -> Result<u64, Box<dyn Error>> {
    // SAFETY: no process writes to the log any more.
    Ok(unsafe { LogReader::open(log) }?.published_lsn()?.0)
}

/// Whether an object has records, and not a note.
pub(crate) fn holds_records(key: &str) -> bool {
    let extension = Path::new(key).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("seg" | "part"))
}

/// The number after the last record of the first row of stored objects.
pub(crate) fn stored_up_to(seen: &Seen) -> u64 {
    let mut next = 1;
    for key in seen.stored.keys().filter(|key| holds_records(key)) {
        let name = key.rsplit('/').next().unwrap_or_default();
        let mut numbers = name.split('-').map_while(|number| number.parse::<u64>().ok());
        if let (Some(first), Some(end)) = (numbers.next(), numbers.next()) {
            next = if first <= next { next.max(end) } else { next };
        }
    }
    next
}

/// Objects whose contents were replaced. The note of which archiver is at work is meant to be.
pub(crate) fn overwritten(server: &Server) -> u64 {
    let seen = server.seen();
    let stored = seen.stored.iter().filter(|(key, _)| !key.ends_with("/session.json"));
    stored.map(|(_, stored)| stored.len() as u64 - 1).sum()
}

/// What is in the archive.
#[derive(Debug, Default)]
pub(crate) struct Archived {
    pub(crate) records: u64,
    /// Places where the next object does not begin with the next record.
    pub(crate) gaps: u64,
}

/// Reads all segments, and counts the records in them; those of the last, unsealed one by the keys of its parts.
pub(crate) async fn archived(archive: &Archive, store: &impl ObjectStoreExt) -> Result<Archived, Box<dyn Error>> {
    let mut archived = Archived::default();
    let mut next = Lsn(1);
    for epoch in &archive.list().await?.epochs {
        for segment in &epoch.segments {
            let bytes = store.get(&segment.key).await?.bytes().await?;
            archived.records += verify_segment(&bytes)?.records;
            archived.gaps += u64::from(segment.first_lsn != next);
            next = segment.next_lsn;
        }
        let parts: Vec<&ArchivedSegment> = epoch.parts.iter().filter(|part| part.first_lsn >= next).collect();
        let by_offset: BTreeMap<_, _> = parts.into_iter().map(|part| ((part.part, part.next_lsn), part)).collect();
        for part in by_offset.values() {
            archived.gaps += u64::from(part.first_lsn > next);
            archived.records += part.next_lsn.0.saturating_sub(next.0);
            next = next.max(part.next_lsn);
        }
    }
    Ok(archived)
}

/// What is in the restored log.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) records: u64,
    /// Records that are not there, or are not what was written.
    pub(crate) lost: u64,
}

pub(crate) fn restored(log: &Path, written: u64, trace: &Trace) -> Result<Restored, Box<dyn Error>> {
    // SAFETY: only this process uses the log.
    let snapshot = unsafe { LogReader::open(log) }?.snapshot()?;
    let mut restored = Restored::default();
    for number in 0..written {
        let record = snapshot.get(Lsn(number + 1)).ok().flatten();
        restored.lost += u64::from(!record.is_some_and(|r| trace.record(number).matches(r.tag(), r.payload())));
    }
    restored.records = snapshot.iter().flatten().count() as u64;
    Ok(restored)
}
