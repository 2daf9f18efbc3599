//! What openraft 0.10 asks of a store.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use crate::aside::aside;
use crate::codec::Codec;
use crate::error::Error;
use crate::raft::{LogIdOf, RaftTypeConfig, Vote};
use crate::read::indices;
use crate::store::LogStore;

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Log(error) => error.into(),
            error => Self::other(error),
        }
    }
}

impl<C: RaftTypeConfig, K: Codec<C>> RaftLogReader<C> for LogStore<C, K> {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<C::Entry>> {
        let (start, end) = indices(&range);
        Ok(self.inner.read(start, end, usize::MAX)?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<C::Entry>> {
        Ok(self.inner.read(start, end, self.read_bytes_max)?)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote<C>>> {
        Ok(self.inner.vote()?)
    }
}

impl<C: RaftTypeConfig, K: Codec<C>> RaftLogStorage<C> for LogStore<C, K> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<C>> {
        let (last_purged_log_id, last_log_id) = self.inner.state()?;
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<C>) -> io::Result<()> {
        let mark = self.inner.put_vote(vote)?;
        Ok(self.inner.log.durable(mark).await?)
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<C>>) -> io::Result<()> {
        Ok(self.inner.put_committed(committed.as_ref())?)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<C>>> {
        Ok(self.inner.committed()?)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<C::Entry> = entries.into_iter().collect();
        let Some(mark) = self.inner.append(&entries)? else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        let complete = move |outcome: mapwal::Result<()>| callback.io_completed(outcome.map_err(io::Error::from));
        Ok(self.inner.log.on_durable(mark, complete)?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogIdOf<C>>) -> io::Result<()> {
        // Appends may be under way, which 0.9 never has here. What they append must not be gone before it is durable: their callbacks would be told so, and
        // the raft would take that for the failure of the storage.
        self.inner.log.durable(self.inner.log.mark()).await?;
        let inner = Arc::clone(&self.inner);
        let index = last_log_id.map_or(0, |last| last.index.saturating_add(1));
        Ok(aside::<C>(move || inner.truncate(index)).await?)
    }

    async fn purge(&mut self, log_id: LogIdOf<C>) -> io::Result<()> {
        let inner = Arc::clone(&self.inner);
        Ok(aside::<C>(move || inner.purge(log_id)).await?)
    }
}
