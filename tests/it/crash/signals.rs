//! What the system does to a process: it stops one for a while, or lets it write no file beyond a size.

use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Error, Log, Lsn, Visibility};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::crash::killed;
use crate::support::child::{self, Child};
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::LONG;
use crate::support::{SMALL, append, assert_records, payload, read_only};

/// Ignores the signal for what it runs: what is ignored stays so.
const IGNORING: [&str; 4] = ["sh", "-c", "trap '' XFSZ && exec \"$@\"", "sh"];

#[test]
fn a_follower_waits_for_a_writer_that_is_stopped_and_goes_on_with_it() {
    const STOPPED: Duration = Duration::from_secs(1);
    let dir = scratch();
    let path = dir.path().join("log");
    drop(open_small(&path));
    let reader = read_only(&path).unwrap();
    let mut follower = reader.follow(Lsn(1), Visibility::Published).unwrap();
    let child = killed::spawn(dir.path(), 0);
    let mut next = 1;
    for _ in 0..3 {
        for _ in 0..2000 {
            let record = follower.next_timeout(LONG).unwrap().expect("the writer is at it");
            assert_eq!(record.lsn(), Lsn(next));
            next += 1;
        }
        child.stop();
        while let Some(record) = follower.next().unwrap() {
            assert_eq!(record.lsn(), Lsn(next));
            next += 1;
        }
        let before = Instant::now();
        assert!(follower.next_timeout(STOPPED).unwrap().is_none(), "nobody appends");
        assert!(before.elapsed() >= STOPPED, "only {:?}", before.elapsed());
        let snapshot = reader.snapshot().unwrap();
        assert_eq!(snapshot.next_lsn(), Lsn(next));
        assert!(snapshot.iter().all(|record| record.is_ok()));
        child.go_on();
    }
    let record = follower.next_timeout(LONG).unwrap().map(|record| record.lsn());
    assert_eq!(record, Some(Lsn(next)));
    child.kill();
}

/// Appends, and syncs, until that fails; the last record, and why.
fn fill(log: &Log) -> (u64, Error) {
    let mut last = log.next_lsn().previous().0;
    loop {
        if let Err(error) = log.append(0, &payload(last + 1)) {
            return (last, error);
        }
        last += 1;
        assert_eq!(log.sync().expect("the segment is there already"), Lsn(last));
    }
}

/// Lets this process write files up to `len`, or as long as it could before.
fn limit_files(len: Option<u64>) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: len.or(maximum), maximum }).unwrap();
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn appends_to_the_end_of_a_limit() {
    let Some(directory) = child::directory() else { return };
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
    let log = open_small(&directory);
    append(&log, 1..=100);
    log.sync().unwrap();
    limit_files(Some(SMALL / 2));
    let (mut last, error) = fill(&log);
    assert_records(&log.snapshot().unwrap(), 1, last);
    // There may be a spare, from before.
    while log.rotate().is_ok() {
        last += 1;
        append(&log, last..=last);
    }
    assert!(matches!(log.rotate(), Err(Error::Io { .. })), "a segment is too long for the limit");
    assert_eq!(log.sync().unwrap(), Lsn(last), "the log is not poisoned");
    limit_files(None);
    append(&log, last + 1..=last + 1000);
    log.close().unwrap();
    let Error::Io { source, .. } = error else { panic!("{error}") };
    child::answer(&format!("{last} {}", source.kind()));
}

/// Starts a process that appends until a limit on the length of files lets it not.
fn append_to_the_end_of_a_limit(by: &[&str], directory: &Path) -> Child {
    Child::spawn_by(by, "crash::signals::appends_to_the_end_of_a_limit", directory)
}

#[test]
fn a_limit_on_the_length_of_files_is_an_error_where_its_signal_is_ignored() {
    let dir = scratch();
    let answer = append_to_the_end_of_a_limit(&IGNORING, dir.path()).ask("append");
    let (last, kind) = answer.split_once(' ').unwrap();
    assert_eq!(kind, std::io::ErrorKind::FileTooLarge.to_string());
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, last.parse::<u64>().unwrap() + 1000);
}

#[test]
fn a_limit_on_the_length_of_files_ends_a_process_that_does_not_ignore_its_signal() {
    let dir = scratch();
    let signal = append_to_the_end_of_a_limit(&[], dir.path()).ended_by();
    assert_eq!(signal, Some(Signal::XFSZ.as_raw()));
    let log = open_small(dir.path());
    let last = log.next_lsn().previous().0;
    assert!(last >= 100, "{last} records");
    assert_records(&log.snapshot().unwrap(), 1, last);
}
