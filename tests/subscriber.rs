//! A subscriber of events may do with the log what it likes: use it, panic, never return.
//!
//! A program of its own, since it has a subscriber for the whole process.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::wal::{TransactionId, Wal, WalOptions};
use mapwal::{Error, Log, LogReader, Options, PinDirectory, Visibility};
use tempfile::TempDir;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Far longer than all of it takes.
const PATIENCE: Duration = Duration::from_secs(180);
const SEGMENT: u64 = 64 << 10;
const THREADS: u64 = 3;
const ROUNDS: u64 = 6;

/// The log that the subscriber uses, which is the one that sends the events.
static LOG: Mutex<Option<Arc<Log>>> = Mutex::new(None);
/// The one with transactions that it uses, which sends events as well.
static WAL: Mutex<Option<Arc<Wal>>> = Mutex::new(None);
static HEARD: AtomicU64 = AtomicU64::new(0);
/// Threads of logs on which the subscriber was called.
static CALLED_ON: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// The only threads of logs that may run what the application does.
const FOR_THE_APPLICATION: [&str; 2] = ["mapwal-events", "mapwal-callbacks"];

/// Whether the subscriber does not return from what it hears on `mapwal-events`, and whether it is in there.
#[derive(Default)]
struct Stuck {
    is_wanted: bool,
    is_there: bool,
}

static STUCK: Mutex<Stuck> = Mutex::new(Stuck { is_wanted: false, is_there: false });
static CHANGED: Condvar = Condvar::new();
/// Held by the test that runs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread is inside of an event: those that come of its own calls are heard, and no more is done.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

fn current() -> Option<Arc<Log>> {
    LOG.lock().unwrap().clone()
}

fn open(directory: &TempDir) -> Log {
    // SAFETY: the directory is a temporary one that only this test touches.
    unsafe { Log::open(directory.path(), &Options::new().segment_size_bytes(SEGMENT)) }.expect("the log opens")
}

/// Calls every method of a log but those that change the whole of it.
fn use_inside(log: &Log, turn: u64) {
    let next = log.next_lsn();
    let name = format!("inside-{turn}");
    let _ = (log.append(1, b"a"), log.append_batch(&[(1, b"a")]), log.append_with(1, 1, |_| ()), log.put_meta(1, b"a"));
    let _ = log.append_with_writer(1, 1, |writer| {
        writer.put_slice(b"a");
        Ok(())
    });
    let _ = (log.sync(), log.wait_durable(next), log.rotate(), log.trim_before(next), log.truncate_after(next));
    let _ = (log.pin(next), log.create_pin(&name, "", next, None), log.drop_pin(&name), log.pins());
    let _ = (log.meta(1), log.stats(), log.published_lsn(), log.durable_lsn(), log.first_lsn());
    let _ = log.snapshot().map(|snapshot| snapshot.iter().flatten().count());
    let _ = (log.get(next), log.sealed(1).map(|sealed| sealed.len()));
    let _ = log.on_durable(log.durable_lsn(), |_| ());
}

/// Does what others do with the directory of a log that is open.
fn use_beside(log: &Log, turn: u64) {
    // SAFETY: the directory is a temporary one that only this test touches.
    let reader = unsafe { LogReader::open(log.directory()) };
    let _ = reader.map(|reader| reader.snapshot().map(|snapshot| snapshot.iter().flatten().count()));
    let pins = PinDirectory::open(log.directory());
    let _ = pins.map(|pins| (pins.create(&format!("beside-{turn}"), "", log.next_lsn(), None), pins.list()));
    let mut progress = |_| drop(current().map(|log| log.sync()));
    let _ =
        Inspection::open(log.directory()).map(|inspection| inspection.verify(VerifyOptions::default(), &mut progress));
}

/// A log of transactions, with events in each of its calls.
fn use_transactions() {
    let directory = tempfile::tempdir().unwrap();
    // SAFETY: the directory is a temporary one that only this test touches.
    let opened = unsafe { Wal::open_and_recover(directory.path(), &WalOptions::new()) };
    let (wal, recovery) = opened.unwrap();
    drop(recovery);
    let wal = Arc::new(wal);
    *WAL.lock().unwrap() = Some(Arc::clone(&wal));
    use_wal(&wal);
    wal.log_begin(TransactionId(7)).unwrap();
    let mut transaction = wal.begin().unwrap();
    transaction.insert(None, b"data").unwrap();
    drop(transaction);
    let mut transaction = wal.begin().unwrap();
    transaction.insert(None, b"data").unwrap();
    let undone = transaction.abort(|undoing| {
        let _ = current().map(|log| log.sync());
        use_wal(&wal);
        undoing.compensate(b"undone")
    });
    undone.unwrap();
    drop(wal.begin().unwrap().commit().unwrap());
    wal.flush().unwrap();
}

