//! sharded-log: eight files, each with a buffer of 512 KiB.

use std::path::Path;

use anyhow::Result;
use sharded_log::{Config, ShardedLog};

use crate::peer::{Facts, Peer, Seen};

pub(crate) struct Sharded(ShardedLog);

fn config(directory: &Path) -> Config {
    Config { path: directory.to_owned(), ..Config::default() }
}

impl Peer for Sharded {
    const FACTS: Facts = Facts {
        name: "sharded-log",
        // `sync_all`: src/lib.rs, `ShardedLog::flush`.
        syncs: true,
        notes: &["cannot append to a log that is there: it is recovered and then deleted"],
    };
    type Place = ();

    fn open(directory: &Path) -> Result<Self> {
        Ok(Self(config(directory).create()?))
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.0.write_batch(&[payload])?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.0.write_batch(&[payload])?;
        Ok(self.0.flush()?)
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<()>> {
        self.append(payload, count)?;
        self.0.flush()?;
        Ok(vec![(); count])
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        for batch in config(directory).recover()? {
            for record in &batch {
                seen.see(record);
            }
        }
        Ok(())
    }
}
