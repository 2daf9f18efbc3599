//! What a caller does wrongly is an error, and changes nothing.

use mapwal::testing::SimulatedDisk;
use mapwal_openraft::{Error, InPlace, LogStore};
use openraft::storage::RaftLogStorage;

use crate::support::{
    Entry, Outcome, Store, Types, append, entries, entry, id, open, open_on, options, read, run, state,
};

fn refused<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
    outcome.expect_err("it is wrong").to_string()
}

/// Ten entries from 5 on, of which those up to 6 are purged.
fn store(disk: &SimulatedDisk) -> Store {
    let mut store = open_on(disk);
    run(store.purge(id(1, 4))).expect("purged");
    append(&mut store, entries(1, 5..15)).expect("appended");
    run(store.purge(id(1, 6))).expect("purged");
    store
}

fn assert_unchanged(store: &mut Store) {
    assert_eq!(state(store), (Some(id(1, 6)), Some(id(1, 14))));
    assert_eq!(read(store).expect("read"), entries(1, 7..15));
}

#[test]
fn entries_that_do_not_follow_the_last_one_are_refused() {
    let disk = SimulatedDisk::new(1);
    let mut store = store(&disk);
    let hole = refused(append(&mut store, entries(1, 16..18)));
    assert!(hole.contains("entry 16 does not follow: the next one is 15"), "{hole}");
    let again = refused(append(&mut store, entries(1, 14..18)));
    assert!(again.contains("entry 14 does not follow: the next one is 15"), "{again}");
    let inside = refused(append(&mut store, entries(1, [15, 17])));
    assert!(inside.contains("entry 17 does not follow: the next one is 16"), "{inside}");
    assert_unchanged(&mut store);
}

#[test]
fn entries_that_were_purged_are_left_out() {
    let disk = SimulatedDisk::new(1);
    let mut store = store(&disk);
    append(&mut store, entries(1, 3..7)).expect("nothing to be appended");
    append(&mut store, Vec::new()).expect("nothing to be appended");
    assert_unchanged(&mut store);
    run(store.purge(id(1, 14))).expect("purged");
    append(&mut store, entries(2, 13..17)).expect("from 15 on");
    assert_eq!(read(&mut store).expect("read"), entries(2, 15..17));
}

#[test]
fn a_purge_never_goes_back() {
    let disk = SimulatedDisk::new(1);
    let mut store = store(&disk);
    run(store.purge(id(9, 5))).expect("nothing to be purged");
    run(store.purge(id(9, 6))).expect("nothing to be purged");
    assert_unchanged(&mut store);
}

#[test]
fn what_is_purged_cannot_be_truncated() {
    let disk = SimulatedDisk::new(1);
    let mut store = store(&disk);
    let error = refused(run(store.truncate(id(1, 6))));
    assert!(error.contains("cannot truncate from entry 6 on: all up to 6 was purged"), "{error}");
    assert_unchanged(&mut store);
    run(store.truncate(id(1, 7))).expect("all that is left");
    assert_eq!(state(&mut store), (Some(id(1, 6)), Some(id(1, 6))));
    append(&mut store, entries(2, 7..9)).expect("appended");
    assert_eq!(read(&mut store).expect("read"), entries(2, 7..9));
}

#[test]
fn a_log_that_begins_anywhere_can_be_truncated_to_nothing_and_begin_anywhere_again() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    append(&mut store, entries(1, 3..6)).expect("appended");
    run(store.truncate(id(1, 0))).expect("truncated");
    assert_eq!(state(&mut store), (None, None));
    append(&mut store, entries(1, 1..3)).expect("appended");
    assert_eq!(read(&mut open_on(&disk.restart())).expect("read"), entries(1, 1..3));
}

#[test]
fn an_entry_that_fits_into_no_segment_is_refused_with_all_that_come_with_it() {
    let disk = SimulatedDisk::new(1);
    let mut store = store(&disk);
    let error = refused(append(&mut store, vec![entry(1, 15, 10), entry(1, 16, 70_000)]));
    assert!(error.contains("exceeds the largest"), "{error}");
    assert_unchanged(&mut store);
    append(&mut store, vec![entry(1, 15, 10)]).expect("appended");
}

#[test]
fn an_index_at_the_end_of_all_numbers_is_refused() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    assert!(append(&mut store, vec![entry(1, u64::MAX, 10)]).is_err());
    assert!(run(store.purge(id(1, u64::MAX))).is_err());
    assert_eq!(state(&mut store), (None, None));
}

