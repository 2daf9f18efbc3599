//! The logs that are measured, one file for each.

mod aegis_storage;
mod commitlog;
mod khata;
mod logdb;
mod mapwal;
mod okaywal;
mod open_wal;
mod raft_engine;
mod seglog;
mod sharded_log;
mod wal_db;
mod writeahead;

use std::path::Path;

use anyhow::Result;

use crate::peer::{Facts, Peer};
use crate::task::{self, Outcome, Task};

/// A log, whichever it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) facts: Facts,
    /// Does a task in this process.
    pub(crate) run: fn(&Path, &Task) -> Result<Outcome>,
}

impl Entry {
    const fn of<P: Peer>() -> Self {
        Self { facts: P::FACTS, run: task::run::<P> }
    }
}

/// All of them; the first is what the others are compared with.
pub(crate) const ALL: [Entry; 12] = [
    Entry::of::<mapwal::Mapwal>(),
    Entry::of::<seglog::Seglog>(),
    Entry::of::<logdb::Logdb>(),
    Entry::of::<sharded_log::Sharded>(),
    Entry::of::<khata::Khata>(),
    Entry::of::<raft_engine::RaftEngine>(),
    Entry::of::<okaywal::Okay>(),
    Entry::of::<writeahead::WriteAheadLog>(),
    Entry::of::<wal_db::WalDb>(),
    Entry::of::<open_wal::OpenWal>(),
    Entry::of::<commitlog::Commitlog>(),
    Entry::of::<aegis_storage::Aegis>(),
];
