//! The log store as a node has it: each call is that of `mapwal-openraft`'s, but for one, and for the planted mistakes.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;

use mapwal_openraft::{InPlace, LogStore};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftLogStorageExt};
use openraft::{Entry, OptionalSend, RaftLogReader, StorageIOError, Vote};

use crate::Flaw;
use crate::types::{Id, Stored, Types};

/// Where a store has its vote and what it has purged: `docs/design/raft.md`.
const VOTE: usize = 1;
const PURGED: usize = 2;

type Inner = LogStore<Types, InPlace>;

#[derive(Clone)]
pub(super) struct Store {
    pub(super) id: u64,
    pub(super) inner: Inner,
    pub(super) flaw: Option<Flaw>,
}

impl Store {
    /// Puts metadata that nothing waits for.
    fn put(&self, slot: usize, bytes: &[u8]) -> mapwal::Result<()> {
        self.inner.log().put_meta(slot, bytes).map(drop)
    }
}

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Stored<Vec<Entry<Types>>> {
        self.inner.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Stored<Vec<Entry<Types>>> {
        self.inner.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Inner;

    async fn get_log_state(&mut self) -> Stored<LogState<Types>> {
        self.inner.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Inner {
        self.inner.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Stored {
        if self.flaw != Some(Flaw::VoteNotSynced) {
            return self.inner.save_vote(vote).await;
        }
        // As the store does it, but for the waiting.
        let id = vote.leader_id();
        let flags = u8::from(vote.is_committed()) | u8::from(id.voted_for().is_some()) << 1;
        let mut bytes = [&id.get_term().to_le_bytes()[..], &[flags]].concat();
        bytes.extend(id.voted_for().into_iter().flat_map(u64::to_le_bytes));
        self.put(VOTE, &bytes).map_err(|error| StorageIOError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<u64>>> {
        // openraft 0.9 asks once, at its start, and has a leader go on as one. But such a leader may not know of all that was committed, which
        // nobody waits for, and would answer reads with less. So it stands for election, and begins with an entry of its own.
        let vote = self.inner.read_vote().await?;
        let is_own = |vote: &Vote<u64>| vote.leader_id().voted_for() == Some(self.id);
        Ok(vote.map(|vote| if is_own(&vote) { Vote::new(vote.leader_id().get_term(), self.id) } else { vote }))
    }

    async fn save_committed(&mut self, committed: Option<Id>) -> Stored {
        self.inner.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Stored<Option<Id>> {
        self.inner.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Stored
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        if self.flaw != Some(Flaw::AckBeforeSync) {
            return self.inner.append(entries, callback).await;
        }
        let mut store = self.inner.clone();
        let entries: Vec<_> = entries.into_iter().collect();
        let expected = store.log().next_lsn().0 + entries.len() as u64;
        let appended = tokio::spawn(async move { store.blocking_append(entries).await });
        while self.inner.log().next_lsn().0 < expected && !appended.is_finished() {
            tokio::task::yield_now().await;
        }
        callback.log_io_completed(Ok::<(), io::Error>(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: Id) -> Stored {
        self.inner.truncate(log_id).await
    }

    async fn purge(&mut self, log_id: Id) -> Stored {
        let before = self.inner.log().meta(PURGED).unwrap_or_default();
        self.inner.purge(log_id).await?;
        if self.flaw == Some(Flaw::PurgeForgetsId) {
            self.put(PURGED, &before).map_err(|error| StorageIOError::write_logs(&error))?;
        }
        Ok(())
    }
}
