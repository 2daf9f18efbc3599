//! What openraft wants of an application beside a log store: a state machine, and a network.

use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use openraft::error::{InstallSnapshotError, RPCError, RaftError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, BasicNode, Entry, EntryPayload, LogId, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};

openraft::declare_raft_types!(pub Types: D = Bytes, R = usize);

type Id = LogId<u64>;
type Members = StoredMembership<u64, BasicNode>;
type Meta = SnapshotMeta<u64, BasicNode>;
type Outcome<T = ()> = Result<T, StorageError<u64>>;
type Answer<T, E = RaftError<u64>> = Result<T, RPCError<u64, BasicNode, E>>;

#[derive(Clone, Default)]
struct State {
    lines: usize,
    applied: Option<Id>,
    members: Members,
}

/// How many lines there are. It is in memory alone: with the log as a whole, a start finds it again.
#[derive(Clone, Default)]
pub struct Machine(Arc<Mutex<State>>);

impl Machine {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn apply(&mut self, entry: Entry<Types>) -> usize {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Normal(_line) => self.lines += 1,
            EntryPayload::Membership(members) => self.members = Members::new(self.applied, members),
            EntryPayload::Blank => {}
        }
        self.lines
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Outcome<(Option<Id>, Members)> {
        Ok(self.change(|state| (state.applied, state.members.clone())))
    }

    async fn apply<I>(&mut self, entries: I) -> Outcome<Vec<usize>>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        Ok(self.change(|state| entries.into_iter().map(|entry| state.apply(entry)).collect()))
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Outcome<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Cursor<Vec<u8>>>) -> Outcome {
        let lines = serde_json::from_slice(snapshot.get_ref());
        let lines = lines.map_err(|error| StorageIOError::read(AnyError::new(&error)))?;
        let (applied, members) = (meta.last_log_id, meta.last_membership.clone());
        self.change(|state| *state = State { lines, applied, members });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Outcome<Option<Snapshot<Types>>> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Outcome<Snapshot<Types>> {
        let State { lines, applied, members } = self.change(|state| state.clone());
        let meta = Meta { last_log_id: applied, last_membership: members, snapshot_id: lines.to_string() };
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(lines.to_string().into_bytes())) })
    }
}

/// The other nodes: there are none.
pub struct Nobody;

impl RaftNetworkFactory<Types> for Nobody {
    type Network = Self;

    async fn new_client(&mut self, _node: u64, _address: &BasicNode) -> Self {
        Self
    }
}

impl RaftNetwork<Types> for Nobody {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>> {
        unreachable!("the node is alone")
    }

    async fn install_snapshot(
        &mut self,
        _request: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Answer<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        unreachable!("the node is alone")
    }

    async fn vote(&mut self, _request: VoteRequest<u64>, _option: RPCOption) -> Answer<VoteResponse<u64>> {
        unreachable!("the node is alone")
    }
}
