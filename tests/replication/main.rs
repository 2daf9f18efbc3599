//! One writer and three followers, each a process of its own, with everything happening at once.
//!
//! The writer appends records and batches over segments of 64 KiB, syncs, rotates, trims, truncates, and moves pins, all
//! at random; it is killed and started again 30 times. Of the followers two see what is published, of which one is stopped
//! now and then, and one what is durable. Each record carries its number and the term in which it was appended, and terms never repeat; so each
//! follower can tell that its records are dense, and that every gap was announced by [`Error::Trimmed`] and every step
//! back by [`Error::Rewound`]; and each keeps a snapshot for a while, whose bytes stay, over the files that become others. In the end what the followers hold must be what the log holds, and where that has been
//! trimmed, what the other followers hold.
//!
//! It has been seen to fail with each of these in its place:
//!
//! - a follower that enters a segment at its second record;
//! - a follower that takes account of a truncation only if it is the first one;
//! - a trim that does not look at named pins;
//! - a walk that goes on after the end that a successor states;
//! - a file that becomes another segment while a process reads it.
//!
//! That no wake-up is lost is shown in `tests/it/read/waking/`.

#![allow(clippy::unwrap_used, reason = "a test that fails says so by panicking")]

mod follower;
mod payload;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mapwal::{LogReader, Visibility};
use rustix::process::{Pid, Signal};

/// How often the writer is killed, at least: on a machine that is busy, until all has happened that is to be looked at.
const KILLS: u64 = 30;
/// How long that may take, and everything.
const LIVES: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(240);
/// Written by the test when the writer has come to its end.
const STOP_FILE: &str = "stop";
/// Written by the writer when files of trimmed segments have become others, and by followers when they were told of a trim or a
/// truncation.
const RECYCLED_FILE: &str = "recycled";
const TRIMMED_FILE: &str = "trimmed";
const REWOUND_FILE: &str = "rewound";

#[test]
fn followers_see_every_record_once_and_are_told_of_every_gap() {
    let seed = std::env::var("REPLICATION_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("REPLICATION_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = start(dir.path(), "writer", 1, random.u64(..));
    let mut followers =
        ["published-1", "published-2", "durable"].map(|name| start(dir.path(), name, 0, random.u64(..)));
    let began = Instant::now();
    let has_happened = |name| dir.path().join(name).exists();
    for term in 2.. {
        let is_enough = [RECYCLED_FILE, TRIMMED_FILE, REWOUND_FILE].into_iter().all(has_happened);
        if term > KILLS + 1 && (is_enough || began.elapsed() > LIVES) {
            break;
        }
        // Some writers live so long that files which they have made become others.
        let life = if term % 6 == 0 { 500..1500 } else { 50..500 };
        std::thread::sleep(Duration::from_millis(random.u64(life)));
        for process in followers.iter_mut().chain([&mut writer]) {
            let ended = process.0.try_wait().unwrap();
            assert!(ended.is_none(), "a process has ended: {ended:?}");
        }
        // One follower sleeps through a life of the writer now and then, over rotations, truncations and trims.
        let signal = if term % 4 == 0 { Signal::STOP } else { Signal::CONT };
        followers[1].signal(signal);
        writer.stop();
        writer = start(dir.path(), "writer", term, random.u64(..));
    }
    followers[1].signal(Signal::CONT);
    std::thread::sleep(Duration::from_millis(300));
    writer.stop();
    // The last one closes the log.
    start(dir.path(), "writer", 0, 0).finish();
    std::fs::write(dir.path().join(STOP_FILE), "").unwrap();
    for follower in &mut followers {
        follower.finish();
    }
    assert!(dir.path().join(RECYCLED_FILE).exists(), "no file was used again");
    compare(dir.path());
}

/// What the log and the followers hold in the end is the same as far as they hold it.
fn compare(dir: &Path) {
    // SAFETY: nobody changes the files any more.
    let snapshot = unsafe { LogReader::open(dir.join("log")) }.unwrap().snapshot().unwrap();
    let records = snapshot.iter().map(Result::unwrap);
    let log: BTreeMap<u64, u64> = records.map(|record| (record.lsn().0, payload::term(record).unwrap())).collect();
    let first = *log.keys().next().unwrap();
    let mut all = BTreeMap::new();
    let mut told = follower::Told::default();
    for name in ["published-1", "published-2", "durable"] {
        let (held, by_this) = follower::read(&dir.join(name));
        println!("{name}: {} records held, {by_this:?}", held.len());
        told.add(&by_this);
        let end: BTreeMap<u64, u64> = held.range(first..).map(|(&lsn, &term)| (lsn, term)).collect();
        assert!(end == log, "{name} does not hold what the log holds");
        for (lsn, term) in held {
            assert_eq!(*all.entry(lsn).or_insert(term), term, "{name}, record {lsn}");
        }
    }
    assert!(told.rewound > 0 && told.trimmed > 0 && told.received > 2_000, "too little has happened: {told:?}");
}

/// A process of this test; it does not outlive this value.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn stop(&mut self) {
        // It fails if the process has ended by itself; then nothing is left to stop.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Waits until the process ends, and checks that it was content.
    fn finish(&mut self) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "a process has failed: {status}");
                return;
            }
            assert!(began.elapsed() < PATIENCE, "a process does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(dir: &Path, role: &str, term: u64, seed: u64) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["a_process_of_the_test", "--exact", "--ignored", "--nocapture"]).stdout(Stdio::null());
    command.env("REPLICATION_ROLE", role).env("REPLICATION_DIRECTORY", dir);
    command.env("REPLICATION_TERM", term.to_string()).env("REPLICATION_PROCESS_SEED", seed.to_string());
    Process(command.spawn().unwrap())
}

#[test]
#[ignore = "the other test starts it, in processes of its own"]
fn a_process_of_the_test() {
    let Ok(role) = std::env::var("REPLICATION_ROLE") else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let dir = std::path::PathBuf::from(std::env::var("REPLICATION_DIRECTORY").unwrap());
    let random = fastrand::Rng::with_seed(number("REPLICATION_PROCESS_SEED"));
    match role.as_str() {
        "writer" => writer::run(&dir.join("log"), number("REPLICATION_TERM"), random),
        "durable" => follower::run(&dir, &role, Visibility::Durable, random),
        _ => follower::run(&dir, &role, Visibility::Published, random),
    }
}
