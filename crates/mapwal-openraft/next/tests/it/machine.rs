//! A state machine that remembers what was applied, for openraft's suite.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, RaftSnapshotBuilder};
use parking_lot::Mutex;

use crate::support::{Entry, Id, Types};

type Members = StoredMembershipOf<Types>;
type Meta = SnapshotMetaOf<Types>;
type Snapshot = SnapshotOf<Types, Vec<String>>;

#[derive(Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    applied: Option<Id>,
    members: Members,
    rows: Vec<String>,
    snapshot: Option<(Meta, Vec<String>)>,
}

impl State {
    fn apply(&mut self, entry: Entry) {
        self.applied = Some(entry.log_id);
        self.rows.push(entry.to_string());
        if let EntryPayload::Membership(members) = entry.payload {
            self.members = Members::new(self.applied, members);
        }
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = Vec<String>;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let mut state = self.0.lock();
        let meta = Meta { last_log_id: state.applied, last_membership: state.members.clone() };
        let snapshot = state.rows.clone();
        state.snapshot = Some((meta.clone(), snapshot.clone()));
        Ok(Snapshot { meta, snapshot })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Vec<String>;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<Id>, Members)> {
        let state = self.0.lock();
        Ok((state.applied, state.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.0.lock().apply(entry);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Vec<String>) -> io::Result<()> {
        let mut state = self.0.lock();
        state.applied = meta.last_log_id;
        state.members = meta.last_membership.clone();
        state.rows.clone_from(&snapshot);
        state.snapshot = Some((meta.clone(), snapshot));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let state = self.0.lock();
        Ok(state.snapshot.clone().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}
