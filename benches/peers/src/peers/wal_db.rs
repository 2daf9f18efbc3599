//! wal-db: a file, and a `pwrite` for each record.

use std::path::Path;

use anyhow::{Context, Result};
use wal_db::{Lsn, Wal};

use crate::peer::{Facts, Peer, Seen};

const FILE: &str = "log.wal";

pub(crate) struct WalDb(Wal);

impl Peer for WalDb {
    const FACTS: Facts = Facts {
        name: "wal-db",
        // `fdatasync`: src/store.rs, `FileStore`.
        syncs: true,
        notes: &[],
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
