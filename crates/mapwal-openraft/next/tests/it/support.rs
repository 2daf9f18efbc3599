//! The types of the tests.

#[path = "../../../tests/it/support/logs.rs"]
mod logs;

use std::fmt;

use bytes::Bytes;
use mapwal_openraft::{InPlace, LogStore};
use openraft::EntryPayload;
use openraft::alias::{EntryOf, LeaderIdOf, LogIdOf};

pub(crate) use logs::{open_in, open_on};

/// Data that is shown, as openraft wants it by now.
#[derive(Debug, Clone)]
pub struct Data(Bytes);

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

openraft::declare_raft_types!(pub(crate) Types: D = Data, R = ());

pub(crate) type Store = LogStore<Types, InPlace>;
pub(crate) type Entry = EntryOf<Types>;
pub(crate) type Id = LogIdOf<Types>;

pub(crate) fn id(term: u64, index: u64) -> Id {
    Id::new(LeaderIdOf::<Types> { term, node_id: 7 }, index)
}

/// Entries with these indices, each with data that says which one it is.
pub(crate) fn entries(term: u64, indices: impl IntoIterator<Item = u64>) -> Vec<Entry> {
    let data = |index: u64| Data(format!("{term}:{index}").into());
    let entry = |index| Entry { log_id: id(term, index), payload: EntryPayload::Normal(data(index)) };
    indices.into_iter().map(entry).collect()
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(future)
}
