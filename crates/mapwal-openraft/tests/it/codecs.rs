//! Codecs: JSON, node ids of any length, and what a codec refuses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::{self, Cursor};

use bytes::Bytes;
use mapwal::testing::SimulatedDisk;
use mapwal_openraft::{Codec, Json, LogStore};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{BasicNode, CommittedLeaderId, Entry, EntryPayload, LogId, Membership, RaftLogReader, Vote};
use serde::{Deserialize, Serialize};

use crate::support::{options, run};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Command {
    Put { key: String, value: u64 },
    Delete { key: String },
}

openraft::declare_raft_types!(Types: D = Command, R = ());

fn open<K: Codec<Types>>(disk: &SimulatedDisk, codec: K) -> LogStore<Types, K> {
    LogStore::open(disk.open(&options()).expect("a log"), codec).expect("a log of a store")
}

/// By leaders whose ids have one to twenty digits.
fn entries() -> Vec<Entry<Types>> {
    let nodes: BTreeMap<u64, BasicNode> = [(1, BasicNode::new("a:1")), (u64::MAX, BasicNode::new("ü:2"))].into();
    let voters = vec![BTreeSet::from([1]), BTreeSet::from([1, u64::MAX])];
    let payloads = [
        EntryPayload::Membership(Membership::new(voters, nodes)),
        EntryPayload::Blank,
        EntryPayload::Normal(Command::Put { key: "a".to_owned(), value: 7 }),
        EntryPayload::Normal(Command::Delete { key: "ü".repeat(100) }),
    ];
    let leader = |index: u64| CommittedLeaderId::new(index, 10_u64.pow((index % 20) as u32));
    let entry = |(index, payload)| Entry { log_id: LogId::new(leader(index), index), payload };
    (0..).zip(payloads.into_iter().cycle().take(40)).map(entry).collect()
}

#[test]
fn all_that_is_stored_as_json_is_read_again() {
    let disk = SimulatedDisk::new(1);
    let mut store = open(&disk, Json);
    run(store.blocking_append(entries())).expect("appended");
    run(store.save_vote(&Vote::new_committed(3, 12))).expect("saved");
    run(store.purge(LogId::new(CommittedLeaderId::new(0, 100), 0))).expect("purged");
    store.log().close().expect("closed");
    let mut store = open(&disk, Json);
    assert_eq!(run(store.try_get_log_entries(..)).expect("read"), entries()[1..]);
    assert_eq!(run(store.read_vote()).expect("read"), Some(Vote::new_committed(3, 12)));
    let state = run(store.get_log_state()).expect("known");
    assert_eq!(state.last_purged_log_id, Some(LogId::new(CommittedLeaderId::new(0, 100), 0)));
    assert_eq!(state.last_log_id, Some(entries()[39].log_id));
}

/// JSON, but for commands of one kind, and node ids that are long.
struct Picky {
    node_id_len: usize,
}

impl Codec<Types> for Picky {
    fn encode_data<'e>(&self, entry: &'e Entry<Types>) -> io::Result<Cow<'e, [u8]>> {
        match &entry.payload {
            EntryPayload::Normal(Command::Delete { .. }) => Err(io::Error::other("nothing is deleted")),
            _ => Codec::<Types>::encode_data(&Json, entry),
        }
    }

    fn decode_data(&self, data: Bytes) -> io::Result<Command> {
        Codec::<Types>::decode_data(&Json, data)
    }

    fn encode_node_id(&self, id: &u64, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend(id.to_le_bytes().iter().cycle().take(self.node_id_len));
        Ok(())
    }

    fn decode_node_id(&self, bytes: &[u8]) -> io::Result<u64> {
        assert_eq!(bytes.len(), self.node_id_len);
        bytes.first_chunk().copied().map(u64::from_le_bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn encode_node(&self, node: &BasicNode, out: &mut Vec<u8>) -> io::Result<()> {
        Codec::<Types>::encode_node(&Json, node, out)
    }

    fn decode_node(&self, bytes: &[u8]) -> io::Result<BasicNode> {
        Codec::<Types>::decode_node(&Json, bytes)
    }
}

#[test]
fn what_a_codec_refuses_is_not_appended_nor_what_comes_with_it() {
    let mut store = open(&SimulatedDisk::new(1), Picky { node_id_len: 8 });
    let error = run(store.blocking_append(entries())).expect_err("refused").to_string();
    assert!(error.contains("cannot encode an entry's data"), "{error}");
    assert_eq!(run(store.get_log_state()).expect("known").last_log_id, None);
    run(store.blocking_append(entries().into_iter().take(3))).expect("appended");
    assert_eq!(run(store.try_get_log_entries(..)).expect("read"), entries()[..3]);
}

#[test]
fn the_id_of_a_node_has_at_most_255_bytes() {
    let mut store = open(&SimulatedDisk::new(1), Picky { node_id_len: 256 });
    let error = run(store.blocking_append(entries().into_iter().take(1))).expect_err("refused").to_string();
    assert!(error.contains("cannot encode a node's id"), "{error}");
    let mut store = open(&SimulatedDisk::new(1), Picky { node_id_len: 255 });
    run(store.blocking_append(entries().into_iter().take(3))).expect("appended");
    assert_eq!(run(store.try_get_log_entries(..)).expect("read"), entries()[..3]);
}
