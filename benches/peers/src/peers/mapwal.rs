//! mapwal, of this repository.

use std::path::Path;

use anyhow::{Context, Result};
use mapwal::{Log, Lsn, Options};

use crate::peer::{self, Facts, Peer, Seen};
use crate::stream::SEGMENT_BYTES;

pub(crate) struct Mapwal(Log);

impl Peer for Mapwal {
    const FACTS: Facts = Facts {
        name: "mapwal",
        // `msync`: docs/design/durability.md.
        syncs: true,
        notes: &[],
    };
    type Place = Lsn;

    fn open(directory: &Path) -> Result<Self> {
        // SAFETY: the directory was made for this process, is local, and only this log writes to it.
        Ok(Self(unsafe { Log::open(directory, &Options::new()) }?))
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.0.append(1, payload)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let lsn = self.0.append(1, payload)?;
        Ok(self.0.wait_durable(lsn)?)
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<Lsn>> {
        let places: Result<Vec<Lsn>> = (0..count).map(|_| Ok(self.0.append(1, payload)?)).collect();
        self.0.sync()?;
        places
    }

    fn close(self) -> Result<()> {
        Ok(self.0.close()?)
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let log = Self::open(directory)?;
        for record in &log.0.snapshot()? {
            seen.see(record?.payload());
        }
        // Else the next one recovers it.
        log.close()
    }

    fn get(&mut self, places: &[Lsn], seen: &mut Seen) -> Result<()> {
        for &place in places {
            seen.see(self.0.get(place)?.context("a record is gone")?.payload());
        }
        Ok(())
    }
}

pub(crate) struct Stream(Log);

impl peer::Stream for Stream {
    type Mark = Lsn;

    fn open(directory: &Path, _sync_bytes: usize) -> Result<Self> {
        let options = Options::new().segment_size_bytes(SEGMENT_BYTES as u64);
        // SAFETY: the directory was made for this process, is local, and only this log writes to it.
        Ok(Self(unsafe { Log::open(directory, &options) }?))
    }

    fn append(&mut self, records: &[&[u8]]) -> Result<()> {
        for record in records {
            self.0.append(1, record)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<Lsn> {
        self.0.sync()?;
        Ok(self.0.durable_lsn().next())
    }

    fn trim(&mut self, before: Lsn) -> Result<()> {
        self.0.trim_before(before)?;
        Ok(())
    }
}
