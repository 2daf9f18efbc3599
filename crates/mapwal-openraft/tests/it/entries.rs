//! What is read is what was appended, in place, in order, and for as long as it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{self, Excluded, Included, Unbounded};

use bytes::Bytes;
use mapwal::testing::SimulatedDisk;
use openraft::storage::RaftLogStorage;
use openraft::{BasicNode, EntryPayload, Membership, RaftLogReader, Vote};

use crate::support::{Entry, Store, append, entries, entry, id, open_in, open_on, read, run, state};

/// Each kind of entry, with data of many lengths and of many leaders.
fn all_kinds() -> Vec<Entry> {
    let nodes: BTreeMap<u64, BasicNode> =
        (1..6).map(|node| (node, BasicNode::new(format!("10.0.0.{node}:4000")))).collect();
    let voters = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
    let membership = EntryPayload::Membership(Membership::new(voters, nodes));
    let mut all = vec![
        Entry { log_id: id(1, 0), payload: membership },
        Entry { log_id: id(2, 1), payload: EntryPayload::Blank },
        Entry { log_id: id(2, 2), payload: EntryPayload::Normal(Bytes::new()) },
        entry(u64::MAX, 3, 1),
    ];
    all.extend((4..60).map(|index| entry(3 + index, index, (index * 37) as usize)));
    all
}

#[test]
fn every_kind_of_entry_is_read_as_it_was_appended_now_and_after_a_restart() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    let all = all_kinds();
    append(&mut store, all.clone()).expect("appended");
    let some = |store: &mut Store| run(store.try_get_log_entries(3..=5)).expect("read");
    assert_eq!(read(&mut store).expect("read"), all);
    assert_eq!(some(&mut store), all[3..6]);
    store.log().close().expect("closed");
    let mut store = open_on(&disk);
    assert_eq!(read(&mut store).expect("read"), all);
    assert_eq!(some(&mut store), all[3..6]);
    assert_eq!(state(&mut store), (None, Some(all[59].log_id)));
}

fn data(entry: &Entry) -> &Bytes {
    match &entry.payload {
        EntryPayload::Normal(data) => data,
        _ => panic!("it has data"),
    }
}

#[test]
fn data_is_borrowed_from_the_mapping_and_begins_at_a_boundary_of_8_bytes() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    append(&mut store, entries(1, 0..3)).expect("appended");
    let (once, again) = (read(&mut store).expect("read"), read(&mut store).expect("read"));
    for (one, other) in once.iter().zip(&again) {
        assert_eq!(data(one).as_ptr(), data(other).as_ptr());
        assert!(data(one).as_ptr().addr().is_multiple_of(8));
    }
}

#[test]
fn data_that_is_kept_outlives_a_truncation_a_purge_and_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = open_in(&directory);
    let all: Vec<Entry> = (0..200).map(|index| entry(1, index, 1000)).collect();
    append(&mut store, all.clone()).expect("appended");
    let kept = read(&mut store).expect("read");
    run(store.truncate(id(1, 150))).expect("truncated");
    append(&mut store, (150..300).map(|index| entry(2, index, 1000)).collect()).expect("appended");
    run(store.purge(id(2, 299))).expect("purged");
    run(store.purge(id(2, 5000))).expect("purged beyond the end");
    store.log().close().expect("closed");
    drop((store, directory));
    assert_eq!(kept, all);
}

#[test]
fn entries_of_more_than_a_segment_are_appended_in_pieces() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    let all: Vec<Entry> = (0..300).map(|index| entry(1, index, 1000)).collect();
    append(&mut store, all.clone()).expect("appended");
    assert_eq!(read(&mut store).expect("read"), all);
    assert!(store.log().stats().sealed_segments > 3);
}

