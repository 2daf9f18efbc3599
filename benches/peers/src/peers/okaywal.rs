//! okaywal: files of 1 MiB that are used again once they are checkpointed.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use anyhow::{Context, Result};
use okaywal::WriteAheadLog;
use okaywal::{
    Configuration, Entry, EntryId, EntryWriter, LogManager, LogPosition, LogVoid, ReadChunkResult, SegmentReader,
};

use crate::peer::{self, Facts, Peer, Seen};
use crate::stream::SEGMENT_BYTES;

/// Above what any measurement writes, so that nothing is recycled that is to be read.
const KEEP_BYTES: u64 = 1 << 30;
/// Chunks in an entry, when it is filled.
const CHUNKS: usize = 1000;

pub(crate) struct Okay(WriteAheadLog);

fn keeping(directory: &Path) -> Configuration {
    Configuration::default_for(directory).checkpoint_after_bytes(KEEP_BYTES)
}

impl Peer for Okay {
    const FACTS: Facts = Facts {
        name: "okaywal",
        // `sync_data`: src/log_file.rs, `LogFile::synchronize_locked`.
        syncs: true,
        notes: &[
            "for reading, an entry of 1000 chunks stands for as many records, and nothing is recycled",
            "in streams, all records of a sync are chunks of an entry",
        ],
    };
    type Place = (LogPosition, u32);

    fn open(directory: &Path) -> Result<Self> {
        Ok(Self(Configuration::default_for(directory).open(LogVoid)?))
    }

    fn open_to_keep(directory: &Path) -> Result<Self> {
        Ok(Self(keeping(directory).open(LogVoid)?))
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(payload)?;
        entry.commit()?;
        Ok(())
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<Self::Place>> {
        let mut places = Vec::with_capacity(count);
        while places.len() < count {
            let mut entry = self.0.begin_entry()?;
            for _ in 0..CHUNKS.min(count - places.len()) {
                let chunk = entry.write_chunk(payload)?;
                places.push((chunk.position, chunk.length));
            }
            entry.commit()?;
        }
        Ok(places)
    }

    fn close(self) -> Result<()> {
        Ok(self.0.shutdown()?)
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let shown = Arc::new(Mutex::new(seen.clone()));
        let log = keeping(directory).open(Show(Arc::clone(&shown)));
        *seen = shown.lock().ok().context("it panicked while it showed its entries")?.clone();
        log?;
        Ok(())
    }

    fn get(&mut self, places: &[Self::Place], seen: &mut Seen) -> Result<()> {
        let mut payload = Vec::new();
        for &(position, len) in places {
            payload.resize(len as usize, 0);
            self.0.read_at(position)?.read_exact(&mut payload)?;
            seen.see(&payload);
        }
        Ok(())
    }
}

/// Is shown what a log has when it is opened.
#[derive(Debug)]
struct Show(Arc<Mutex<Seen>>);

impl LogManager for Show {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let mut seen = self.0.lock().expect("no holder panics");
        while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
            let payload = chunk.read_all()?;
            if !chunk.check_crc()? {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "crc check failed"));
            }
            seen.see(&payload);
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _last: EntryId, _entries: &mut SegmentReader, _log: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct Stream {
    /// Never dropped, as an entry refers to it.
    log: &'static WriteAheadLog,
    entry: Option<EntryWriter<'static>>,
    trimmed: Arc<Trimmed>,
}

impl peer::Stream for Stream {
    /// The last entry before it.
    type Mark = EntryId;

    fn open(directory: &Path, _sync_bytes: usize) -> Result<Self> {
        // The same share of a file as by default.
        let config = Configuration::default_for(directory)
            .preallocate_bytes(SEGMENT_BYTES as u32)
            .checkpoint_after_bytes(SEGMENT_BYTES as u64 / 4 * 3);
        let trimmed = Arc::new(Trimmed::default());
        let log = Box::leak(Box::new(config.open(Keep(Arc::clone(&trimmed)))?));
        Ok(Self { log, entry: None, trimmed })
    }

    fn append(&mut self, records: &[&[u8]]) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        for record in records {
            entry.write_chunk(record)?;
        }
        self.entry = Some(entry);
        Ok(())
    }

    fn sync(&mut self) -> Result<EntryId> {
        Ok(self.entry.take().context("nothing was appended")?.commit()?)
    }

    fn trim(&mut self, before: EntryId) -> Result<()> {
        *self.trimmed.entry.lock().expect("no holder panics") = before;
        self.trimmed.grows.notify_one();
        Ok(())
    }
}

/// Which entries are let go.
#[derive(Debug, Default)]
struct Trimmed {
    entry: Mutex<EntryId>,
    grows: Condvar,
}

/// Has a file used again once all of it is trimmed.
#[derive(Debug)]
struct Keep(Arc<Trimmed>);

impl LogManager for Keep {
    fn recover(&mut self, _entry: &mut Entry<'_>) -> io::Result<()> {
        Ok(())
    }

    fn checkpoint_to(&mut self, last: EntryId, _entries: &mut SegmentReader, _log: &WriteAheadLog) -> io::Result<()> {
        let trimmed = self.0.entry.lock().expect("no holder panics");
        let _trimmed = self.0.grows.wait_while(trimmed, |trimmed| *trimmed < last).expect("no holder panics");
        Ok(())
    }
}
