//! The raft's types.

use std::io::Cursor;

use bytes::Bytes;
use openraft::{BasicNode, LogId, SnapshotMeta, StorageError, StoredMembership};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::api::Write;

openraft::declare_raft_types!(pub Types: D = Command, R = Applied);

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type Id = LogId<u64>;
pub(crate) type Members = StoredMembership<u64, BasicNode>;
pub(crate) type Meta = SnapshotMeta<u64, BasicNode>;
pub(crate) type Stored<T = ()> = Result<T, StorageError<u64>>;

/// A [`Write`] as text, which an entry has in place: it borrows from the log's mapping until it is applied or sent.
#[derive(Debug, Clone)]
pub struct Command(Bytes);

/// What became of a command.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Applied {
    /// Whether it took effect: a compare-and-set may find another value.
    pub(crate) done: bool,
}

impl Command {
    pub(crate) fn new(write: &Write) -> serde_json::Result<Self> {
        serde_json::to_vec(write).map(|bytes| Self(bytes.into()))
    }

    pub(crate) fn write(&self) -> serde_json::Result<Write> {
        serde_json::from_slice(&self.0)
    }
}

impl From<Bytes> for Command {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Command {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.0).map_err(serde::ser::Error::custom)?)
    }
}

impl<'d> Deserialize<'d> for Command {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}
