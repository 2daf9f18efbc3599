//! The state machine: keys and their values, in memory. A start has the last snapshot, and openraft applies again what the log has after it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Cursor};
use std::path::Path;
use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{AnyError, Entry, EntryPayload, RaftSnapshotBuilder, StorageError, StorageIOError};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::snapshot::SnapshotFile;
use super::tell;
use crate::api::{Digest, Effects, Write};
use crate::types::{Applied, Id, Members, Meta, Stored, Types};

#[derive(Debug, Clone, Default, Hash, Serialize, Deserialize)]
struct Row {
    value: String,
    /// The numbers of the writes that have taken effect.
    effects: Vec<u64>,
}

type Rows = BTreeMap<String, Row>;

#[derive(Default)]
struct State {
    rows: Rows,
    applied: Option<Id>,
    members: Members,
}

/// A handle of it.
#[derive(Clone)]
pub(super) struct Machine(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Locked before the state, for as long as a snapshot is written: a newer one is never replaced by an older one.
    file: Mutex<SnapshotFile>,
}

fn failed(error: &io::Error) -> StorageError<u64> {
    StorageIOError::write_snapshot(None, AnyError::new(error)).into()
}

impl Machine {
    /// What the snapshot in `directory` says, if there is one.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let file = SnapshotFile::of(directory);
        let mut state = State::default();
        if let Some((meta, data)) = file.read()? {
            state.install(&meta, &data)?;
        }
        Ok(Self(Arc::new(Inner { state: Mutex::new(state), file: Mutex::new(file) })))
    }

    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.0.state.lock().rows.get(key).map(|row| row.value.clone())
    }

    pub(super) fn effects(&self) -> Effects {
        let state = self.0.state.lock();
        state.rows.iter().map(|(key, row)| (key.clone(), row.effects.clone())).collect()
    }

    pub(super) fn digest(&self) -> Digest {
        let state = self.0.state.lock();
        let mut hasher = DefaultHasher::new();
        state.rows.hash(&mut hasher);
        Digest {
            applied: state.applied.map(|id| id.index),
            hash: hasher.finish(),
            keys: state.rows.len(),
            voters: state.members.membership().get_joint_config().clone(),
        }
    }
}

impl State {
    fn apply(&mut self, entry: Entry<Types>) -> io::Result<Applied> {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Normal(command) => return Ok(Applied { done: self.write(command.write()?) }),
            EntryPayload::Membership(members) => self.members = Members::new(self.applied, members),
            EntryPayload::Blank => {}
        }
        Ok(Applied::default())
    }

    fn write(&mut self, write: Write) -> bool {
        if !write.condition.is_met(self.rows.get(&write.key).map(|row| &row.value)) {
            return false;
        }
        let row = self.rows.entry(write.key).or_default();
        row.value = write.value;
        row.effects.push(write.number);
        true
    }

    fn install(&mut self, meta: &Meta, data: &[u8]) -> io::Result<()> {
        self.rows = serde_json::from_slice(data)?;
        self.applied = meta.last_log_id;
        self.members = meta.last_membership.clone();
        Ok(())
    }
}

impl Inner {
    fn build(&self) -> io::Result<(Meta, Vec<u8>)> {
        let file = self.file.lock();
        let state = self.state.lock();
        let id = state.applied.map_or_else(String::new, |id| id.to_string());
        let meta = Meta { last_log_id: state.applied, last_membership: state.members.clone(), snapshot_id: id };
        let data = serde_json::to_vec(&state.rows)?;
        drop(state);
        file.write(&meta, &data)?;
        tell("snapshot built");
        Ok((meta, data))
    }

    fn install(&self, meta: &Meta, data: &[u8]) -> io::Result<()> {
        let file = self.file.lock();
        file.write(meta, data)?;
        self.state.lock().install(meta, data)?;
        tell("snapshot installed");
        Ok(())
    }
}

/// Work that waits for the disk.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Stored<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other).and_then(|done| done).map_err(|error| failed(&error))
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Stored<(Option<Id>, Members)> {
        let state = self.0.state.lock();
        Ok((state.applied, state.members.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<Applied>>
    where
        I: IntoIterator<Item = Entry<Types>> + Send,
        I::IntoIter: Send,
    {
        let mut state = self.0.state.lock();
        let applied: io::Result<Vec<Applied>> = entries.into_iter().map(|entry| state.apply(entry)).collect();
        applied.map_err(|error| failed(&error))
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Cursor<Vec<u8>>>) -> Stored {
        let (inner, meta) = (Arc::clone(&self.0), meta.clone());
        aside(move || inner.install(&meta, snapshot.get_ref())).await
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Types>>> {
        let inner = Arc::clone(&self.0);
        let found = aside(move || inner.file.lock().read()).await?;
        Ok(found.map(|(meta, data)| Snapshot { meta, snapshot: Box::new(Cursor::new(data)) }))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Types>> {
        let inner = Arc::clone(&self.0);
        let (meta, data) = aside(move || inner.build()).await?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(data)) })
    }
}
