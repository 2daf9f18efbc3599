//! A follower as a stream.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::join;
use mapwal::{Error, Log, Lsn, Visibility};

use crate::scratch::{open_small, scratch};
use crate::support::{append, assert_record, read_only};

const RECORDS: u64 = 500;

/// Appends the records one by one, so that whoever follows has to wait.
fn append_slowly(log: &Log) {
    for number in 1..=RECORDS {
        append(log, number..=number);
        if number % 10 == 0 {
            log.sync().unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

async fn receive(mut stream: impl StreamExt<Item = mapwal::Result<mapwal::RecordRef>> + Unpin) {
    for number in 1..=RECORDS {
        let record = stream.next().await.expect("the log is there").unwrap();
        assert_record(&record.record(), number);
    }
}

#[test]
fn streams_in_one_task_receive_every_record() {
    let dir = scratch();
    let log = open_small(dir.path());
    let inside = log.follow(Lsn(1), Visibility::Durable).unwrap().into_stream();
    let outside = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Published).unwrap().into_stream();
    std::thread::scope(|scope| {
        scope.spawn(|| append_slowly(&log));
        block_on(join(receive(inside), receive(outside)));
    });
}

#[test]
fn a_stream_goes_on_behind_a_rewind() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=9);
    let mut stream = log.follow(Lsn(1), Visibility::Published).unwrap().into_stream();
    block_on(async {
        for number in 1..=9 {
            assert_eq!(stream.next().await.unwrap().unwrap().lsn(), Lsn(number));
        }
        log.truncate_after(Lsn(4)).unwrap();
        log.append(1, b"new").unwrap();
        assert!(matches!(stream.next().await, Some(Err(Error::Rewound { to: Lsn(5) }))));
        assert_eq!(stream.next().await.unwrap().unwrap().payload(), b"new");
    });
}

#[test]
fn a_stream_that_is_dropped_while_it_waits_is_forgotten() {
    let dir = scratch();
    let log = open_small(dir.path());
    for _ in 0..50 {
        let mut stream = log.follow(log.next_lsn(), Visibility::Published).unwrap().into_stream();
        assert!(block_on(async { futures_util::poll!(stream.next()) }).is_pending());
    }
    let mut stream = log.follow(log.next_lsn(), Visibility::Published).unwrap().into_stream();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            log.append(1, b"record").unwrap();
        });
        assert_eq!(block_on(stream.next()).unwrap().unwrap().payload(), b"record");
    });
}

#[test]
fn a_stream_ends_with_its_log() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=3);
    let stream = log.follow(Lsn(1), Visibility::Published).unwrap().into_stream();
    let dropping = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(log);
    });
    assert_eq!(block_on(stream.map(|record| record.unwrap().lsn().0).collect::<Vec<_>>()), [1, 2, 3]);
    dropping.join().unwrap();
}

/// Panics when it is called.
struct Panics(AtomicBool);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
        panic!("a waker of the test");
    }
}

#[test]
fn a_waker_that_panics_harms_no_other_stream() {
    let dir = scratch();
    let log = open_small(dir.path());
    let follow = || log.follow(log.next_lsn(), Visibility::Published).unwrap().into_stream();
    let (mut bad, mut good) = (pin!(follow()), follow());
    let panics = Arc::new(Panics(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&panics));
    for round in 1..=3 {
        assert!(bad.as_mut().poll_next(&mut Context::from_waker(&waker)).is_pending());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                log.append(1, b"record").unwrap();
            });
            assert_eq!(block_on(good.next()).unwrap().unwrap().lsn(), Lsn(round));
        });
        while !panics.0.swap(false, Ordering::AcqRel) {
            std::thread::yield_now();
        }
        assert_eq!(block_on(bad.next()).unwrap().unwrap().lsn(), Lsn(round), "it has been woken all the same");
    }
}
