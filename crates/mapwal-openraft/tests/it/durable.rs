//! What is durable when, and what a power cut leaves.

use mapwal::testing::{DiskFailure, SimulatedDisk};
use openraft::Vote;
use openraft::storage::RaftLogStorage;

use crate::support::{Store, append, begin_append, entries, entry, id, open_on, read, run, state};

/// What the kernel has written early differs from seed to seed.
const SEEDS: u64 = 20;

#[test]
fn a_callback_says_that_all_is_well_only_if_the_power_may_go_now() {
    let mut outcomes = [0; 2];
    for seed in 0..SEEDS {
        for operations in 0..12 {
            let disk = SimulatedDisk::new(seed);
            let mut store = open_on(&disk);
            append(&mut store, entries(1, 0..1)).expect("appended");
            // Not one device write may come after the callback: with no operation left, no callback may be told so.
            disk.end_power_after(operations);
            let begun: Vec<_> = (1..5).map(|index| begin_append(&store, entries(1, index..=index))).collect();
            let outcomes_now: Vec<bool> = begun.into_iter().map(|append| append.wait().is_ok()).collect();
            let durable = outcomes_now.iter().take_while(|is_ok| **is_ok).count();
            assert!(!outcomes_now[durable..].contains(&true), "seed {seed}: {outcomes_now:?}");
            assert!(operations > 0 || durable == 0, "seed {seed}: durable without a device");
            drop(store);
            let left = read(&mut open_on(&disk.restart())).expect("read");
            assert!(left.len() > durable, "seed {seed}: {} left, {durable} durable after the first", left.len());
            assert_eq!(left, entries(1, 0..left.len() as u64), "seed {seed}");
            outcomes.iter_mut().zip([durable > 0, durable < 4]).for_each(|(count, is)| *count += usize::from(is));
        }
    }
    assert!(outcomes.iter().all(|&count| count > 0), "both outcomes: {outcomes:?}");
}

#[test]
fn an_append_can_be_read_when_it_returns_and_its_callback_waits_for_the_device() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    disk.end_power_after(0);
    let append = begin_append(&store, entries(1, 0..3));
    assert_eq!(read(&mut store).expect("read"), entries(1, 0..3));
    assert_eq!(state(&mut store), (None, Some(id(1, 2))));
    let error = append.wait().expect_err("there is no device").to_string();
    assert!(error.contains("poisoned"), "{error}");
}

#[test]
fn a_sync_that_fails_is_the_error_of_its_callback_and_of_all_that_follow() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    append(&mut store, entries(1, 0..2)).expect("appended");
    let first = {
        // Of an operation that is no sync nothing is told; so until one fails.
        disk.fail_after(0, DiskFailure::Io);
        append(&mut store, entries(1, 2..4))
    };
    assert!(first.expect_err("not synced").to_string().contains("poisoned"));
    assert!(append(&mut store, entries(1, 4..5)).is_err());
    assert!(run(store.save_vote(&Vote::new(9, 1))).is_err());
    assert!(run(store.purge(id(1, 1))).is_err());
    assert!(run(store.truncate(id(1, 1))).is_err());
    assert!(run(store.truncate(id(1, 100))).is_err(), "also if it drops nothing");
    drop(store);
    let left = read(&mut open_on(&disk.restart())).expect("read");
    assert!(left.len() >= 2 && left == entries(1, 0..left.len() as u64), "{left:?}");
}

#[test]
fn a_vote_survives_a_power_cut_right_after_it_was_saved() {
    for seed in 0..SEEDS {
        let mut disk = SimulatedDisk::new(seed);
        for term in 1..5 {
            let mut store = open_on(&disk);
            run(store.save_vote(&Vote::new(term, seed))).expect("saved");
            disk = disk.restart();
            let mut store = open_on(&disk);
            assert_eq!(run(store.read_vote()).expect("read"), Some(Vote::new(term, seed)), "seed {seed}");
        }
        let mut store = open_on(&disk);
        disk.end_power_after(0);
        assert!(run(store.save_vote(&Vote::new(9, 9))).is_err(), "seed {seed}: saved without a device");
    }
}

#[test]
fn a_vote_is_durable_with_all_that_was_appended_before_it() {
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let mut store = open_on(&disk);
        let append = begin_append(&store, entries(1, 0..5));
        run(store.save_vote(&Vote::new(2, 2))).expect("saved");
        assert_eq!(read(&mut open_on(&disk.restart())).expect("read"), entries(1, 0..5), "seed {seed}");
        append.wait().expect("appended");
    }
}

#[test]
fn a_committed_id_becomes_durable_with_the_next_append() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let mut store = open_on(&disk);
        append(&mut store, entries(1, 0..5)).expect("appended");
        run(store.save_committed(Some(id(1, 3)))).expect("saved");
        lost += u64::from(run(open_on(&disk.restart()).read_committed()).expect("read").is_none());
        append(&mut store, entries(1, 5..6)).expect("appended");
        let committed = run(open_on(&disk.restart()).read_committed()).expect("read");
        assert_eq!(committed, Some(id(1, 3)), "seed {seed}");
    }
    assert!(lost > 0, "it needs a sync, which no call of it has waited for");
}

