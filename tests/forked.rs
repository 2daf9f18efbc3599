//! Children of a process that has a log open: those that become another program, and those that go on.
//!
//! A program of its own, since it forks: what a child does before it ends, no other test may be in the middle of.

#![cfg(target_os = "linux")]
#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fork::{Child, PATIENCE};
use mapwal::wal::{TransactionId, Wal, WalError, WalOptions};
use mapwal::{Error, Log, LogReader, Lsn, Options, PinDirectory, Result, Visibility};

#[path = "it/support/fork.rs"]
mod fork;
#[allow(dead_code, reason = "a kit: each test uses what it needs")]
#[path = "it/support/recorder.rs"]
mod recorder;

fn try_open(directory: &Path) -> Result<Log> {
    // SAFETY: the directory is a temporary one that only this test touches.
    unsafe { Log::open(directory, &Options::new().segment_size_bytes(64 << 10)) }
}

fn open(directory: &Path) -> Log {
    try_open(directory).expect("the log opens")
}

fn reader(directory: &Path) -> LogReader {
    // SAFETY: as above.
    unsafe { LogReader::open(directory) }.expect("the log can be read")
}

fn append(log: &Log, count: u64) {
    for _ in 0..count {
        log.append(1, &[7; 400]).unwrap();
    }
}

/// Held by each test: a fork copies the locks that other threads hold just then.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of the first of `outcomes` that is no refusal, counted from 1; 0 if all are.
fn first_allowed(outcomes: &[bool]) -> i32 {
    outcomes.iter().position(|is_refused| !is_refused).map_or(0, |at| i32::try_from(at).unwrap() + 1)
}

fn is_refused<T>(outcome: Result<T, impl Into<WalError>>) -> bool {
    matches!(outcome.map_err(Into::into), Err(WalError::Log(Error::Forked)))
}

fn changes(log: &Log) -> Vec<bool> {
    vec![
        is_refused(log.append(1, b"child")),
        is_refused(log.append_vectored(1, &[b"child"])),
        is_refused(log.append_batch(&[(1, b"child")])),
        is_refused(log.append_at(Lsn(2), 1, b"child")),
        is_refused(log.append_with(1, 5, |bytes| bytes.fill(0))),
        is_refused(log.append_with_writer(1, 0, |_| Ok(()))) && is_refused(log.append_void()),
        is_refused(log.append_frames(b"none")),
        is_refused(log.put_meta(1, b"child")),
        is_refused(log.sync()),
        is_refused(log.wait_durable(Lsn(1))),
        is_refused(log.on_durable(Lsn(1), |_| ())),
        is_refused(log.rotate()),
        is_refused(log.trim_before(Lsn(1))),
        is_refused(log.truncate_after(Lsn(1))),
        is_refused(log.reset_to(Lsn(9))),
        is_refused(log.pin(Lsn(1))),
        is_refused(log.create_pin("child", "", Lsn(1), None)),
        is_refused(log.replace_pin("parent", "", Lsn(1), None)),
        is_refused(log.advance_pin("parent", Lsn(2))) && is_refused(log.drop_pin("parent")),
    ]
}

#[test]
fn a_child_is_refused_every_change_of_the_log_of_its_parent() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    log.append(1, b"parent").unwrap();
    log.create_pin("parent", "", Lsn(1), None).unwrap();
    assert_eq!(Child::fork(|| first_allowed(&changes(&log))).end(), 0);
    let future = log.durable(Lsn(1));
    assert_eq!(Child::fork(|| i32::from(!is_refused(futures_executor::block_on(future)))).end(), 0);
    let pins = PinDirectory::open(directory.path()).unwrap();
    let changed = || {
        first_allowed(&[
            is_refused(pins.list()),
            is_refused(pins.create("child", "", Lsn(1), None)),
            is_refused(pins.replace("parent", "", Lsn(1), None)),
            is_refused(pins.advance("parent", Lsn(2))) && is_refused(pins.remove("parent")),
        ])
    };
    assert_eq!(Child::fork(changed).end(), 0);
    let mut closing = Some(log);
    let close = || i32::from(!is_refused(closing.take().unwrap().close()));
    assert_eq!(Child::fork(close).end(), 0);
    let log = closing.expect("the parent has it still");
    assert_eq!(log.append(1, b"parent").unwrap(), Lsn(2));
    log.sync().unwrap();
    log.close().unwrap();
    assert_eq!(open(directory.path()).next_lsn(), Lsn(3));
}

