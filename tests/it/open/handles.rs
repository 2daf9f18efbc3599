//! Handles of one log, and what they say once one of them has closed it.
//!
//! | planted | noticed by |
//! |---|---|
//! | a call does not ask whether the log is closed, or looks at its arguments first | `every_call_says_that_the_log_is_closed` |
//! | a close keeps the lock for as long as there are handles | `a_closed_directory_opens_again_beside_old_handles_and_views` |
//! | a callback is taken while the threads end | `a_callback_that_is_asked_for_during_a_close_is_told_or_refused` |

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, mpsc};

use futures_executor::block_on;
use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Error, Log, Lsn, Mark, Result, Visibility};
use rustix::io::Errno;

use crate::support::faulty::Call;
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::LONG;
use crate::support::{append, assert_record, assert_records, open_faulty, small, try_open};

/// What each call by `log` that can fail says.
fn outcomes(log: &Log) -> Vec<(&'static str, Option<Error>)> {
    macro_rules! outcomes {
        ($($call:ident($($argument:expr),*)),* $(,)?) => {
            vec![$((stringify!($call), log.$call($($argument),*).err())),*]
        };
    }
    let mut all = outcomes![
        append(1, b"late"),
        append_vectored(1, &[b"late"]),
        append_batch(&[(1, b"late")]),
        append_batch(&[]),
        append_batch_vectored(&[(1, &[b"late"])]),
        append_at(Lsn(301), 1, b"late"),
        append_batch_at(Lsn(301), &[(1, &[b"late"])]),
        append_with(1, 4, |_| ()),
        append_with_writer(1, 0, |_| Ok(())),
        append_void(),
        append_frames(b"late"),
        put_meta(1, b"late"),
        sync(),
        wait_durable(Lsn(1)),
        wait_durable(log.mark()),
        on_durable(Lsn(1), |_| ()),
        rotate(),
        trim_before(Lsn(1)),
        truncate_after(Lsn(1)),
        reset_to(Lsn(9)),
        pin(Lsn(1)),
        create_pin("late", "", Lsn(1), None),
        replace_pin("early", "", Lsn(1), None),
        advance_pin("early", Lsn(2)),
        rewind_pin("early", Lsn(1)),
        assign_pin("early", ""),
        limit_pin("early", None),
        drop_pin("early"),
        get(Lsn(1)),
        snapshot(),
        follow(Lsn(1), Visibility::Published),
        published_lsn(),
        sealed(0),
        next_sealed(0),
        durable_prefix(),
        close(),
    ];
    all.push(("durable", block_on(log.durable(Lsn(1))).err()));
    // With arguments that would be refused.
    let long = vec![0; log.payload_len_max() as usize + 1];
    all.extend(outcomes![
        append(1, &long),
        append_vectored(1, &[&long, b"late"]),
        append_batch(&[(1, &long)]),
        append_batch_vectored(&[(1, &[&long, b"late"])]),
        append_at(Lsn(1), 1, b"late"),
        append_at(Lsn(1), 1, &long),
        append_batch_at(Lsn(999), &[]),
        append_batch_at(Lsn(999), &[(1, &[b"late"])]),
        append_with(1, long.len(), |_| ()),
        append_with_writer(1, 4, |_| Ok(())),
        append_with_writer(1, 4, |_| Err(std::io::ErrorKind::Other.into())),
        append_with_writer(1, long.len(), |_| Ok(())),
        append_frames(b""),
        put_meta(99, b"late"),
        put_meta(1, &long),
        wait_durable(Lsn(999)),
        wait_durable(mark_of_another()),
        on_durable(Lsn(999), |_| ()),
        on_durable(mark_of_another(), |_| ()),
        trim_before(Lsn(999)),
        trim_before_with(Lsn(1), &[(99, b"late")]),
        truncate_after(Lsn(999)),
        truncate_after_with(Lsn(1), &[(99, b"late")]),
        reset_to(Lsn(0)),
        reset_to(Lsn(u64::MAX)),
        reset_to_with(Lsn(9), &[(99, b"late")]),
        pin(Lsn(999)),
        create_pin("", "", Lsn(1), None),
        create_pin("early", "", Lsn(999), None),
        replace_pin("", "", Lsn(1), None),
        replace_pin("early", "", Lsn(999), None),
        advance_pin("there is none", Lsn(2)),
        rewind_pin("there is none", Lsn(1)),
        assign_pin("there is none", ""),
        limit_pin("there is none", None),
        drop_pin("there is none"),
        get(Lsn(999)),
        get_many(&[Lsn(0), Lsn(999)]),
        follow(Lsn(999), Visibility::Published),
        sealed(u64::MAX),
        next_sealed(u64::MAX),
    ]);
    all.push(("durable", block_on(log.durable(Lsn(999))).err()));
    all
}

