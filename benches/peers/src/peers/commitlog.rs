//! commitlog: a write for each record, and a mapped index.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use commitlog::message::MessageSet;
use commitlog::{CommitLog, LogOptions, Offset, ReadLimit};

use crate::peer::{Facts, Peer, Seen};

/// How much one call reads.
const SCAN_STEP: usize = 1 << 20;
/// Room for one record of 128 bytes, and not for two.
const ONE_RECORD: usize = 200;

pub(crate) struct Commitlog(Mutex<CommitLog>);

impl Commitlog {
    fn log(&mut self) -> &mut CommitLog {
        self.0.get_mut().expect("no holder panics")
    }
}

impl Peer for Commitlog {
    const FACTS: Facts = Facts {
        name: "commitlog",
        // `File::flush`, which does nothing: src/segment.rs, `flush_sync`. Only whole pages of the index are synced.
        syncs: false,
        notes: &[],
    };
    type Place = Offset;

    fn open(directory: &Path) -> Result<Self> {
        Ok(Self(Mutex::new(CommitLog::new(LogOptions::new(directory))?)))
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        let log = self.log();
        for _ in 0..count {
            log.append_msg(payload)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let mut log = self.0.lock().expect("no holder panics");
        log.append_msg(payload)?;
        Ok(log.flush()?)
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<Offset>> {
        let log = self.log();
        let places: Result<Vec<Offset>> = (0..count).map(|_| Ok(log.append_msg(payload)?)).collect();
        log.flush()?;
        places
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let log = Self::open(directory)?.0.into_inner().expect("no holder panics");
        let mut from = 0;
        while from < log.next_offset() {
            let messages = log.read(from, ReadLimit::max_bytes(SCAN_STEP))?;
            messages.iter().for_each(|message| seen.see(message.payload()));
            from = messages.iter().last().context("it reads nothing before its end")?.offset() + 1;
        }
        Ok(())
    }

    fn get(&mut self, places: &[Offset], seen: &mut Seen) -> Result<()> {
        let log = self.log();
        for &place in places {
            let messages = log.read(place, ReadLimit::max_bytes(ONE_RECORD))?;
            seen.see(messages.iter().next().context("a record is gone")?.payload());
        }
        Ok(())
    }
}
