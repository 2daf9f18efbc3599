//! The log in numbers.

use mapwal::inspect::Inspection;
use mapwal::{Log, Lsn, Stats};

use crate::support::SMALL;
use crate::support::scratch::{append_stamped, open_small, scratch};
use crate::support::wait::until;

/// What a segment with less than a page of frames takes once its end has been given back.
const ENDED: u64 = 8 << 10;

/// Bytes of a frame with this payload.
fn frame(payload_len: u64) -> u64 {
    24 + payload_len.next_multiple_of(8)
}

fn counted(stats: &Stats) -> (u64, u64, u64, usize, u64) {
    (stats.records_appended, stats.bytes_appended, stats.records_synced, stats.sealed_segments, stats.disk_bytes)
}

#[test]
fn numbers_add_up_over_rotation_truncation_reset_and_reopening() {
    let dir = scratch();
    let log = open_small(dir.path());
    assert_eq!(counted(&log.stats()), (0, 0, 0, 0, SMALL));
    append_stamped(&log, 1, 100, 10);
    assert_eq!(counted(&log.stats()), (10, 10 * frame(100), 0, 0, SMALL));
    log.sync().unwrap();
    assert_eq!(counted(&log.stats()), (10, 10 * frame(100), 10, 0, SMALL));
    log.append_batch(&[(1, b"a"), (2, b"b")]).unwrap();
    let given_up = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        log.append_with(1, 50, |_| std::panic::resume_unwind(Box::new("given up")))
    }));
    assert!(given_up.is_err());
    let bytes = 10 * frame(100) + 2 * frame(1) + frame(50);
    assert_eq!(counted(&log.stats()), (13, bytes, 10, 0, SMALL));
    log.rotate().unwrap();
    append_stamped(&log, 1, 8, 7);
    log.sync().unwrap();
    let bytes = bytes + 7 * frame(8);
    assert_eq!(counted(&log.stats()), (20, bytes, 20, 1, ENDED + SMALL));
    log.truncate_after(Lsn(15)).unwrap();
    append_stamped(&log, 1, 8, 1);
    log.sync().unwrap();
    let bytes = bytes + frame(8);
    assert_eq!(
        counted(&log.stats()),
        (21, bytes, 21, 2, 2 * ENDED + SMALL),
        "what was cut off had been appended and synced"
    );
    log.reset_to(Lsn(1_000)).unwrap();
    append_stamped(&log, 1, 8, 3);
    log.sync().unwrap();
    let stats = log.stats();
    assert_eq!(counted(&stats), (24, bytes + 3 * frame(8), 24, 0, SMALL), "numbers passed over are no records");
    assert_eq!((stats.first_lsn, stats.next_lsn, stats.durable_lsn), (Lsn(1_000), Lsn(1_003), Lsn(1_002)));
    let syncs = f64::from(u32::try_from(stats.syncs).unwrap());
    assert!((stats.records_per_sync() - 24.0 / syncs).abs() < 1e-9);
    assert!(stats.sync_time_p50 <= stats.sync_time_p99 && !stats.sync_time_p50.is_zero());
    log.close().unwrap();
    // In place, after what is there: counted from here.
    let log = open_small(dir.path());
    append_stamped(&log, 1, 16, 2);
    assert_eq!(counted(&log.stats()), (2, 2 * frame(16), 0, 0, SMALL));
    log.rotate().unwrap();
    append_stamped(&log, 1, 16, 1);
    assert_eq!(counted(&log.stats()), (3, 3 * frame(16), 0, 1, 2 * SMALL));
    assert_eq!(log.stats().next_lsn, Lsn(1_006));
}

