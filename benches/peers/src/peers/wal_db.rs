//! wal-db: a file, and a `pwrite` for each record.

use std::path::Path;

use anyhow::{Context, Result};
use wal_db::{Lsn, SegmentedStore, Wal};

use crate::peer::{self, Facts, Peer, Seen};
use crate::stream::SEGMENT_BYTES;

const FILE: &str = "log.wal";

pub(crate) struct WalDb(Wal);

impl Peer for WalDb {
    const FACTS: Facts = Facts {
        name: "wal-db",
        // `fdatasync`: src/store.rs, `FileStore`.
        syncs: true,
        notes: &[
            "streams go to a log of segments, which syncs a file for each call to trim: it is called once for each segment",
        ],
    };
    type Place = Lsn;

    fn open(directory: &Path) -> Result<Self> {
        Ok(Self(Wal::open(directory.join(FILE))?))
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            let _: Lsn = self.0.append(payload)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let _: Lsn = self.0.append_and_sync(payload)?;
        Ok(())
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<Lsn>> {
        let places: Result<Vec<Lsn>> = (0..count).map(|_| Ok(self.0.append(payload)?)).collect();
        self.0.sync()?;
        places
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let log = Self::open(directory)?;
        for record in log.0.iter()? {
            seen.see(record?.data());
        }
        Ok(())
    }

    fn get(&mut self, places: &[Lsn], seen: &mut Seen) -> Result<()> {
        for &place in places {
            seen.see(self.0.iter_from(place)?.next().context("a record is gone")??.data());
        }
        Ok(())
    }
}

pub(crate) struct Stream {
    log: Wal<SegmentedStore>,
    /// Where the oldest segment begins that is there.
    oldest: u64,
}

impl peer::Stream for Stream {
    type Mark = u64;

    fn open(directory: &Path, _sync_bytes: usize) -> Result<Self> {
        Ok(Self { log: Wal::open_segmented(directory, SEGMENT_BYTES as u64)?, oldest: 0 })
    }

    fn append(&mut self, records: &[&[u8]]) -> Result<()> {
        for record in records {
            let _: Lsn = self.log.append(record)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<u64> {
        self.log.sync()?;
        Ok(self.log.len())
    }

    fn trim(&mut self, before: u64) -> Result<()> {
        if before >= self.oldest + SEGMENT_BYTES as u64 {
            let _: Lsn = self.log.truncate_before(Lsn::new(before))?;
            self.oldest = before - before % SEGMENT_BYTES as u64;
        }
        Ok(())
    }
}
