//! What a node is asked, by clients and by the driver.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Where each kind of request goes.
pub(crate) mod path {
    pub(crate) const APPEND: &str = "/raft/append";
    pub(crate) const VOTE: &str = "/raft/vote";
    pub(crate) const SNAPSHOT: &str = "/raft/snapshot";
    pub(crate) const CLIENT: &str = "/client";
    pub(crate) const ORDER: &str = "/order";
    pub(crate) const STATUS: &str = "/status";
    pub(crate) const DIGEST: &str = "/digest";
    pub(crate) const EFFECTS: &str = "/effects";
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// The value of a key, at some moment between request and answer.
    Get {
        key: String,
    },
    Write(Write),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Write {
    /// Which one of all writes.
    pub(crate) number: u64,
    pub(crate) key: String,
    pub(crate) condition: Condition,
    pub(crate) value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Condition {
    /// Whatever the key has.
    Always,
    /// The key must not be there.
    IsMissing,
    /// The key must have this value.
    Is(String),
}

impl Condition {
    /// Whether a key with this value, or with none, meets it.
    pub(crate) fn is_met(&self, found: Option<&String>) -> bool {
        match self {
            Self::Always => true,
            Self::IsMissing => found.is_none(),
            Self::Is(expected) => found == Some(expected),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    Value(Option<String>),
    /// The write is durable, and has taken effect or not.
    Done(bool),
    /// Nothing was done: another one is the leader, or nobody is.
    NotLeader(Option<u64>),
    /// It may have been done, or may be done later.
    Unknown,
}

/// What the driver has a node do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Become a raft of these nodes, with their addresses.
    Initialize(BTreeMap<u64, String>),
    /// The leader: bring this node up to date.
    AddLearner(u64, String),
    /// The leader: have these voters, and no other nodes.
    SetMembers(BTreeSet<u64>),
    Elect,
    Snapshot,
    /// Lose power.
    CutPower,
    /// Lose power right after the next vote is given, or do not any more.
    CutPowerAtVote(bool),
    /// The disk is full, after as many operations.
    FillDisk(u64),
    /// A disk operation fails, after as many that do not.
    FailDisk(u64),
    /// The disk has room again.
    FreeDisk,
    /// End, in good order.
    Stop,
}

/// What came of an order: an error says what was wrong.
pub(crate) type Done = Result<(), String>;

/// What a node knows of the raft.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    pub(crate) is_leader: bool,
    pub(crate) applied: Option<u64>,
    pub(crate) last: Option<u64>,
}

/// What a node's state machine has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) applied: Option<u64>,
    pub(crate) hash: u64,
    pub(crate) keys: usize,
    pub(crate) voters: Vec<BTreeSet<u64>>,
}

/// For each key the numbers of the writes that have taken effect, in their order.
pub(crate) type Effects = BTreeMap<String, Vec<u64>>;