#[test]
fn a_purge_is_durable_on_return_wherever_it_ends() {
    for seed in 0..SEEDS {
        // Inside, at the end, beyond it, far beyond it, and before any entry.
        for (count, purged) in [(150, 60), (150, 149), (150, 150), (150, 9000), (0, 40)] {
            let disk = SimulatedDisk::new(seed);
            let mut store = open_on(&disk);
            append(&mut store, (0..count).map(|index| entry(1, index, 1000)).collect()).expect("appended");
            run(store.purge(id(3, purged))).expect("purged");
            let disk = disk.restart();
            let mut store = open_on(&disk);
            let last = if purged + 1 < count { id(1, count - 1) } else { id(3, purged) };
            assert_eq!(state(&mut store), (Some(id(3, purged)), Some(last)), "seed {seed}, to {purged} of {count}");
            let left: Vec<_> = (purged + 1..count).map(|index| entry(1, index, 1000)).collect();
            assert_eq!(read(&mut store).expect("read"), left);
            append(&mut store, entries(4, last.index + 1..last.index + 3)).expect("it goes on after that");
            assert_eq!(state(&mut store), (Some(id(3, purged)), Some(id(4, last.index + 2))));
        }
    }
}

/// What the store says of itself is what is in its log.
fn assert_agrees(store: &mut Store, disk: &SimulatedDisk, what: &str) {
    let (purged, last) = state(store);
    let entries = read(store).expect("read");
    let begin = entries.first().map_or(0, |entry| entry.log_id.index);
    let first = purged.map_or(begin, |purged| purged.index + 1);
    assert!(entries.iter().zip(first..).all(|(entry, index)| entry.log_id.index == index), "{what}: a hole");
    assert_eq!(entries.last().map(|entry| entry.log_id).or(purged), last, "{what}");
    assert_eq!(last.map_or(1, |last| last.index + 2), store.log().next_lsn().0, "{what}");
    if store.log().sync().is_ok() {
        let mut opened = open_on(&disk.kill());
        assert_eq!(state(&mut opened), (purged, last), "{what}");
        assert_eq!(read(&mut opened).expect("read"), entries, "{what}");
    }
}

#[test]
fn a_call_that_fails_leaves_the_store_as_its_log_is() {
    let mut failed = 0;
    for (operations, seed) in (0..40).zip(0..) {
        for call in ["purge 12", "purge 60", "truncate 12", "truncate 19", "begin 40"] {
            let disk = SimulatedDisk::new(seed);
            let mut store = open_on(&disk);
            if call != "begin 40" {
                append(&mut store, (0..20).map(|index| entry(1, index, 10_000)).collect()).expect("appended");
                run(store.purge(id(1, 3))).expect("purged");
            }
            let what = format!("{call}, of which operation {operations} fails");
            disk.fail_after(operations, DiskFailure::Io);
            let outcome = match call {
                "purge 12" => run(store.purge(id(1, 12))),
                "purge 60" => run(store.purge(id(1, 60))),
                "truncate 12" => run(store.truncate(id(1, 12))),
                "truncate 19" => run(store.truncate(id(1, 19))),
                _ => append(&mut store, entries(1, 40..42)),
            };
            failed += u64::from(outcome.is_err());
            if call == "begin 40" && outcome.is_err() {
                // Before the first entry the log is empty, and after it, it has one.
                let (_, last) = state(&mut store);
                assert_eq!(read(&mut store).expect("read").last().map(|entry| entry.log_id), last, "{what}");
            } else {
                assert_agrees(&mut store, &disk, &what);
            }
            if let Some(index) = call.strip_prefix("purge ") {
                let again = run(store.purge(id(1, index.parse().expect("a number"))));
                assert!(again.is_err() || store.log().sync().is_ok(), "{what}, and again");
            }
            // What comes then finds a log without a hole, or an error.
            let _ = run(store.truncate(id(1, 14)));
            let _ = append(&mut store, entries(2, 14..16));
            if store.log().sync().is_ok() {
                open_on(&disk.kill());
            }
        }
    }
    assert!(failed > 20, "{failed}");
}

#[test]
fn a_purge_gives_disk_space_back() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    append(&mut store, (0..300).map(|index| entry(1, index, 1000)).collect()).expect("appended");
    let before = store.log().stats().sealed_segments;
    run(store.purge(id(1, 290))).expect("purged");
    assert!(store.log().stats().sealed_segments + 3 < before);
}

#[test]
fn a_truncation_is_durable_on_return() {
    for seed in 0..SEEDS {
        for from in [0, 1, 77, 149, 150, 400] {
            let disk = SimulatedDisk::new(seed);
            let mut store = open_on(&disk);
            let mut all: Vec<_> = (0..150).map(|index| entry(1, index, 1000)).collect();
            append(&mut store, all.clone()).expect("appended");
            run(store.truncate(id(1, from))).expect("truncated");
            all.truncate(from as usize);
            let mut store = open_on(&disk.restart());
            assert_eq!(read(&mut store).expect("read"), all, "seed {seed}, from {from}");
            let last = all.last().map(|entry| entry.log_id);
            assert_eq!(state(&mut store), (None, last));
            append(&mut store, entries(2, all.len() as u64..all.len() as u64 + 2)).expect("it goes on after that");
        }
    }
}