/// Calls methods of a log with transactions, of which any may fail.
fn use_wal(wal: &Wal) {
    let _ = wal.begin().map(|mut transaction| {
        let _ = transaction.insert(None, b"data");
        transaction.commit().map(|committed| committed.applied())
    });
    let _ = wal.begin().map(|transaction| transaction.abort(|undoing| undoing.compensate(b"undone")));
    let _ = wal.begin().map(drop);
    let _ = wal.log_commit(TransactionId(7), None);
    let _ = wal.begin_checkpoint().map(|checkpoint| checkpoint.log(&[], &[]));
    let _ = (wal.truncate_before_checkpoint(), wal.append_plain(0x8000, b"data"), wal.flush());
}

/// Calls every method of the log. Others change it meanwhile, so any of them may fail: what counts is that all return.
fn use_all(log: &Log, turn: u64) {
    let next = log.next_lsn();
    let name = format!("pin-{turn}");
    let _ = log.append(1, &[7; 9000]);
    let _ = log.append_vectored(1, &[b"a", b"b"]);
    let _ = log.append_batch(&[(1, b"a"), (1, b"b")]);
    let _ = log.append_with_writer(1, 9, |writer| {
        use_inside(log, turn);
        writer.put_slice(&[1; 9]);
        Ok(())
    });
    let _ = log.append_with(1, 9, |bytes| {
        bytes.fill(1);
        use_inside(log, turn);
        // With events, which are sent before the closure is over.
        drop(open(&tempfile::tempdir().unwrap()));
    });
    let _ = log.append_void();
    let _ = log.append_frames(b"none");
    let _ = log.put_meta(1, b"value");
    let _ = log.on_durable(next, |_| drop(current().map(|log| log.sync())));
    let _ = (log.sync(), log.wait_durable(next), log.rotate());
    let _ = (log.pin(next).map(|mut pin| pin.advance(next.next())), log.create_pin(&name, "", next, None));
    let _ = (log.advance_pin(&name, log.next_lsn()), log.rewind_pin(&name, next), log.drop_pin(&name), log.pins());
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

/// Is thrown, and panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a panic in a subscriber");
    }
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
        if let Some(name) = std::thread::current().name().filter(|name| name.starts_with("mapwal-")) {
            CALLED_ON.lock().unwrap().push(name.to_owned());
            stay_if_wanted(name);
        }
        if DEPTH.get() > 0 {
            return;
        }
        DEPTH.set(DEPTH.get() + 1);
        if let Some(log) = current() {
            use_all(&log, turn);
            use_beside(&log, turn);
        }
        let wal = WAL.lock().unwrap().clone();
        if let Some(wal) = wal {
            use_wal(&wal);
        }
        let other = tempfile::tempdir().unwrap();
        let other_log = open(&other);
        // Refused inside of an append to the first.
        let _ = (other_log.append(1, b"record"), other_log.close());
        DEPTH.set(DEPTH.get() - 1);
        assert!(!turn.is_multiple_of(5), "a panic in a subscriber");
        if turn.is_multiple_of(7) {
            std::panic::panic_any(Bomb);
        }
    }
}

/// Does not return as long as that is wanted.
fn stay_if_wanted(thread: &str) {
    let mut stuck = STUCK.lock().unwrap();
    while stuck.is_wanted && thread == "mapwal-events" {
        stuck.is_there = true;
        CHANGED.notify_all();
        stuck = CHANGED.wait(stuck).unwrap();
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
                    use_beside(&log, round * THREADS + thread);
                    if round % 3 == 0 {
                        use_transactions();
                    }
                }
            });
        }
    });
    *WAL.lock().unwrap() = None;
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

/// Begins a test.
fn subscribe() -> MutexGuard<'static, ()> {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Fails but for the first.
    if tracing::subscriber::set_global_default(Curious).is_ok() {
        let quiet = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.to_string().contains("a panic in a subscriber") && !panic.payload().is::<Bomb>() {
                quiet(panic);
            }
        }));
    }
    alone
}

/// Ends the process if `work` hangs.
fn in_time(work: impl FnOnce() + Send + 'static) {
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
}

#[test]
fn a_subscriber_that_calls_every_method_on_every_event_hangs_nobody() {
    let _alone = subscribe();
    in_time(work);
    assert!(HEARD.load(Ordering::Relaxed) > ROUNDS, "{} events", HEARD.load(Ordering::Relaxed));
    let called_on = CALLED_ON.lock().unwrap();
    let others: Vec<_> = called_on.iter().filter(|name| !FOR_THE_APPLICATION.contains(&&***name)).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn a_subscriber_that_does_not_return_stops_nobody() {
    let _alone = subscribe();
    STUCK.lock().unwrap().is_wanted = true;
    in_time(|| {
        let directory = tempfile::tempdir().unwrap();
        let log = Arc::new(open(&directory));
        log.append(1, b"record").unwrap();
        log.rotate().unwrap();
        let mut stuck = STUCK.lock().unwrap();
        while !stuck.is_there {
            stuck = CHANGED.wait(stuck).unwrap();
        }
        drop(stuck);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let log = &log;
                scope.spawn(move || (0..ROUNDS).for_each(|round| use_all(log, round * THREADS + thread)));
            }
        });
        log.close().unwrap();
        open(&directory).close().unwrap();
    });
    let mut stuck = STUCK.lock().unwrap();
    assert!(stuck.is_there);
    stuck.is_wanted = false;
    CHANGED.notify_all();
}
