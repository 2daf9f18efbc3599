//! What openraft's types are, and what they are made of. All that the store wants of openraft, but for its traits, is here: `next/` has the same of a
//! later one.

#![expect(clippy::unnecessary_wraps, reason = "a later openraft refuses what this one does not look at")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::entry::{FromAppData, RaftEntry, RaftPayload};
use openraft::{LeaderId, NodeId, RaftLogId};

pub(crate) use openraft::async_runtime::AsyncOneshotSendExt as OneshotSender;
pub(crate) use openraft::type_config::TypeConfigExt;
pub(crate) use openraft::{BasicNode, EmptyNode, Entry, EntryPayload, LogId, RaftTypeConfig};

pub(crate) type CommittedLeaderId<C> = openraft::CommittedLeaderId<<C as RaftTypeConfig>::NodeId>;
pub(crate) type LogIdOf<C> = LogId<<C as RaftTypeConfig>::NodeId>;
pub(crate) type Vote<C> = openraft::Vote<<C as RaftTypeConfig>::NodeId>;
pub(crate) type Membership<C> = openraft::Membership<<C as RaftTypeConfig>::NodeId, <C as RaftTypeConfig>::Node>;

/// The node of a committed leader's id, which has none if the feature `single-term-leader` of openraft is on: then a leader's
/// id is another type than a committed leader's, and has no such method of its own.
#[allow(dead_code, reason = "without the feature, the type's own method goes first")]
trait Nodeless<N> {
    fn voted_for(&self) -> Option<N>;
}

impl<N: NodeId> Nodeless<N> for openraft::CommittedLeaderId<N> {
    fn voted_for(&self) -> Option<N> {
        None
    }
}

/// The term and the node of a leader.
pub(crate) fn leader_parts<C: RaftTypeConfig>(leader: &CommittedLeaderId<C>) -> (u64, Option<C::NodeId>) {
    (leader.term, leader.voted_for())
}

pub(crate) fn leader<C: RaftTypeConfig>(term: u64, node: Option<C::NodeId>) -> io::Result<CommittedLeaderId<C>> {
    Ok(CommittedLeaderId::<C>::new(term, node.unwrap_or_default()))
}

/// Its term, its node, and whether it is committed.
pub(crate) fn vote_parts<C: RaftTypeConfig>(vote: &Vote<C>) -> (u64, Option<C::NodeId>, bool) {
    (vote.leader_id.term, vote.leader_id.voted_for(), vote.committed)
}

pub(crate) fn vote<C: RaftTypeConfig>(term: u64, node: Option<C::NodeId>, committed: bool) -> io::Result<Vote<C>> {
    let leader_id = match node {
        Some(node) => LeaderId::new(term, node),
        None => LeaderId { term, ..LeaderId::default() },
    };
    Ok(Vote::<C> { leader_id, committed })
}

pub(crate) fn membership<C: RaftTypeConfig>(
    configs: Vec<BTreeSet<C::NodeId>>,
    nodes: BTreeMap<C::NodeId, C::Node>,
) -> io::Result<Membership<C>> {
    Ok(Membership::<C>::new(configs, nodes))
}

pub(crate) fn index<C: RaftTypeConfig>(entry: &C::Entry) -> u64 {
    entry.get_log_id().index
}

pub(crate) fn log_id<C: RaftTypeConfig>(entry: &C::Entry) -> LogIdOf<C> {
    entry.get_log_id().clone()
}

pub(crate) fn is_blank<C: RaftTypeConfig>(entry: &C::Entry) -> bool {
    entry.is_blank()
}

/// What the entry holds, if that is a membership.
pub(crate) fn membership_in<C: RaftTypeConfig>(entry: &C::Entry) -> Option<Membership<C>> {
    entry.get_membership().cloned()
}

pub(crate) fn blank<C: RaftTypeConfig>(log_id: LogIdOf<C>) -> C::Entry {
    C::Entry::new_blank(log_id)
}

pub(crate) fn with_membership<C: RaftTypeConfig>(log_id: LogIdOf<C>, membership: Membership<C>) -> C::Entry {
    C::Entry::new_membership(log_id, membership)
}

#[inline]
pub(crate) fn with_data<C: RaftTypeConfig>(log_id: &LogIdOf<C>, data: C::D) -> C::Entry {
    let mut entry = C::Entry::from_app_data(data);
    entry.set_log_id(log_id);
    entry
}