#[test]
fn a_child_tells_the_recorder_of_its_parent_nothing() {
    let _alone = alone();
    let (dir, recorder) = (tempfile::tempdir().unwrap(), recorder::Debugging::default());
    let log = metrics::with_local_recorder(&recorder, || open(dir.path()));
    append(&log, 10);
    log.sync().unwrap();
    let before = recorder.calls();
    let child = Child::fork(|| {
        let refused = first_allowed(&[is_refused(log.sync()), is_refused(log.wait_durable(Lsn(10)))]);
        // Nor what another thread would tell in its place.
        std::thread::sleep(Duration::from_millis(20));
        if recorder.calls() == before { refused } else { 100 }
    });
    assert_eq!(child.end(), 0);
    append(&log, 10);
    log.sync().unwrap();
    assert!(recorder.calls() > before);
}

#[test]
fn a_child_is_refused_what_reads_the_log_of_its_parent() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, 500);
    log.sync().unwrap();
    let outside = reader(directory.path());
    let snapshots = [log.snapshot().unwrap(), outside.snapshot().unwrap()];
    let records = snapshots.each_ref().map(|snapshot| snapshot.iter().count());
    let mut followers = [
        log.follow(Lsn(1), Visibility::Published).unwrap(),
        outside.follow(Lsn(1), Visibility::Published).unwrap(),
        outside.follow(Lsn(1), Visibility::Durable).unwrap(),
    ];
    let child = Child::fork(|| {
        let mut outcomes = vec![
            is_refused(log.get(Lsn(1))),
            is_refused(log.snapshot()),
            is_refused(log.follow(Lsn(1), Visibility::Published)),
            is_refused(log.published_lsn()),
            is_refused(log.sealed(0)),
            is_refused(outside.first_lsn()),
            is_refused(outside.snapshot()),
            is_refused(outside.get(Lsn(1))),
        ];
        for snapshot in &snapshots {
            outcomes.push(is_refused(snapshot.get(Lsn(1))));
            outcomes.push(is_refused(snapshot.get_ref(Lsn(1))));
            outcomes.push(snapshot.iter().next().is_some_and(is_refused));
        }
        outcomes.extend(followers.iter_mut().map(|follower| is_refused(follower.next_blocking())));
        first_allowed(&outcomes)
    });
    assert_eq!(child.end(), 0);
    assert_eq!(records, [500, 500]);
}

#[test]
fn a_child_is_refused_the_transactions_of_its_parent() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let options = WalOptions::new().log(Options::new().segment_size_bytes(64 << 10));
    // SAFETY: the directory is a temporary one that only this test touches.
    let (wal, recovery) = unsafe { Wal::open_and_recover(directory.path(), &options) }.unwrap();
    let (mut first, mut second, third) = (wal.begin().unwrap(), wal.begin().unwrap(), wal.begin().unwrap());
    first.insert(None, b"parent").unwrap();
    let id = first.id();
    let early = wal.begin_checkpoint().unwrap();
    let mut moved = Some((first, third, early));
    let child = Child::fork(|| {
        let (first, third, early) = moved.take().unwrap();
        first_allowed(&[
            is_refused(wal.begin()),
            is_refused(wal.resume(id)),
            is_refused(wal.resume(TransactionId(77))),
            is_refused(second.insert(None, b"child")),
            is_refused(wal.log_begin(TransactionId(77))),
            is_refused(wal.log_commit(TransactionId(77), None)),
            is_refused(wal.append_plain(0x8000, b"child")),
            is_refused(first.commit()),
            is_refused(third.abort(|undoing| undoing.compensate(b""))),
            is_refused(wal.begin_checkpoint()),
            is_refused(early.log(&[], &[])),
            is_refused(wal.truncate_before_checkpoint()),
            is_refused(wal.flush()),
            recovery.history().next().is_none_or(is_refused),
        ])
    });
    assert_eq!(child.end(), 0);
    let (first, ..) = moved.expect("the parent has it still");
    assert_eq!(first.commit().unwrap().applied(), Lsn(5));
}

/// A thread of the parent may hold any lock when the child is made, and nobody lets go of it there.
#[test]
fn a_child_waits_for_no_lock_that_a_thread_of_its_parent_held() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let options = WalOptions::new().log(Options::new().segment_size_bytes(64 << 10));
    // SAFETY: as above.
    let wal = unsafe { Wal::open(directory.path(), &options) }.unwrap();
    wal.begin().unwrap().commit().unwrap().applied();
    let outside = reader(directory.path());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                drop(wal.begin_checkpoint().unwrap());
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _ = outside.durable_lsn();
            }
        });
        let ends = (0..100).map(|_| {
            let outcomes =
                || first_allowed(&[is_refused(wal.log_begin(TransactionId(77))), is_refused(outside.snapshot())]);
            Child::fork(outcomes).end()
        });
        let worst = ends.into_iter().find(|end| *end != 0);
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(worst, None);
    });
}

