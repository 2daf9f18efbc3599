//! databend's `raft-log` as a store for openraft, in the shape in which mapwal-openraft is one.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use codeq::{Decode, Encode};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{
    AnyError, CommittedLeaderId, Entry, EntryPayload, LogId, RaftLogReader, StorageError, StorageIOError, Vote,
};
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::{Config, RaftLog};

use crate::Types;

/// Application's data. The other kinds of entries are not measured, and not stored.
#[derive(Debug, Clone)]
pub(crate) struct Data(Bytes);

impl Encode for Data {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let len = u32::try_from(self.0.len()).map_err(io::Error::other)?;
        let head = len.encode(&mut writer)?;
        writer.write_all(&self.0)?;
        Ok(head + self.0.len())
    }
}

impl Decode for Data {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let len = u32::decode(&mut reader)?;
        let mut bytes = vec![0; len as usize];
        reader.read_exact(&mut bytes)?;
        Ok(Self(bytes.into()))
    }
}

/// Is told when a sync has ended.
pub(crate) enum Done {
    Append(LogFlushed<Types>),
    Call(std::sync::mpsc::SyncSender<io::Result<()>>),
}

impl raft_log::Callback for Done {
    fn send(self, outcome: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.log_io_completed(outcome),
            Self::Call(sender) => drop(std::sync::mpsc::SyncSender::send(&sender, outcome)),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PeerTypes;

/// Term, node, and index.
type Id = (u64, (u64, u64));

impl raft_log::Types for PeerTypes {
    type LogId = Id;
    type LogPayload = Data;
    /// Term, node, and whether it is committed.
    type Vote = (u64, (u64, bool));
    type Callback = Done;
    type UserData = ();

    fn log_index(log_id: &Id) -> u64 {
        log_id.1.1
    }

    fn payload_size(payload: &Data) -> u64 {
        payload.0.len() as u64
    }
}

#[derive(Clone)]
pub(crate) struct PeerStore(Arc<RwLock<RaftLog<PeerTypes>>>);

fn id_of(id: Id) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(id.0, id.1.0), id.1.1)
}

fn stored(id: &LogId<u64>) -> Id {
    (id.leader_id.term, (id.leader_id.node_id, id.index))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn write_error(error: io::Error) -> StorageError<u64> {
    StorageIOError::write_logs(AnyError::new(&error)).into()
}

impl PeerStore {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let log = RaftLog::open(Arc::new(Config::new(directory.display())))?;
        Ok(Self(Arc::new(RwLock::new(log))))
    }

    fn read(&self) -> RwLockReadGuard<'_, RaftLog<PeerTypes>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, RaftLog<PeerTypes>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&self) -> io::Result<()> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.write().flush(true, Some(Done::Call(sender)))?;
        receiver.recv().map_err(io::Error::other)?
    }
}

impl RaftLogReader<Types> for PeerStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, StorageError<u64>> {
        let start = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&index) => index + 1,
            Bound::Excluded(&index) => index,
            Bound::Unbounded => u64::MAX,
        };
        let log = self.read();
        let entries = log.read(start, end).map(|entry| {
            let (id, Data(data)) = entry?;
            Ok(Entry { log_id: id_of(id), payload: EntryPayload::Normal(data) })
        });
        entries.collect::<io::Result<_>>().map_err(|error| StorageIOError::read_logs(AnyError::new(&error)).into())
    }
}

impl RaftLogStorage<Types> for PeerStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<u64>> {
        let log = self.read();
        let state = log.log_state();
        let id = |id: Option<&Id>| id.copied().map(id_of);
        Ok(LogState { last_purged_log_id: id(state.purged()), last_log_id: id(state.last()) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let stored = (vote.leader_id.term, (vote.leader_id.node_id, vote.committed));
        self.write().save_vote(stored).map_err(write_error)?;
        self.sync().map_err(write_error)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        let vote = self.read().log_state().vote().copied();
        Ok(vote.map(|(term, (node, committed))| {
            let vote = Vote::new(term, node);
            Vote { committed, ..vote }
        }))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let entries = entries.into_iter().map(|entry| {
            let data = match entry.payload {
                EntryPayload::Normal(data) => data,
                EntryPayload::Blank | EntryPayload::Membership(_) => Bytes::new(),
            };
            (stored(&entry.log_id), Data(data))
        });
        let mut log = self.write();
        log.append(entries).map_err(write_error)?;
        log.flush(true, Some(Done::Append(callback))).map_err(write_error)
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.write().truncate(log_id.index).map(drop).map_err(write_error)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        self.write().purge(stored(&log_id)).map_err(write_error)?;
        self.sync().map_err(write_error)
    }
}
