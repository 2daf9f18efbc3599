//! The archiver is killed again and again, while a writer in another process appends, rotates, trims, and is killed as well.
//!
//! Each record of the log says by its contents which life of the writer it is of, and a file says with which record each life
//! began; so every record of the restored log can be told from any other that might be in its place.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mapwal::Lsn;
use mapwal_archive::RestoreTo;
use object_store::ObjectStoreExt;

use crate::child::{self, Process};
use crate::logs::{append_up_to, check, open, reader, trim};
use crate::s3::{BUCKET, Server};
use crate::tools::{PREFIX, archive, has_records, range, reach, restore, wait_for};

/// More kills are asked for by this variable.
const KILLS_VARIABLE: &str = "MAPWAL_ARCHIVE_KILLS";
const KILLS: u64 = 20;
const SEED: u64 = 0xa7c4;
const PATIENCE: Duration = Duration::from_secs(120);
const LIVES: &str = "lives";
const STOP: &str = "stop";

#[test]
#[ignore = "another test runs it as a process of its own, and kills it"]
fn writes_until_it_is_killed() {
    let Some(directory) = child::directory() else { return };
    let log = open(&directory.join("log"));
    let lives = directory.join(LIVES);
    let life = 1 + fs::read_to_string(&lives).unwrap_or_default().lines().count() as u64;
    let mut lives = OpenOptions::new().append(true).create(true).open(lives).unwrap();
    lives.write_all(format!("{}\n", log.next_lsn()).as_bytes()).unwrap();
    let mut random = fastrand::Rng::with_seed(SEED ^ life);
    while !directory.join(STOP).exists() {
        append_up_to(&log, life, log.next_lsn().0 + random.u64(0..8));
        match random.u32(0..40) {
            0 => {
                log.rotate().unwrap();
            }
            // An application that archives trims only what a pin lets go.
            1..4 if !log.pins().is_empty() => trim(&log),
            _ => {}
        }
        if random.bool() {
            log.sync().unwrap();
        }
        // So that the archive, which is begun anew again and again, is not left far back by it.
        std::thread::sleep(Duration::from_millis(10));
    }
    log.close().unwrap();
}

#[test]
fn nothing_is_lost_doubled_or_replaced_where_archiver_and_writer_are_killed() {
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |kills| kills.parse().expect("a number"));
    let scratch = tempfile::tempdir().unwrap();
    let server = Server::start(&scratch.path().join("objects")).unwrap();
    let log = scratch.path().join("log");
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut writer, mut archiver) = (start_writer(scratch.path()), start_archiver(&log, &server));
    let mut killed_writers = 0;
    for _ in 0..kills {
        // Some are killed before they have done anything, and some at work.
        if random.bool() {
            let stored = server.seen().stored.len();
            let wanted = stored + random.usize(1..5);
            wait_until("something is archived", || server.seen().stored.len() >= wanted);
        }
        std::thread::sleep(Duration::from_micros(random.u64(0..100_000)));
        if random.u8(0..3) == 0 {
            writer.kill();
            killed_writers += 1;
            writer = start_writer(scratch.path());
        }
        archiver.kill();
        check_trims(&log, &server);
        archiver = start_archiver(&log, &server);
    }
    wait_until("something is trimmed", || reader(&log).first_lsn().is_ok_and(|first| first > Lsn(1)));
    fs::write(scratch.path().join(STOP), "").unwrap();
    wait_until("the writer ends", || writer.ended().is_some_and(|status| status.success()));
    let next = reader(&log).published_lsn().unwrap().0 + 1;
    let mut reached = 0;
    while reached < next {
        // Each time for something more: how long all takes is for the disk to say.
        wait_until("more is archived", || {
            assert_eq!(archiver.ended(), None, "the archiver ended by itself");
            reach(server.seen().stored.keys()) > reached
        });
        reached = reach(server.seen().stored.keys());
    }
    check_trims(&log, &server);
    let trimmed = reader(&log).first_lsn().unwrap().0;
    assert_eq!(archiver.terminate().code(), Some(0));
    check_objects(&server, next);

    fs::remove_dir_all(&log).unwrap();
    let report = wait_for(restore(&archive(Arc::new(server.store())), &log, RestoreTo::Latest)).unwrap();
    assert_eq!(report.epoch, 1, "the same history all the time");
    let lives = fs::read_to_string(scratch.path().join(LIVES)).unwrap();
    let begun: Vec<u64> = lives.lines().map(|line| line.parse().unwrap()).collect();
    check(&log, 1, next - 1, |lsn| begun.partition_point(|&first| first <= lsn.0) as u64);
    eprintln!("{kills} archivers and {killed_writers} writers killed, {} records, {} trimmed", next - 1, trimmed - 1);
}

fn start_writer(directory: &Path) -> Process {
    Process::of_test("kills::writes_until_it_is_killed", directory)
}

fn start_archiver(log: &Path, server: &Server) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mapwal-archive"));
    command.arg("run").arg(log).arg(format!("s3://{BUCKET}/{PREFIX}"));
    command.args(["--part-interval", "50ms", "--status-interval", "never"]).envs(server.environment());
    Process::start(&mut command)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Fails if a record has been trimmed that is not in the archive.
fn check_trims(log: &Path, server: &Server) {
    // SAFETY: only this test's processes write to the log, by the library.
    let Ok(reader) = (unsafe { mapwal::LogReader::open(log) }) else { return };
    // First the log, then the archive: what is archived meanwhile does no harm.
    let Ok(first) = reader.first_lsn() else { return };
    let reached = reach(server.seen().stored.keys());
    let is_archived = first <= Lsn(reached);
    assert!(
        is_archived,
        "trimmed before record {first}, archived before {reached}: {:#?}",
        server.seen().stored.keys()
    );
}

/// Fails unless the segments follow each other up to record `next`, and each object is as it was when it was stored.
fn check_objects(server: &Server, next: u64) {
    let stored: BTreeMap<String, Vec<bytes::Bytes>> = server.seen().stored.clone();
    let store = server.store();
    let mut dense = 1;
    for (key, contents) in stored.iter().filter(|(key, _)| !key.ends_with("/session.json") && !key.ends_with("/synced"))
    {
        assert_eq!(contents.len(), 1, "{key} was stored more than once");
        if key.ends_with(".seg") {
            let (first, end) = range(key);
            assert_eq!(first, dense, "records are missing or doubled before {key}");
            dense = end;
            let bytes = wait_for(async { store.get(&key.as_str().into()).await.unwrap().bytes().await.unwrap() });
            assert!(bytes == contents[0], "{key} is not what was stored");
        }
    }
    assert!(dense <= next && stored.keys().filter(|key| has_records(key)).count() > 5);
}
