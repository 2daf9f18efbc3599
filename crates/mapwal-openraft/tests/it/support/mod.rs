//! The types of the tests, and short ways to call a store.

mod logs;
pub(crate) mod machine;

use std::future::Future;
use std::io::Cursor;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use mapwal_openraft::{InPlace, LogStore};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{CommittedLeaderId, EntryPayload, LogId, RaftLogReader, StorageError};

pub(crate) use logs::{open, open_in, open_on, options};

openraft::declare_raft_types!(pub(crate) Types: D = Bytes, R = ());

pub(crate) type Store = LogStore<Types, InPlace>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type Id = LogId<u64>;
pub(crate) type Outcome<T = ()> = Result<T, StorageError<u64>>;

pub(crate) fn id(term: u64, index: u64) -> Id {
    LogId::new(CommittedLeaderId::new(term, 7), index)
}

/// An entry whose data says which one it is, `len` bytes in all if that is more.
pub(crate) fn entry(term: u64, index: u64, len: usize) -> Entry {
    let mut data = format!("{term}:{index} ").into_bytes();
    while data.len() < len {
        data.push((data.len() as u64 ^ index) as u8);
    }
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(data.into()) }
}

/// Entries with these indices.
pub(crate) fn entries(term: u64, indices: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    indices.into_iter().map(|index| entry(term, index, 20)).collect()
}

/// Appends, and waits for the callback.
pub(crate) fn append(store: &mut Store, entries: Vec<Entry>) -> Outcome {
    run(store.blocking_append(entries))
}

pub(crate) fn read(store: &mut Store) -> Outcome<Vec<Entry>> {
    run(store.try_get_log_entries(..))
}

/// The last purged id and the last id.
pub(crate) fn state(store: &mut Store) -> (Option<Id>, Option<Id>) {
    let state = run(store.get_log_state()).expect("known");
    (state.last_purged_log_id, state.last_log_id)
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

/// Begins `future`: what it does before it waits has been done.
pub(crate) fn begin<T>(mut future: std::pin::Pin<Box<dyn Future<Output = T> + Send>>) -> Begun<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Begun::Over(outcome),
        Poll::Pending => Begun::Waits(future),
    }
}

pub(crate) enum Begun<T> {
    Over(T),
    Waits(std::pin::Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T> Begun<T> {
    pub(crate) fn wait(self) -> T {
        match self {
            Self::Over(outcome) => outcome,
            Self::Waits(future) => run(pin!(future)),
        }
    }
}

/// Appends; the outcome is the callback's.
pub(crate) fn begin_append(store: &Store, entries: Vec<Entry>) -> Begun<Outcome> {
    let mut store = store.clone();
    begin(Box::pin(async move { store.blocking_append(entries).await }))
}