#[test]
fn a_log_of_something_else_or_of_another_format_is_refused() {
    let try_open = |disk: &SimulatedDisk| LogStore::<Types, _>::open(disk.open(&options()).expect("a log"), InPlace);
    let (records, metadata, later) = (SimulatedDisk::new(1), SimulatedDisk::new(2), SimulatedDisk::new(3));
    records.open(&options()).expect("a log").append(1, b"a record").expect("appended");
    let records = records.kill();
    assert!(matches!(try_open(&records), Err(Error::Foreign { .. })));
    metadata.open(&options()).expect("a log").put_meta(9, b"a value").expect("set");
    let metadata = metadata.kill();
    assert!(matches!(try_open(&metadata), Err(Error::Foreign { .. })));
    later.open(&options()).expect("a log").put_meta(0, b"openraft\x02").expect("set");
    let later = later.kill();
    assert!(matches!(try_open(&later), Err(Error::Format { found: 2, .. })));
}

#[test]
fn what_something_else_appends_to_the_log_is_found() {
    let disk = SimulatedDisk::new(1);
    let mut store = store(&disk);
    store.log().append_void().expect("appended");
    let hole = refused(run(openraft::RaftLogReader::try_get_log_entries(&mut store, 10..)));
    assert!(hole.contains("entry 15 is missing"), "{hole}");
    store.log().append(77, b"not an entry").expect("appended");
    let error = refused(run(openraft::RaftLogReader::try_get_log_entries(&mut store, 16..)));
    assert!(error.contains("record 17 is no entry"), "{error}");
    let _: Vec<Entry> = run(openraft::RaftLogReader::try_get_log_entries(&mut store, 7..15)).expect("still there");
}

/// Why a store cannot be opened in `log`.
fn refused_in(log: mapwal::Log) -> String {
    LogStore::<Types, _>::open(log, InPlace).map(drop).expect_err("it is wrong").to_string()
}

#[test]
fn a_last_record_that_is_no_entry_is_found_by_an_open() {
    let longer = [&[0; 16], b"no data".as_slice()].concat();
    for (tag, payload) in [(9, &b"intruder"[..]), (9, b""), (2, b"short"), (0x802, b"intruder"), (0x801, &longer)] {
        let disk = SimulatedDisk::new(1);
        store(&disk).log().append(tag, payload).expect("appended");
        let error = refused_in(disk.kill().open(&options()).expect("a log"));
        assert!(error.contains("record 16 is no entry"), "{tag}: {error}");
    }
}

#[test]
fn a_second_store_in_a_log_is_refused_as_long_as_there_is_one() {
    let disk = SimulatedDisk::new(1);
    let log = disk.open(&options()).expect("a log");
    let first = open(log.clone());
    let clone = first.clone();
    drop(first);
    let error = refused_in(log.clone());
    assert!(error.contains("has a store"), "{error}");
    open_on(&SimulatedDisk::new(1));
    drop(clone);
    drop(open(log.clone()));
    open(log);
}

#[test]
fn entries_that_something_else_has_trimmed_are_missed() {
    for purged in [None, Some(id(1, 3))] {
        let mut store = open_on(&SimulatedDisk::new(1));
        append(&mut store, (1..20).map(|index| entry(1, index, 10_000)).collect()).expect("appended");
        if let Some(purged) = purged {
            run(store.purge(purged)).expect("purged");
        }
        store.log().trim_before(mapwal::Lsn(12)).expect("trimmed");
        let first = store.log().first_lsn();
        assert!(first > mapwal::Lsn(5), "{first}");
        let missed = |error: String| {
            let expected = format!("the log begins with record {first}");
            assert!(error.contains(&expected), "{error}");
        };
        missed(refused(run(store.get_log_state()).map(drop)));
        missed(refused(read(&mut store)));
        missed(refused(run(store.truncate(id(1, 15)))));
        assert!(run(openraft::RaftLogReader::try_get_log_entries(&mut store, 12..)).is_ok(), "they are there");
        let log = store.log().clone();
        drop(store);
        missed(refused_in(log));
    }
}

#[test]
fn a_purge_of_all_that_is_missing_makes_the_log_whole_again() {
    let mut store = open_on(&SimulatedDisk::new(1));
    append(&mut store, (1..20).map(|index| entry(1, index, 10_000)).collect()).expect("appended");
    store.log().trim_before(mapwal::Lsn(12)).expect("trimmed");
    run(store.purge(id(1, 12))).expect("purged");
    assert_eq!(state(&mut store), (Some(id(1, 12)), Some(id(1, 19))));
    assert_eq!(read(&mut store).expect("read").first().map(|entry| entry.log_id.index), Some(13));
}

#[test]
fn a_closed_log_does_not_say_that_nothing_was_ever_saved() {
    let mut store = open_on(&SimulatedDisk::new(1));
    assert_eq!(run(store.read_vote()).expect("read"), None);
    store.log().close().expect("closed");
    assert!(refused(run(store.read_vote())).contains("closed"));
    assert!(refused(run(store.read_committed())).contains("closed"));
}

/// Opening a store holds no handle of another one's log, which is free as soon as its own store is dropped.
#[test]
fn a_store_can_be_opened_again_while_others_are_opened() {
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let disk = SimulatedDisk::new(seed);
                (0..300).for_each(|_| drop(open_on(&disk)));
            });
        }
    });
}
