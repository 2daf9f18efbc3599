//! Several things at once: appends that are not waited for, truncations, purges, and readers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mapwal::testing::SimulatedDisk;
use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;

use crate::support::{append, begin, begin_append, entries, entry, id, open_on, read, run, state};

#[test]
fn appends_that_are_not_waited_for_keep_their_order_over_a_truncation() {
    for seed in 0..30 {
        let disk = SimulatedDisk::new(seed);
        let mut store = open_on(&disk);
        let before: Vec<_> = (0..20).map(|index| begin_append(&store, entries(1, index..=index))).collect();
        let truncation = {
            let mut store = store.clone();
            begin(Box::pin(async move { store.truncate(id(1, 8)).await }))
        };
        truncation.wait().expect("truncated");
        let after: Vec<_> = (8..30).map(|index| begin_append(&store, entries(2, index..=index))).collect();
        for (index, append) in before.into_iter().enumerate() {
            match append.wait() {
                // Durable before the truncation, or not dropped by it.
                Ok(()) => {}
                Err(error) => assert!(index >= 8 && error.to_string().contains("truncated"), "{index}: {error}"),
            }
        }
        for append in after {
            append.wait().expect("appended");
        }
        let mut all = entries(1, 0..8);
        all.extend(entries(2, 8..30));
        assert_eq!(read(&mut store).expect("read"), all, "seed {seed}");
        let mut store = open_on(&disk.restart());
        assert_eq!(read(&mut store).expect("read"), all, "seed {seed}");
        assert_eq!(state(&mut store), (None, Some(id(2, 29))));
    }
}

#[test]
fn readers_meet_no_hole_and_no_mixture_while_the_log_changes() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    append(&mut store, (0..50).map(|index| entry(1, index, 300)).collect()).expect("appended");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            let (mut reader, is_over) = (run(store.get_log_reader()), &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let found = run(reader.try_get_log_entries(..)).expect("read");
                    for pair in found.windows(2) {
                        let (one, next) = (pair[0].log_id, pair[1].log_id);
                        assert!(one.index + 1 == next.index && one.leader_id <= next.leader_id, "{one} {next}");
                    }
                    for found in &found {
                        assert_eq!(*found, entry(found.log_id.leader_id.term, found.log_id.index, 300));
                    }
                }
            });
        }
        let mut next = 50;
        for term in 2..40 {
            append(&mut store, (next..next + 30).map(|index| entry(term, index, 300)).collect()).expect("appended");
            next += 30;
            run(store.truncate(id(term, next - 10))).expect("truncated");
            next -= 10;
            run(store.purge(id(term, next - 40))).expect("purged");
            if term % 10 == 0 {
                // As after a snapshot that was installed.
                next += 100;
                run(store.purge(id(term, next - 1))).expect("purged beyond the end");
                append(&mut store, (next..next + 50).map(|index| entry(term, index, 300)).collect()).expect("appended");
                next += 50;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_purge_that_is_not_waited_for_is_done_all_the_same() {
    let disk = SimulatedDisk::new(1);
    let mut store = open_on(&disk);
    append(&mut store, entries(1, 0..10)).expect("appended");
    let purge = {
        let mut store = store.clone();
        begin(Box::pin(async move { store.purge(id(1, 4)).await }))
    };
    drop(purge);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while state(&mut store).0 != Some(id(1, 4)) {
        assert!(std::time::Instant::now() < deadline, "it was never purged");
        thread::yield_now();
    }
    append(&mut store, entries(1, 10..11)).expect("the store goes on");
}