#[test]
fn a_call_that_cannot_fail_waits_in_a_child_for_no_lock_of_its_parent() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let options = WalOptions::new().log(Options::new().segment_size_bytes(64 << 10));
    // SAFETY: as above.
    let wal = unsafe { Wal::open(directory.path(), &options) }.unwrap();
    wal.log().put_meta(1, b"parent").unwrap();
    let outside = reader(directory.path());
    let calls: [(&str, &(dyn Fn() + Sync)); 6] = [
        ("pins", &|| drop(wal.log().pin(wal.log().first_lsn()))),
        ("meta", &|| drop(wal.log().meta(1))),
        ("checkpoint", &|| assert_eq!(wal.checkpoint_lsn(), None)),
        ("durable", &|| assert!(outside.durable_lsn() < Lsn(9))),
        ("stats", &|| drop(wal.log().stats())),
        ("mappings", &|| drop(reader(directory.path()).snapshot().unwrap())),
    ];
    for (name, held) in calls {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        held();
                    }
                });
            }
            let ends = (0..40).map(|_| {
                let mut view = outside.snapshot().ok();
                let ask = || {
                    drop(view.take());
                    let stats = wal.log().stats();
                    let told = (wal.log().meta(1), wal.checkpoint_lsn(), outside.durable_lsn(), stats.pins);
                    i32::from(told != (None, None, Lsn(0), 0))
                };
                Child::fork(ask).end()
            });
            let worst = ends.into_iter().find(|end| *end != 0);
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(worst, None, "{name}");
        });
    }
}

#[test]
fn a_call_that_cannot_fail_waits_in_a_child_for_no_change_of_the_segments() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    let is_over = AtomicBool::new(false);
    let is_running = || !is_over.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while is_running() {
                append(&log, 1);
                log.rotate().unwrap();
                if log.stats().sealed_segments > 300 {
                    log.trim_before(log.next_lsn()).unwrap();
                }
            }
        });
        scope.spawn(|| {
            while is_running() {
                let _view = log.snapshot().unwrap();
            }
        });
        let worst = (0..300).find_map(|_| {
            let ask = || {
                let told = [log.first_lsn(), log.next_lsn(), log.stats().next_lsn];
                let shown = format!("{log:?} {:?} {:?}", log.mark(), log.pins());
                i32::from(shown.is_empty() || told.contains(&Lsn(u64::MAX)))
            };
            Some(Child::fork(ask).end()).filter(|&end| end != 0)
        });
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(worst, None);
    });
}

#[test]
fn what_a_child_drops_its_parent_keeps() {
    let _alone = alone();
    // With the threads that a log starts for callbacks, and without.
    [true, false].into_iter().for_each(drop_in_a_child);
}

fn drop_in_a_child(has_callbacks: bool) {
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path());
    append(&log, 500);
    if has_callbacks {
        log.on_durable(Lsn(500), |_| ()).unwrap();
    }
    log.sync().unwrap();
    let outside = reader(directory.path());
    let views = (outside.snapshot().unwrap(), log.snapshot().unwrap(), log.pin(Lsn(1)).unwrap());
    assert_eq!(views.0.iter().count() + views.1.iter().count(), 1000);
    let mut all = Some((log, outside, views));
    let dropping = || {
        drop(all.take());
        // The parent has it locked still.
        i32::from(!matches!(try_open(directory.path()), Err(Error::Locked { .. })))
    };
    assert_eq!(Child::fork(dropping).end(), 0);
    let (log, outside, views) = all.expect("the parent has it still");
    assert!(matches!(try_open(directory.path()), Err(Error::Locked { .. })));
    assert_eq!(log.trim_before(Lsn(400)).unwrap(), 0, "the pin holds");
    log.append(1, b"parent").unwrap();
    log.sync().unwrap();
    assert_eq!(outside.snapshot().unwrap().iter().count(), 501);
    drop(views);
    log.close().unwrap();
}

#[test]
fn a_child_that_lives_on_keeps_no_log_locked() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    for is_closed in [true, false] {
        let log = open(directory.path());
        let child = Child::fork(|| {
            std::thread::sleep(Duration::from_secs(u64::from(PATIENCE)));
            0
        });
        if is_closed {
            log.close().unwrap()
        } else {
            drop(log)
        }
        let log = open(directory.path());
        child.kill();
        assert!(matches!(try_open(directory.path()), Err(Error::Locked { .. })));
        drop(log);
    }
}

#[test]
fn a_log_that_was_closed_opens_while_children_are_started() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // With something to do between fork and exec.
                    Command::new("true").env("A", "b").current_dir("/").status().unwrap();
                }
            });
        }
        let refused = (0..200).filter(|round| match try_open(directory.path()) {
            Ok(log) if round % 2 == 0 => log.close().is_err(),
            Ok(_) => false,
            Err(error) => matches!(error, Error::Locked { .. }),
        });
        let refused = refused.count();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(refused, 0, "of 200");
    });
}
