//! A follower as a stream.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use futures_core::Stream;
use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::join;
use mapwal::{Error, FollowerStream, Log, Lsn, Visibility};
use parking_lot::{Condvar, Mutex};

use crate::support::scratch::{open_small, scratch};
use crate::support::wait::LONG;
use crate::support::{append, assert_record, read_only};

const RECORDS: u64 = 500;

/// Appends the records one by one, so that a follower has to wait.
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
fn a_stream_goes_on_after_a_rewind() {
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

/// Panics when it is called, with something that panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "what a waker of the test has thrown");
    }
}

struct ThrowsBombs(mpsc::Sender<()>);

impl Wake for ThrowsBombs {
    fn wake(self: Arc<Self>) {
        self.0.send(()).unwrap();
        std::panic::panic_any(Bomb);
    }
}

/// Does not return until it is released, and says that it has been called.
struct Stuck {
    called: mpsc::Sender<()>,
    is_released: Mutex<bool>,
    changed: Condvar,
}

impl Stuck {
    fn new(called: mpsc::Sender<()>) -> Arc<Self> {
        Arc::new(Self { called, is_released: Mutex::new(false), changed: Condvar::new() })
    }

    fn release(&self) {
        *self.is_released.lock() = true;
        self.changed.notify_all();
    }
}

impl Wake for Stuck {
    fn wake(self: Arc<Self>) {
        self.called.send(()).unwrap();
        self.changed.wait_while(&mut self.is_released.lock(), |is_released| !*is_released);
    }
}

fn poll(stream: &mut FollowerStream, waker: &Waker) -> bool {
    Pin::new(stream).poll_next(&mut Context::from_waker(waker)).is_ready()
}

/// The record that comes next to `stream`, with an end to the waiting.
fn next_in_time(mut stream: FollowerStream) -> (FollowerStream, Lsn) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let lsn = block_on(stream.next()).unwrap().unwrap().lsn();
        let _ = tell.send((stream, lsn));
    });
    told.recv_timeout(LONG).expect("the stream is woken")
}

#[test]
fn what_wakers_throw_harms_no_other_stream_however_many_they_are() {
    let dir = scratch();
    let log = open_small(dir.path());
    let follow = || log.follow(log.next_lsn(), Visibility::Published).unwrap().into_stream();
    let (tell, told) = mpsc::channel();
    let waker = Waker::from(Arc::new(ThrowsBombs(tell)));
    // More than there are threads for wakers.
    for _ in 0..70 {
        let mut bad = follow();
        assert!(!poll(&mut bad, &waker));
        log.append(1, b"record").unwrap();
        told.recv_timeout(LONG).expect("it is called, whatever the ones before have thrown");
    }
    let good = follow();
    let next = log.next_lsn();
    let receiving = std::thread::spawn(|| next_in_time(good).1);
    std::thread::sleep(Duration::from_millis(20));
    log.append(1, b"record").unwrap();
    assert_eq!(receiving.join().unwrap(), next);
}

#[test]
fn wakers_that_do_not_return_stop_no_other_stream() {
    let dir = scratch();
    let log = open_small(dir.path());
    let follow = || log.follow(log.next_lsn(), Visibility::Published).unwrap().into_stream();
    let (tell, called) = mpsc::channel();
    let stuck: Vec<_> = (0..5).map(|_| Stuck::new(tell.clone())).collect();
    let mut good = follow();
    let mut bad: Vec<_> = stuck.iter().map(|_| follow()).collect();
    for (stream, waker) in bad.iter_mut().zip(&stuck) {
        assert!(!poll(stream, &Waker::from(Arc::clone(waker))));
    }
    for lsn in 1..=10 {
        let receiving = std::thread::spawn(|| next_in_time(good));
        std::thread::sleep(Duration::from_millis(5));
        log.append(1, b"record").unwrap();
        let received;
        (good, received) = receiving.join().unwrap();
        assert_eq!(received, Lsn(lsn));
    }
    for _ in &stuck {
        called.recv_timeout(LONG).expect("each is called, whatever the ones before do");
    }
    stuck.iter().for_each(|stuck| stuck.release());
    for stream in bad {
        assert_eq!(next_in_time(stream).1, Lsn(1));
    }
}

/// Says which thread drops it.
struct Dropped(mpsc::Sender<ThreadId>);

impl Wake for Dropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(std::thread::current().id()).unwrap();
    }
}

#[test]
fn the_waker_of_a_stream_is_dropped_on_the_thread_that_drops_the_stream() {
    let dir = scratch();
    let log = open_small(dir.path());
    let (tell, told) = mpsc::channel();
    for _ in 0..20 {
        let mut stream = log.follow(log.next_lsn(), Visibility::Published).unwrap().into_stream();
        assert!(!poll(&mut stream, &Waker::from(Arc::new(Dropped(tell.clone())))));
        // The thread for all streams has it in hand by then.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(2) {
            std::thread::yield_now();
        }
        drop(stream);
        assert_eq!(told.recv_timeout(LONG).unwrap(), std::thread::current().id());
    }
}

/// Polls the stream that it was called for, and uses the log.
struct UsesAll {
    log: Arc<Log>,
    stream: Mutex<Option<FollowerStream>>,
    done: mpsc::Sender<Lsn>,
}

impl Wake for UsesAll {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut stream = self.stream.lock();
        let Some(stream) = stream.as_mut() else { return };
        // Until it has asked to be called once more.
        while let Poll::Ready(record) = Pin::new(&mut *stream).poll_next(&mut Context::from_waker(&waker)) {
            self.log.rotate().unwrap();
            self.log.sync().unwrap();
            self.done.send(record.unwrap().unwrap().lsn()).unwrap();
        }
    }
}

#[test]
fn a_waker_may_poll_its_stream_and_use_the_log() {
    let dir = scratch();
    let log = Arc::new(open_small(dir.path()));
    let stream = log.follow(Lsn(1), Visibility::Published).unwrap().into_stream();
    let (done, told) = mpsc::channel();
    let task = Arc::new(UsesAll { log: Arc::clone(&log), stream: Mutex::new(Some(stream)), done });
    let waker = Waker::from(Arc::clone(&task));
    assert!(!poll(task.stream.lock().as_mut().unwrap(), &waker));
    for lsn in 1..=20 {
        log.append(1, b"record").unwrap();
        assert_eq!(told.recv_timeout(LONG).unwrap(), Lsn(lsn));
    }
    // The task holds the stream, which holds its waker.
    drop(task.stream.lock().take());
}
