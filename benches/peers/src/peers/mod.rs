//! The logs that are measured, one file for each.

mod aegis_storage;
mod bare;
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

use anyhow::{Context, Result};

use crate::peer::{Cannot, Facts, Peer, Stream};
use crate::stream::{self, Amount};
use crate::task::{self, Outcome, Task};

/// A log, whichever it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) facts: Facts,
    /// Does a task in this process. None for a file alone, which is no log.
    run: Option<fn(&Path, &Task) -> Result<Outcome>>,
    /// Streams to it in this process. None where that is not measured.
    stream: Option<fn(&Path, Amount) -> Result<Outcome>>,
}

impl Entry {
    const fn of<P: Peer>() -> Self {
        Self { facts: P::FACTS, run: Some(task::run::<P>), stream: None }
    }

    const fn streaming<S: Stream>(self) -> Self {
        Self { stream: Some(stream::run::<S>), ..self }
    }

    /// What streams are measured beside.
    const fn limit<S: Stream>(name: &'static str) -> Self {
        let facts = Facts { name, syncs: true, notes: &[] };
        Self { facts, run: None, stream: Some(stream::run::<S>) }
    }

    pub(crate) fn is_log(&self) -> bool {
        self.run.is_some()
    }

    pub(crate) fn streams(&self) -> bool {
        self.stream.is_some()
    }

    /// Does `task` in this process.
    pub(crate) fn run(&self, directory: &Path, task: &Task) -> Result<Outcome> {
        let outcome = match *task {
            Task::Stream(amount) => self.stream.context("streams to it are not measured")?(directory, amount),
            _ => self.run.context("it is no log")?(directory, task),
        };
        outcome.or_else(|error| match error.downcast_ref::<Cannot>() {
            Some(cannot) => Ok(Outcome::Cannot(cannot.to_string())),
            None => Err(error),
        })
    }
}

/// All of them; the first is what the others are compared with.
pub(crate) const ALL: [Entry; 14] = [
    Entry::of::<mapwal::Mapwal>().streaming::<mapwal::Stream>(),
    Entry::limit::<bare::Grow>("grow"),
    Entry::limit::<bare::Reuse>("reuse"),
    Entry::of::<seglog::Seglog>().streaming::<seglog::Stream>(),
    Entry::of::<logdb::Logdb>(),
    Entry::of::<sharded_log::Sharded>(),
    Entry::of::<khata::Khata>(),
    Entry::of::<raft_engine::RaftEngine>().streaming::<raft_engine::Stream>(),
    Entry::of::<okaywal::Okay>().streaming::<okaywal::Stream>(),
    Entry::of::<writeahead::WriteAheadLog>(),
    Entry::of::<wal_db::WalDb>().streaming::<wal_db::Stream>(),
    Entry::of::<open_wal::OpenWal>().streaming::<open_wal::Stream>(),
    Entry::of::<commitlog::Commitlog>(),
    Entry::of::<aegis_storage::Aegis>(),
];
