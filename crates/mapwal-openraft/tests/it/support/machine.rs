//! A state machine that remembers what was applied, for openraft's suite.

use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{BasicNode, EntryPayload, RaftSnapshotBuilder, StoredMembership};
use parking_lot::Mutex;

use super::{Entry, Id, Outcome, Types};

type Membership = StoredMembership<u64, BasicNode>;
type Meta = SnapshotMeta<u64, BasicNode>;

#[derive(Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    applied: Option<Id>,
    membership: Membership,
    rows: Vec<String>,
    snapshot: Option<(Meta, Vec<u8>)>,
    snapshots: u64,
}

fn snapshot_of(meta: &Meta, bytes: &[u8]) -> Snapshot<Types> {
    Snapshot { meta: meta.clone(), snapshot: Box::new(Cursor::new(bytes.to_vec())) }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Outcome<Snapshot<Types>> {
        let mut state = self.0.lock();
        state.snapshots += 1;
        let meta = Meta {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
            snapshot_id: state.snapshots.to_string(),
        };
        let bytes = state.rows.join("\n").into_bytes();
        state.snapshot = Some((meta.clone(), bytes.clone()));
        Ok(snapshot_of(&meta, &bytes))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Outcome<(Option<Id>, Membership)> {
        let state = self.0.lock();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Outcome<Vec<()>>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut state = self.0.lock();
        let mut replies = Vec::new();
        for entry in entries {
            state.applied = Some(entry.log_id);
            state.rows.push(entry.to_string());
            if let EntryPayload::Membership(membership) = entry.payload {
                state.membership = Membership::new(Some(entry.log_id), membership);
            }
            replies.push(());
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Outcome<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Cursor<Vec<u8>>>) -> Outcome {
        let mut state = self.0.lock();
        let bytes = snapshot.into_inner();
        state.applied = meta.last_log_id;
        state.membership = meta.last_membership.clone();
        state.rows = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
        state.snapshot = Some((meta.clone(), bytes));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Outcome<Option<Snapshot<Types>>> {
        let state = self.0.lock();
        Ok(state.snapshot.as_ref().map(|(meta, bytes)| snapshot_of(meta, bytes)))
    }
}