#[test]
fn replication_is_given_as_many_bytes_as_it_takes_and_never_nothing() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk).read_bytes_max(5000);
    append(&mut store, (0..20).map(|index| entry(1, index, 1000)).collect()).expect("appended");
    append(&mut store, vec![entry(1, 20, 9000), entry(1, 21, 10)]).expect("appended");
    let mut count = |start, end| run(store.limited_get_log_entries(start, end)).expect("read").len();
    assert_eq!(count(0, 22), 4);
    assert_eq!(count(0, 3), 3);
    assert_eq!(count(19, 22), 1);
    assert_eq!(count(20, 22), 1);
    assert_eq!(count(21, 22), 1);
}

#[test]
fn a_range_is_read_with_any_bounds_and_has_what_is_there_of_it() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    append(&mut store, entries(1, 0..10)).expect("appended");
    run(store.purge(id(1, 2))).expect("purged");
    let mut reader = run(store.get_log_reader());
    let indices = |entries: Vec<Entry>| entries.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>();
    let mut indices = |range: (Bound<u64>, Bound<u64>)| indices(run(reader.try_get_log_entries(range)).expect("read"));
    assert_eq!(indices((Unbounded, Excluded(5))), [3, 4]);
    assert_eq!(indices((Included(1), Included(4))), [3, 4]);
    assert_eq!(indices((Excluded(7), Unbounded)), [8, 9]);
    assert_eq!(indices((Excluded(7), Included(u64::MAX))), [8, 9]);
    assert_eq!(indices((Included(4), Excluded(4))), [0; 0]);
    assert_eq!(indices((Included(9), Excluded(4))), [0; 0]);
    assert_eq!(indices((Included(10), Unbounded)), [0; 0]);
    assert_eq!(indices((Excluded(u64::MAX), Unbounded)), [0; 0]);
}

#[test]
fn votes_and_committed_ids_are_read_as_they_were_saved() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    assert_eq!(run(store.read_vote()).expect("read"), None);
    assert_eq!(run(store.read_committed()).expect("read"), None);
    for vote in [Vote::default(), Vote::new(3, 9), Vote::new_committed(u64::MAX, u64::MAX)] {
        run(store.save_vote(&vote)).expect("saved");
        assert_eq!(run(store.read_vote()).expect("read"), Some(vote));
    }
    for committed in [Some(id(3, 0)), None, Some(id(u64::MAX, u64::MAX))] {
        run(store.save_committed(committed)).expect("saved");
        assert_eq!(run(store.read_committed()).expect("read"), committed);
    }
    store.log().close().expect("closed");
    let mut store = open_on(&disk);
    assert_eq!(run(store.read_vote()).expect("read"), Some(Vote::new_committed(u64::MAX, u64::MAX)));
    assert_eq!(run(store.read_committed()).expect("read"), Some(id(u64::MAX, u64::MAX)));
}

#[test]
fn an_open_reads_no_entry_but_the_last() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = open_in(&directory);
    append(&mut store, (0..100).map(|index| entry(1, index, 1000)).collect()).expect("appended");
    store.log().rotate().expect("rotated");
    append(&mut store, entries(1, 100..101)).expect("appended");
    store.log().close().expect("closed");
    drop(store);

    let first = directory.path().read_dir().expect("listed").map(|file| file.expect("a file").path());
    let first = first.filter(|path| path.extension().is_some_and(|name| name == "seg")).min().expect("a segment");
    let mut bytes = std::fs::read(&first).expect("read");
    let at = bytes.windows(5).position(|found| found == b"1:30 ").expect("the data of an entry");
    bytes[at + 10] ^= 1;
    std::fs::write(&first, bytes).expect("written");

    let mut store = open_in(&directory);
    assert_eq!(state(&mut store), (None, Some(id(1, 100))));
    assert_eq!(run(store.try_get_log_entries(100..)).expect("read"), entries(1, 100..101));
    let damaged = read(&mut store).expect_err("its checksum is wrong").to_string();
    assert!(damaged.contains("when Read Logs"), "{damaged}");
}