#[test]
fn disk_space_of_dropped_segments_is_told_as_long_as_a_view_holds_it() {
    let dir = scratch();
    let log = open_small(dir.path());
    for _ in 0..4 {
        append_stamped(&log, 1, 100, 10);
        log.rotate().unwrap();
    }
    append_stamped(&log, 1, 100, 10);
    let (snapshot, record) = (log.snapshot().unwrap(), log.get(Lsn(35)).unwrap().unwrap());
    assert_eq!(log.trim_before(Lsn(21)).unwrap(), 2);
    await_unlinked(&log, 2 * SMALL, "the snapshot's");
    log.truncate_after(Lsn(25)).unwrap();
    await_unlinked(&log, 4 * SMALL, "those of the fourth and the active one; the third was cut");
    drop(snapshot);
    await_unlinked(&log, SMALL, "the record's");
    drop(record);
    await_unlinked(&log, 0, "nobody's");
}

/// A thread of the log's own may be walking a segment that was dropped, or be about to remove it, for a moment.
fn await_unlinked(log: &Log, bytes: u64, whose: &str) {
    until(whose, || log.stats().unlinked_bytes == bytes);
}

#[test]
fn counts_never_go_back_while_segments_come_and_go() {
    let dir = scratch();
    let log = open_small(dir.path());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| append_stamped(&log, 1, 2_000, 20_000));
        let mut last = 0;
        while !writer.is_finished() {
            let (now, next) = (log.stats().records_appended, log.next_lsn());
            assert!(now >= last, "from {last} back to {now}");
            assert!(now < next.0 + 1, "{now} records before {next}");
            last = now;
            log.trim_before(Lsn(next.0.saturating_sub(100).max(1))).unwrap();
        }
    });
}

#[test]
fn operators_are_told_what_the_writer_has_done_since_it_opened_the_log() {
    let dir = scratch();
    let told = || Inspection::open(dir.path()).unwrap().activity();
    let log = open_small(dir.path());
    until("files are used again", || {
        append_stamped(&log, log.next_lsn().0, 100, 10);
        log.rotate().unwrap();
        log.sync().unwrap();
        log.trim_before(log.next_lsn()).unwrap();
        log.stats().recycled_segments >= 3
    });
    assert!(told().unwrap().syncs > 0, "while it runs");
    let counted = log.stats();
    log.close().unwrap();
    let done = told().unwrap();
    assert!(done.syncs > counted.syncs && done.recycled_segments >= counted.recycled_segments, "{done:?}");
    assert!(done.stalls >= counted.stalls && done.removed_segments >= counted.removed_segments, "{done:?}");
    assert!(!done.sync_time_p50.is_zero() && done.sync_time_p50 <= done.sync_time_p99, "{done:?}");
    let log = open_small(dir.path());
    assert!(told().is_none_or(|activity| activity.recycled_segments == 0), "that was another run");
    drop(log);
    std::fs::remove_file(dir.path().join("control")).unwrap();
    assert_eq!(told(), None);
}

/// With the table of pins locked for it, as a trim has it while it waits for the device, this failed.
#[test]
fn stats_wait_for_no_device() {
    let dir = scratch();
    let (log, faults) = crate::support::open_faulty(dir.path());
    for _ in 0..2 {
        append_stamped(&log, log.next_lsn().0, 100, 10);
        log.rotate().unwrap();
    }
    log.sync().unwrap();
    let _pin = log.pin(Lsn(15)).unwrap();
    faults.hold(crate::support::faulty::Call::SyncMapping);
    std::thread::scope(|scope| {
        let trim = scope.spawn(|| log.trim_before(Lsn(11)).unwrap());
        faults.wait_until_held();
        let stats = scope.spawn(|| log.stats());
        let began = std::time::Instant::now();
        while !stats.is_finished() && began.elapsed() < std::time::Duration::from_secs(10) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let is_there = stats.is_finished();
        faults.release();
        assert!(is_there, "they wait for the trim");
        assert_eq!((stats.join().unwrap().pins, trim.join().unwrap()), (1, 1));
    });
    drop(_pin);
    assert_eq!(log.stats().pins, 0);
    log.create_pin("named", "", log.next_lsn(), None).unwrap();
    assert_eq!(log.stats().pins, 1);
}
