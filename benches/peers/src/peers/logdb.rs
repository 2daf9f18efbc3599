//! logdb: a ring in memory, emptied into files by a thread.

use std::path::Path;

use anyhow::{Context, Result};
use logdb::{Config, LogDb};

use crate::peer::{Facts, Peer, Seen};

pub(crate) struct Logdb(LogDb);

impl Peer for Logdb {
    const FACTS: Facts = Facts {
        name: "logdb",
        // `fdatasync`: src/storage/mod.rs, `SegmentManager::sync_all`.
        syncs: true,
        notes: &[],
    };
    type Place = u64;

    fn open(directory: &Path) -> Result<Self> {
        Ok(Self(LogDb::open(Config { data_dir: directory.to_owned(), ..Config::default() })?))
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.0.append(payload)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.0.append(payload)?;
        Ok(self.0.flush()?)
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<u64>> {
        let places: Result<Vec<u64>> = (0..count).map(|_| Ok(self.0.append(payload)?)).collect();
        self.0.flush()?;
        places
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let log = Self::open(directory)?;
        for record in log.0.replay_from(0)? {
            seen.see(&record?.content);
        }
        Ok(())
    }

    fn get(&mut self, places: &[u64], seen: &mut Seen) -> Result<()> {
        for &place in places {
            seen.see(&self.0.read(place)?.context("a record is gone")?.content);
        }
        Ok(())
    }
}
