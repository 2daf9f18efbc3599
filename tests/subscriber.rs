//! A subscriber of events may do with the log what it likes.
//!
//! A program of its own, since it has a subscriber for the whole process.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use mapwal::{Error, Log, Options, Visibility};
use tempfile::TempDir;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Far longer than all of it takes.
const PATIENCE: Duration = Duration::from_mins(1);
const SEGMENT: u64 = 64 << 10;
const THREADS: u64 = 3;
const ROUNDS: u64 = 12;

/// The log that the subscriber uses, which is the one that sends the events.
static LOG: Mutex<Option<Arc<Log>>> = Mutex::new(None);
static HEARD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Events inside of events.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

fn current() -> Option<Arc<Log>> {
    LOG.lock().unwrap().clone()
}

fn open(directory: &TempDir) -> Log {
    // SAFETY: the directory is a temporary one that only this test touches.
    unsafe { Log::open(directory.path(), &Options::new().segment_size_bytes(SEGMENT)) }.expect("the log opens")
}

/// Calls every method of the log. Others change it meanwhile, so any of them may fail: what counts is that all return.
fn use_all(log: &Log, turn: u64) {
    let next = log.next_lsn();
    let name = format!("pin-{turn}");
    let _ = log.append(1, &[7; 9000]);
    let _ = log.append_vectored(1, &[b"a", b"b"]);
    let _ = log.append_batch(&[(1, b"a"), (1, b"b")]);
    let _ = log.append_with(1, 9, |bytes| bytes.fill(1));
    let _ = log.append_void();
    let _ = log.append_frames(b"none");
    let _ = log.put_meta(1, b"value");
    let _ = log.on_durable(next, |_| drop(current().map(|log| log.sync())));
    let _ = (log.sync(), log.wait_durable(next), log.rotate());
    let _ = (log.pin(next).map(|mut pin| pin.advance(next.next())), log.create_pin(&name, "", next, None));
    let _ = (log.advance_pin(&name, log.next_lsn()), log.drop_pin(&name), log.pins());
    let _ = (log.meta(1), log.stats(), log.recovery(), log.published_lsn(), log.durable_lsn(), log.first_lsn());
    let _ = log.snapshot().map(|snapshot| snapshot.iter().flatten().count());
    let _ = log.follow(next, Visibility::Durable).map(|mut follower| follower.next().is_ok());
    let _ = (log.get(next), log.sealed(1).map(|sealed| sealed.len()));
    let _ = match turn % 3 {
        0 => log.trim_before(next).map(drop),
        1 => log.truncate_after(next),
        _ => log.reset_to(next),
    };
}

/// Uses the log on every event, and panics on some.
struct Curious;

impl Subscriber for Curious {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mapwal")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        let turn = HEARD.fetch_add(1, Ordering::Relaxed);
        if DEPTH.get() > 1 {
            return;
        }
        DEPTH.set(DEPTH.get() + 1);
        if let Some(log) = current() {
            use_all(&log, turn);
        }
        let other = tempfile::tempdir().unwrap();
        let other_log = open(&other);
        other_log.append(1, b"record").unwrap();
        other_log.close().unwrap();
        DEPTH.set(DEPTH.get() - 1);
        assert!(!turn.is_multiple_of(5), "a panic in a subscriber");
    }
}

fn work() {
    let directory = tempfile::tempdir().unwrap();
    *LOG.lock().unwrap() = Some(Arc::new(open(&directory)));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let log = current().expect("set above");
                    use_all(&log, round * THREADS + thread);
                }
            });
        }
    });
    let mut shared = LOG.lock().unwrap().take().expect("set above");
    let log = loop {
        match Arc::try_unwrap(shared) {
            Ok(log) => break log,
            // A callback has it still.
            Err(still) => shared = still,
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    log.close().expect("closed");
    let log = open(&directory);
    assert!(matches!(log.get(log.next_lsn()), Err(Error::NotAppended { .. })));
}

#[test]
fn a_subscriber_that_calls_every_method_on_every_event_hangs_nobody() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.to_string().contains("a panic in a subscriber") {
            quiet(panic);
        }
    }));
    tracing::subscriber::set_global_default(Curious).unwrap();
    let (done, finished) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        work();
        done.send(())
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = finished.recv_timeout(PATIENCE) {
        eprintln!("hangs after {} events", HEARD.load(Ordering::Relaxed));
        std::process::abort();
    }
    worker.join().unwrap().unwrap();
    assert!(HEARD.load(Ordering::Relaxed) > ROUNDS, "{} events", HEARD.load(Ordering::Relaxed));
}
