//! What a backup has made, for people and for machines.

use std::fmt;
use std::path::PathBuf;

use mapwal::Lsn;
use mapwal::error::Corruption;
use serde_json::{Value, json};

use crate::arguments::Backup;
use crate::failure::counted;
use crate::json;

/// A copy that is complete.
pub(super) struct Report {
    /// The first record, and the number after the last.
    pub(super) first: Lsn,
    pub(super) next: Lsn,
    /// Fewer than the numbers between them, where some have no record.
    pub(super) records: u64,
    pub(super) segments: usize,
    /// How many of them share their blocks with the log, and how many with an earlier copy.
    pub(super) reflinked: usize,
    pub(super) shared: usize,
    /// The earlier copy, and where the log parts from it.
    pub(super) against: Option<(PathBuf, Option<Lsn>)>,
    /// What is wrong with the log's control page: whether the copy lacks what only that told of, nothing says.
    pub(super) page_fault: Option<Corruption>,
}

impl Report {
    pub(super) fn json(&self, arguments: &Backup) -> Value {
        let (against, parting) = self.against.clone().unzip();
        json!({
            "directory": arguments.directory.display().to_string(),
            "out": arguments.out.display().to_string(),
            "first_lsn": self.first.0,
            "next_lsn": self.next.0,
            "records": self.records,
            "segments": self.segments,
            "reflinked_segments": self.reflinked,
            "shared_segments": self.shared,
            "against": against.map(|path| path.display().to_string()),
            "parts_at_lsn": parting.flatten().map(|lsn| lsn.0),
            "damage": self.page_fault.iter().map(json::of_damage).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, next: _, records, segments, reflinked, shared, against, page_fault: _ } = self;
        let records = counted(*records, "record", "records");
        let segments = counted(*segments as u64, "segment", "segments");
        write!(f, "copied {records} from {first} on, in {segments}")?;
        if *reflinked > 0 {
            write!(f, ", {reflinked} of them as reflinks")?;
        }
        let Some((path, parting)) = against else { return Ok(()) };
        let path = path.display();
        write!(f, ", {shared} of them shared with {path}")?;
        parting.map_or(Ok(()), |lsn| {
            let why = "it was truncated, or one of them replaced, since";
            write!(f, "\n{path} parts from the log at record {lsn}: {why}")
        })
    }
}
