//! What openraft's types are, and what they are made of: what `src/raft.rs` of the published crate has of openraft 0.9.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::entry::RaftEntry;
use openraft::impls::leader_id_adv::LeaderId;

pub(crate) use openraft::async_runtime::OneshotSender;
pub(crate) use openraft::type_config::TypeConfigExt;
pub(crate) use openraft::{BasicNode, EmptyNode, EntryPayload, LogId};

type NodeIdOf<C> = <C as openraft::RaftTypeConfig>::NodeId;
type Leader<C> = LeaderId<u64, NodeIdOf<C>>;
type Payload<C> = EntryPayload<<C as openraft::RaftTypeConfig>::D, NodeIdOf<C>, <C as openraft::RaftTypeConfig>::Node>;

pub(crate) type CommittedLeaderId<C> = Leader<C>;
pub(crate) type LogIdOf<C> = LogId<CommittedLeaderId<C>>;
pub(crate) type Vote<C> = openraft::Vote<Leader<C>>;
pub(crate) type Membership<C> = openraft::Membership<NodeIdOf<C>, <C as openraft::RaftTypeConfig>::Node>;
pub(crate) type Entry<C> = openraft::Entry<CommittedLeaderId<C>, Payload<C>>;

/// openraft's, with the types that it has by default.
pub trait RaftTypeConfig:
    openraft::RaftTypeConfig<
        Term = u64,
        LeaderId = Leader<Self>,
        Vote = Vote<Self>,
        Payload = Payload<Self>,
        Entry = Entry<Self>,
    >
{
}

impl<C> RaftTypeConfig for C where
    C: openraft::RaftTypeConfig<
            Term = u64,
            LeaderId = Leader<C>,
            Vote = Vote<C>,
            Payload = Payload<C>,
            Entry = Entry<C>,
        >
{
}

fn without_node() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a leader without a node")
}

/// The term and the node of a leader.
pub(crate) fn leader_parts<C: RaftTypeConfig>(leader: &CommittedLeaderId<C>) -> (u64, Option<C::NodeId>) {
    (leader.term, Some(leader.node_id.clone()))
}

pub(crate) fn leader<C: RaftTypeConfig>(term: u64, node: Option<C::NodeId>) -> io::Result<CommittedLeaderId<C>> {
    Ok(LeaderId { term, node_id: node.ok_or_else(without_node)? })
}

/// Its term, its node, and whether it is committed.
pub(crate) fn vote_parts<C: RaftTypeConfig>(vote: &Vote<C>) -> (u64, Option<C::NodeId>, bool) {
    let (term, node) = leader_parts::<C>(&vote.leader_id);
    (term, node, vote.committed)
}

pub(crate) fn vote<C: RaftTypeConfig>(term: u64, node: Option<C::NodeId>, committed: bool) -> io::Result<Vote<C>> {
    Ok(Vote::<C> { leader_id: leader::<C>(term, node)?, committed })
}

pub(crate) fn membership<C: RaftTypeConfig>(
    configs: Vec<BTreeSet<C::NodeId>>,
    nodes: BTreeMap<C::NodeId, C::Node>,
) -> io::Result<Membership<C>> {
    Membership::<C>::new(configs, nodes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

pub(crate) fn index<C: RaftTypeConfig>(entry: &C::Entry) -> u64 {
    entry.log_id.index
}

pub(crate) fn log_id<C: RaftTypeConfig>(entry: &C::Entry) -> LogIdOf<C> {
    entry.log_id.clone()
}

pub(crate) fn is_blank<C: RaftTypeConfig>(entry: &C::Entry) -> bool {
    matches!(entry.payload, EntryPayload::Blank)
}

/// What the entry holds, if that is a membership.
pub(crate) fn membership_in<C: RaftTypeConfig>(entry: &C::Entry) -> Option<Membership<C>> {
    entry.get_membership()
}

pub(crate) fn blank<C: RaftTypeConfig>(log_id: LogIdOf<C>) -> C::Entry {
    Entry::<C> { log_id, payload: EntryPayload::Blank }
}

pub(crate) fn with_membership<C: RaftTypeConfig>(log_id: LogIdOf<C>, membership: Membership<C>) -> C::Entry {
    Entry::<C> { log_id, payload: EntryPayload::Membership(membership) }
}

pub(crate) fn with_data<C: RaftTypeConfig>(log_id: &LogIdOf<C>, data: C::D) -> C::Entry {
    Entry::<C> { log_id: log_id.clone(), payload: EntryPayload::Normal(data) }
}
