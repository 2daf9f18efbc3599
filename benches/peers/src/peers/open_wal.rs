//! open-wal: records are kept in memory until a commit writes and syncs them.

use std::path::Path;
use std::sync::Mutex;

use anyhow::Result;
use open_wal::{Lsn, Wal, WalConfig};

use crate::peer::{self, Cannot, Facts, Peer, Seen};
use crate::stream::SEGMENT_BYTES;

/// Records between two commits, when it is filled.
const BATCH: usize = 4096;

pub(crate) struct OpenWal(Mutex<Wal>);

impl Peer for OpenWal {
    const FACTS: Facts = Facts {
        name: "open-wal",
        // `fdatasync`: src/wal.rs, `Wal::commit`.
        syncs: true,
        notes: &["an append is a copy into memory, which grows until the next commit"],
    };
    type Place = Lsn;

    fn open(directory: &Path) -> Result<Self> {
        let (log, _) = Wal::open(directory, WalConfig::default())?;
        Ok(Self(Mutex::new(log)))
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        let log = self.0.get_mut().expect("no holder panics");
        for _ in 0..count {
            log.append(payload)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let mut log = self.0.lock().expect("no holder panics");
        log.append(payload)?;
        log.commit()?;
        Ok(())
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<Lsn>> {
        let log = self.0.get_mut().expect("no holder panics");
        let mut places = Vec::with_capacity(count);
        while places.len() < count {
            for _ in 0..BATCH.min(count - places.len()) {
                places.push(log.append(payload)?);
            }
            log.commit()?;
        }
        Ok(places)
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let log = Self::open(directory)?.0.into_inner().expect("no holder panics");
        let mut reader = log.reader_from(Lsn(0))?;
        while let Some(record) = reader.next() {
            let (_, payload) = record?;
            seen.see(payload);
        }
        Ok(())
    }

    fn get(&mut self, _places: &[Lsn], _seen: &mut Seen) -> Result<()> {
        // src/reader.rs, `Reader::next`.
        Err(Cannot("its reader walks from the beginning to the record").into())
    }
}

pub(crate) struct Stream(Wal);

impl peer::Stream for Stream {
    /// The last record before it.
    type Mark = Lsn;

    fn open(directory: &Path, _sync_bytes: usize) -> Result<Self> {
        let config = WalConfig { segment_size: SEGMENT_BYTES as u64, ..WalConfig::default() };
        Ok(Self(Wal::open(directory, config)?.0))
    }

    fn append(&mut self, records: &[&[u8]]) -> Result<()> {
        for record in records {
            self.0.append(record)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<Lsn> {
        Ok(self.0.commit()?)
    }

    fn trim(&mut self, before: Lsn) -> Result<()> {
        Ok(self.0.checkpoint(before)?)
    }
}