fn mark_of_another() -> Mark {
    let dir = scratch();
    open_small(dir.path()).mark()
}

#[test]
fn every_call_says_that_the_log_is_closed() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=300);
    log.put_meta(3, b"a vote").unwrap();
    log.create_pin("early", "", Lsn(1), None).unwrap();
    let other = log.clone();
    other.close().unwrap();
    for handle in [&log, &other] {
        for (call, outcome) in outcomes(handle) {
            assert!(matches!(outcome, Some(Error::Closed)), "{call}: {outcome:?}");
        }
    }
    // What cannot fail says what it knew.
    assert_eq!((log.first_lsn(), log.next_lsn(), log.durable_lsn()), (Lsn(1), Lsn(301), Lsn(300)));
    assert_eq!((log.meta(3).as_deref(), log.stats().records_appended), (Some(&b"a vote"[..]), 300));
    assert_eq!((log.pins().len(), log.directory()), (1, dir.path()));
    drop((log, other));
    let log = open_small(dir.path());
    assert!(log.recovery().clean);
    assert_records(&log.snapshot().unwrap(), 1, 300);
}

#[test]
fn what_goes_on_during_a_close_is_in_the_log_or_refused() {
    let calls: [fn(&Log) -> Result<()>; 8] = [
        |log| log.put_meta(3, b"a vote").map(|_| ()),
        |log| log.rotate().map(|_| ()),
        |log| log.sync().map(|_| ()),
        |log| log.wait_durable(log.mark()),
        |log| log.trim_before(Lsn(log.next_lsn().0.saturating_sub(2000).max(1))).map(|_| ()),
        |log| log.create_pin("pin", "", log.next_lsn(), None).and_then(|()| log.drop_pin("pin")),
        |log| log.snapshot().map(|_| ()),
        |log| block_on(log.durable(log.next_lsn().previous())),
    ];
    for _ in 0..30 {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=10);
        let begin = Barrier::new(calls.len() + 2);
        let appended = std::thread::scope(|scope| {
            for call in calls {
                let (handle, begin) = (log.clone(), &begin);
                scope.spawn(move || {
                    begin.wait();
                    loop {
                        match call(&handle) {
                            Ok(()) | Err(Error::NotAppended { .. } | Error::Pin { .. } | Error::Trimmed { .. }) => {}
                            Err(Error::Closed) => break,
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                });
            }
            let (handle, waits) = (log.clone(), &begin);
            let appender = scope.spawn(move || {
                waits.wait();
                let mut next = 11;
                loop {
                    match handle.append_batch_at(Lsn(next), &[(9, &[&next.to_le_bytes()])]) {
                        Ok(_) => next += 1,
                        Err(Error::Closed) => break next,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
            begin.wait();
            std::thread::yield_now();
            log.close().unwrap();
            // At once: no call of the old handles touches a file any more.
            let found = Inspection::open(dir.path()).unwrap().verify(VerifyOptions::new(), &mut |_| {}).unwrap();
            assert!(found.closed && found.damage.is_empty(), "{found:?}");
            let again = open_small(dir.path());
            assert!(again.recovery().clean);
            again.append(9, b"by the next one").unwrap();
            again.close().unwrap();
            appender.join().unwrap()
        });
        let log = open_small(dir.path());
        assert_eq!(log.next_lsn(), Lsn(appended + 1), "each that was not refused, and the next one's");
        assert_eq!(log.get(Lsn(appended)).unwrap().unwrap().payload(), b"by the next one");
        if appended > 11 {
            assert_eq!(log.get(Lsn(appended - 1)).unwrap().unwrap().payload(), (appended - 1).to_le_bytes());
        }
    }
}

#[test]
fn a_closed_directory_opens_again_beside_old_handles_and_views() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=900);
    let snapshot = log.snapshot().unwrap();
    let record = log.get(Lsn(5)).unwrap().unwrap();
    let sealed = log.sealed(0).unwrap();
    let bytes: Vec<_> = sealed.iter().map(|segment| segment.bytes().to_vec()).collect();
    let mut follower = log.follow(Lsn(1), Visibility::Durable).unwrap();
    let pin = log.pin(Lsn(3)).unwrap();
    log.close().unwrap();

    let again = open_small(dir.path());
    append(&again, 901..=1800);
    again.trim_before(Lsn(1500)).unwrap();
    append(&again, 1801..=5000); // into files that were others before, were they not still read
    assert_records(&snapshot, 1, 900);
    assert_record(&record.record(), 5);
    assert!(sealed.iter().zip(&bytes).all(|(segment, bytes)| segment.bytes() == bytes));
    (1..=900).for_each(|number| assert_record(&follower.next_blocking().unwrap(), number));
    assert!(matches!(follower.next_blocking(), Err(Error::Closed)), "it is of the log that was closed");
    drop(pin);
    assert!(matches!(log.append(1, b"late"), Err(Error::Closed)));
    drop(log);
    assert_records(&again.snapshot().unwrap(), again.first_lsn().0, 5000);
    again.sync().unwrap();
}

#[test]
fn one_of_many_closes_it() {
    for _ in 0..20 {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=10);
        let closed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (log, closed) = (log.clone(), &closed);
                scope.spawn(move || match log.close() {
                    Ok(()) => assert_eq!(closed.fetch_add(1, Ordering::SeqCst), 0),
                    Err(error) => assert!(matches!(error, Error::Closed)),
                });
            }
        });
        assert_eq!(closed.into_inner(), 1);
    }
}

