//! A process that appends from several threads is killed again and again, also while it recovers from the last time.
//! Whatever it had published before is there, as it was, and the log goes on.
//!
//! This says nothing about a loss of power: the page cache outlives the process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use mapwal::{Log, Lsn};

use crate::support::child::{self, Child};
use crate::support::scratch::open_small;
use crate::support::wait::until;

const LOGS: u64 = 10;
const LIVES_PER_LOG: u64 = 10;
const THREADS: u64 = 4;
/// The number that stands for this process among the threads.
const PARENT: u64 = THREADS;
const SEED: u64 = 0x5eed;
/// Holds the number of the life that is lived.
const LIFE: &str = "life";
/// Holds the last durable and the last published record, as the process saw them.
const MARKS: &str = "marks";

/// The payload of record `counter` of a thread in a life.
fn stamp(life: u64, thread: u64, counter: u64) -> Vec<u8> {
    let mut bytes = [life, thread, counter].map(u64::to_le_bytes).concat();
    bytes.extend((0..counter * 53 % 700).map(|at| (life + thread * 7 + counter * 13 + at).to_le_bytes()[0]));
    bytes
}

/// Life, thread and counter of a payload, which must be as [`stamp`] makes it.
fn read_stamp(payload: &[u8]) -> (u64, u64, u64) {
    let (life, thread, counter) = (word(payload, 0), word(payload, 1), word(payload, 2));
    assert!(payload == stamp(life, thread, counter), "life {life}, thread {thread}, record {counter}");
    (life, thread, counter)
}

fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[index * 8..][..8].try_into().unwrap())
}

fn append(log: &Log, life: u64, thread: u64, counter: u64) {
    let payload = stamp(life, thread, counter);
    if counter.is_multiple_of(3) {
        log.append_with(0, payload.len(), |bytes| bytes.copy_from_slice(&payload)).unwrap();
    } else {
        log.append(0, &payload).unwrap();
    }
    if counter % 64 == thread {
        log.sync().unwrap();
    }
}

#[test]
#[ignore = "another test runs it as a process of its own, and kills it"]
fn appends_until_it_is_killed() {
    let Some(directory) = child::directory() else { return };
    let life = word(&fs::read(directory.join(LIFE)).unwrap(), 0);
    let marks = File::options().write(true).open(directory.join(MARKS)).unwrap();
    let log = open_small(&directory.join("log"));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for counter in 0.. {
                    append(log, life, thread, counter);
                }
            });
        }
        loop {
            let seen = [log.durable_lsn().0, log.published_lsn().unwrap().0];
            marks.write_all_at(&seen.map(u64::to_le_bytes).concat(), 0).unwrap();
        }
    });
}

/// Starts a process that appends to the log in `directory` until it is killed, in a life of this number.
pub(crate) fn spawn(directory: &Path, life: u64) -> Child {
    fs::write(directory.join(LIFE), life.to_le_bytes()).unwrap();
    fs::write(directory.join(MARKS), "").unwrap();
    Child::spawn("crash::killed::appends_until_it_is_killed", directory)
}

/// Has a process live and die in a log with records up to `last`; returns the last durable and the last published record that
/// it saw.
fn live_and_die(directory: &Path, life: u64, last: u64, random: &mut fastrand::Rng) -> (u64, u64) {
    let child = spawn(directory, life);
    let seen = || {
        let marks = fs::read(directory.join(MARKS)).unwrap();
        (marks.len() == 16).then(|| (word(&marks, 0), word(&marks, 1)))
    };
    // One in four may be hit before it has opened the log.
    if random.u8(0..4) > 0 {
        until("a record of this life", || seen().is_some_and(|(_, published)| published > last));
    }
    std::thread::sleep(Duration::from_micros(random.u64(0..15_000)));
    child.kill();
    seen().unwrap_or_default()
}

/// Checks every record, and that none of a thread is missing among those before its last. Returns how many there are.
fn check(log: &Log) -> u64 {
    let mut counters = BTreeMap::new();
    let mut last = 0;
    for record in &log.snapshot().unwrap() {
        let record = record.unwrap();
        assert_eq!(record.lsn(), Lsn(last + 1));
        let (life, thread, counter) = read_stamp(record.payload());
        let expected = counters.entry((life, thread)).or_insert(0);
        assert_eq!(counter, *expected, "life {life}, thread {thread}");
        *expected += 1;
        last += 1;
    }
    assert_eq!(log.next_lsn(), Lsn(last + 1));
    last
}

#[test]
fn what_was_published_survives_a_kill_at_any_time() {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut lives_that_published = 0;
    for log in 0..LOGS {
        let dir = tempfile::tempdir().unwrap();
        let mut last = 0;
        for life in 0..LIVES_PER_LOG {
            println!("seed {SEED:#x}, log {log}, life {life}");
            let (durable, published) = live_and_die(dir.path(), life, last, &mut random);
            assert!(durable <= published, "durable {durable}, published {published}");
            lives_that_published += u64::from(published > last);
            let log = open_small(&dir.path().join("log"));
            let found = check(&log);
            assert!(found >= published.max(last), "{found} records of {published} published, {last} before");
            (0..3).for_each(|counter| append(&log, life, PARENT, counter));
            last = check(&log);
            assert_eq!(last, found + 3);
            if random.bool() { log.close().unwrap() } else { drop(log) }
        }
    }
    assert!(lives_that_published > LOGS * LIVES_PER_LOG / 2, "only {lives_that_published} lives came to publish");
}
