//! raft-engine: logs of many Raft groups in one, with an index in memory.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::peer::{self, Facts, Peer, Seen, THREADS_MAX};
use crate::stream::{RECORD_LEN, RETAINED_BYTES, SEGMENT_BYTES};

/// How much one call reads.
const SCAN_STEP: u64 = 4096;
const INDEX_LEN: usize = 8;
/// The group of a stream.
const GROUP: u64 = 1;
/// A trim is an entry of its own, so there is one for each file.
const TRIMMED_RECORDS: u64 = (SEGMENT_BYTES / RECORD_LEN) as u64;

pub(crate) struct RaftEngine {
    engine: Engine,
    /// The last index of each group. Indexes of a group must be dense, so each thread has a group.
    last: [AtomicU64; THREADS_MAX],
}

/// An entry is its index and then its payload.
struct Entries;

impl MessageExt for Entries {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let index = entry.get_value().first_chunk::<INDEX_LEN>().expect("each entry begins with its index");
        u64::from_le_bytes(*index)
    }
}

fn entry(index: u64, payload: &[u8]) -> BytesValue {
    let mut entry = BytesValue::new();
    entry.set_value([&index.to_le_bytes(), payload].concat());
    entry
}

fn payload_of(entry: &BytesValue) -> &[u8] {
    &entry.get_value()[INDEX_LEN..]
}

impl RaftEngine {
    fn write(&self, batch: &mut LogBatch, group: usize, payload: &[u8], sync: bool) -> Result<u64> {
        // Relaxed: one thread at a time uses a group.
        let index = self.last[group].fetch_add(1, Ordering::Relaxed) + 1;
        batch.add_entries::<Entries>(group as u64 + 1, &[entry(index, payload)])?;
        self.engine.write(batch, sync)?;
        Ok(index)
    }
}

impl Peer for RaftEngine {
    const FACTS: Facts = Facts {
        name: "raft-engine",
        // `fdatasync`: src/engine.rs, `Engine::write`.
        syncs: true,
        notes: &[
            // src/purge.rs: with less, what is retained counts as old, and is written once more.
            "for streams, what is trimmed goes once the files have half as much again as is retained, and is trimmed once for each file",
        ],
    };
    type Place = u64;

    fn open(directory: &Path) -> Result<Self> {
        let dir = directory.to_str().context("a path that is no text")?.to_owned();
        let engine = Engine::open(Config { dir, ..Config::default() })?;
        let last = std::array::from_fn(|group| AtomicU64::new(engine.last_index(group as u64 + 1).unwrap_or(0)));
        Ok(Self { engine, last })
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        let mut batch = LogBatch::default();
        for _ in 0..count {
            self.write(&mut batch, 0, payload, false)?;
        }
        Ok(())
    }

    fn commit(&self, thread: usize, payload: &[u8]) -> Result<()> {
        self.write(&mut LogBatch::default(), thread, payload, true)?;
        Ok(())
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<u64>> {
        let mut batch = LogBatch::default();
        let places: Result<Vec<u64>> = (0..count).map(|_| self.write(&mut batch, 0, payload, false)).collect();
        self.engine.sync()?;
        places
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let Self { engine, .. } = Self::open(directory)?;
        let mut entries = Vec::new();
        for group in 1..=THREADS_MAX as u64 {
            let (Some(mut from), Some(last)) = (engine.first_index(group), engine.last_index(group)) else { continue };
            while from <= last {
                let end = (from + SCAN_STEP).min(last + 1);
                engine.fetch_entries_to::<Entries>(group, from, end, None, &mut entries)?;
                entries.drain(..).for_each(|entry| seen.see(payload_of(&entry)));
                from = end;
            }
        }
        Ok(())
    }

    fn get(&mut self, places: &[u64], seen: &mut Seen) -> Result<()> {
        for &place in places {
            let entry = self.engine.get_entry::<Entries>(1, place)?.context("a record is gone")?;
            seen.see(payload_of(&entry));
        }
        Ok(())
    }
}

pub(crate) struct Stream {
    engine: Engine,
    batch: LogBatch,
    /// The index of the next entry.
    next: u64,
    oldest: u64,
}

impl peer::Stream for Stream {
    type Mark = u64;

    fn open(directory: &Path, _sync_bytes: usize) -> Result<Self> {
        let config = Config {
            dir: directory.to_str().context("a path that is no text")?.to_owned(),
            target_file_size: ReadableSize(SEGMENT_BYTES as u64),
            purge_threshold: ReadableSize(RETAINED_BYTES as u64 * 3 / 2),
            ..Config::default()
        };
        Ok(Self { engine: Engine::open(config)?, batch: LogBatch::default(), next: 1, oldest: 1 })
    }

    fn append(&mut self, records: &[&[u8]]) -> Result<()> {
        for record in records {
            self.batch.add_entries::<Entries>(GROUP, &[entry(self.next, record)])?;
            self.next += 1;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<u64> {
        self.engine.write(&mut self.batch, true)?;
        Ok(self.next)
    }

    fn trim(&mut self, before: u64) -> Result<()> {
        if before >= self.oldest + TRIMMED_RECORDS {
            self.engine.compact_to(GROUP, before);
            self.engine.purge_expired_files()?;
            self.oldest = before;
        }
        Ok(())
    }
}