#[test]
fn a_callback_and_a_closure_may_ask_for_a_close() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    let refused = log.append_with(1, 8, |_| assert!(matches!(log.close(), Err(Error::InsideAppend))));
    assert_eq!(refused.unwrap(), Lsn(11));
    let (tell, told) = mpsc::channel();
    for _ in 0..3 {
        let (log, tell) = (log.clone(), tell.clone());
        log.clone().on_durable(Lsn(10), move |outcome| tell.send((outcome, log.close())).unwrap()).unwrap();
    }
    let outcomes: Vec<_> = (0..3).map(|_| told.recv_timeout(LONG).expect("none waits for ever")).collect();
    assert_eq!(outcomes.iter().filter(|(_, closed)| closed.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|(outcome, _)| outcome.is_ok()), "{outcomes:?}");
    open_small(dir.path()).close().unwrap();
}

#[test]
fn a_callback_that_is_asked_for_during_a_close_is_told_or_refused() {
    for _ in 0..50 {
        let dir = scratch();
        let log = open_small(dir.path());
        append(&log, 1..=10);
        let (tell, told) = mpsc::channel();
        let asked = std::thread::scope(|scope| {
            let asker = log.clone();
            let asking = scope.spawn(move || {
                (1_usize..).find(|_| {
                    let tell = tell.clone();
                    asker.on_durable(Lsn(10), move |outcome| tell.send(outcome.is_ok()).unwrap()).is_err()
                })
            });
            std::thread::yield_now();
            log.close().unwrap();
            asking.join().unwrap().unwrap() - 1
        });
        let mut count = 0;
        // The channel ends when no callback is left that could be told.
        while let Ok(outcome) = told.recv_timeout(LONG) {
            assert!(outcome);
            count += 1;
        }
        assert_eq!(count, asked);
    }
}

#[test]
fn a_close_that_fails_lets_the_directory_go_all_the_same() {
    let dir = scratch();
    let (log, faults) = open_faulty(dir.path());
    append(&log, 1..=10);
    log.sync().unwrap();
    append(&log, 11..=20);
    // First: what is awaited may be synced at once.
    faults.fail(Call::SyncMapping, Errno::IO);
    let awaited = log.durable(Lsn(20));
    assert!(matches!(log.close(), Err(Error::Poisoned { durable: Lsn(10), .. })));
    assert!(matches!(block_on(awaited), Ok(()) | Err(Error::Poisoned { .. })));
    assert!(matches!(log.append(1, b"late"), Err(Error::Closed)) && matches!(log.sync(), Err(Error::Closed)));
    let log = open_small(dir.path());
    assert!(!log.recovery().clean && log.next_lsn() > Lsn(10));
}

#[test]
fn only_the_last_handle_ends_the_log() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    let mut follower = log.follow(Lsn(11), Visibility::Published).unwrap();
    let (tell, told) = mpsc::channel();
    let follows = std::thread::spawn(move || {
        loop {
            let heard = follower.next_blocking().map(|record| record.lsn());
            let is_over = heard.is_err();
            tell.send(heard).unwrap();
            if is_over {
                break;
            }
        }
    });
    drop(log.clone());
    assert!(matches!(try_open(dir.path(), &small()), Err(Error::Locked { .. })));
    block_on(log.durable(Lsn(10))).unwrap();
    let last = log.clone();
    drop(log);
    append(&last, 11..=12);
    block_on(last.durable(Lsn(12))).unwrap();
    let hear = || told.recv_timeout(LONG).expect("it is told");
    assert_eq!([hear(), hear()].map(Result::unwrap), [Lsn(11), Lsn(12)]);
    assert!(told.try_recv().is_err(), "the log is open");
    drop(last);
    assert!(matches!(hear(), Err(Error::Closed)));
    follows.join().unwrap();
    assert_eq!(open_small(dir.path()).next_lsn(), Lsn(13));
}
