//! What openraft asks of a store.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{
    AnyError, LogId, NodeId, OptionalSend, RaftLogReader, RaftTypeConfig, StorageError, StorageIOError, Vote,
};

use crate::aside::aside;
use crate::codec::Codec;
use crate::error::Error;
use crate::read::indices;
use crate::store::LogStore;

impl Error {
    pub(crate) fn read_logs<N: NodeId>(self) -> StorageError<N> {
        StorageIOError::read_logs(AnyError::new(&self)).into()
    }

    pub(crate) fn write_logs<N: NodeId>(self) -> StorageError<N> {
        StorageIOError::write_logs(AnyError::new(&self)).into()
    }

    pub(crate) fn read_vote<N: NodeId>(self) -> StorageError<N> {
        StorageIOError::read_vote(AnyError::new(&self)).into()
    }

    pub(crate) fn write_vote<N: NodeId>(self) -> StorageError<N> {
        StorageIOError::write_vote(AnyError::new(&self)).into()
    }
}

impl<C: RaftTypeConfig, K: Codec<C>> RaftLogReader<C> for LogStore<C, K> {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<C::Entry>, StorageError<C::NodeId>> {
        let (start, end) = indices(&range);
        self.inner.read(start, end, usize::MAX).map_err(Error::read_logs)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<C::Entry>, StorageError<C::NodeId>> {
        self.inner.read(start, end, self.read_bytes_max).map_err(Error::read_logs)
    }
}

impl<C: RaftTypeConfig, K: Codec<C>> RaftLogStorage<C> for LogStore<C, K> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError<C::NodeId>> {
        let (last_purged_log_id, last_log_id) = self.inner.state().map_err(Error::read_logs)?;
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let mark = self.inner.put_vote(vote).map_err(Error::write_vote)?;
        let durable = self.inner.log.durable(mark).await;
        durable.map_err(|error| Error::from(error).write_vote())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<C::NodeId>>, StorageError<C::NodeId>> {
        self.inner.vote().map_err(Error::read_vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId<C::NodeId>>) -> Result<(), StorageError<C::NodeId>> {
        self.inner.put_committed(committed.as_ref()).map_err(Error::write_logs)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<C::NodeId>>, StorageError<C::NodeId>> {
        self.inner.committed().map_err(Error::read_logs)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<C>) -> Result<(), StorageError<C::NodeId>>
    where
        I: IntoIterator<Item = C::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<C::Entry> = entries.into_iter().collect();
        let Some(mark) = self.inner.append(&entries).map_err(Error::write_logs)? else {
            callback.log_io_completed(Ok(()));
            return Ok(());
        };
        let complete = move |outcome: mapwal::Result<()>| callback.log_io_completed(outcome.map_err(io::Error::from));
        self.inner.log.on_durable(mark, complete).map_err(|error| Error::from(error).write_logs())
    }

    async fn truncate(&mut self, log_id: LogId<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let inner = Arc::clone(&self.inner);
        aside::<C>(move || inner.truncate(log_id.index)).await.map_err(Error::write_logs)
    }

    async fn purge(&mut self, log_id: LogId<C::NodeId>) -> Result<(), StorageError<C::NodeId>> {
        let inner = Arc::clone(&self.inner);
        aside::<C>(move || inner.purge(log_id)).await.map_err(Error::write_logs)
    }
}
