//! The guard against `SIGBUS`, in processes of its own: what it turns into errors, what would happen without it, and what it
//! passes on.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use mapwal::{Error, Log, Lsn, RecordRef, Snapshot, Visibility};
use rustix::process::Signal;

use crate::support::child::{self, Child};
use crate::support::file_system::{FileSystem, Kind};
use crate::support::files::{await_ready, segment, segment_numbers};
use crate::support::scratch::scratch;
use crate::support::{append, assert_record, payload, small, try_open};

/// Of the payload of the first record, in pages of its own but for its start, and what is kept of the file: the header of
/// the segment, and the page after it.
const LONG: usize = 12 << 10;
const KEPT: u64 = 8192;
/// What the child exits with that has a handler of its own.
const HANDLED: i32 = 42;

fn guard() {
    // SAFETY: the records of these tests are compared as bytes, and no other handler comes after this one.
    unsafe { mapwal::guard_against_sigbus() }.expect("Linux");
}

fn start(what: &str, directory: &Path) -> Child {
    Child::spawn(&format!("disk::guarded::{what}"), directory)
}

fn assert_killed(status: ExitStatus) {
    assert_eq!(status.signal(), Some(Signal::BUS.as_raw()), "{status:?}");
}

/// Waits for a line from the parent.
fn next_request() -> Option<String> {
    std::io::stdin().lines().next().map(|line| line.expect("the parent speaks plainly"))
}

fn is_poisoned<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Poisoned { .. }))
}

/// Stores to a file system that has turned read-only, with all pages clean.
fn stores(is_guarded: bool) {
    let Some(directory) = child::directory() else { return };
    if is_guarded {
        guard();
    }
    let log = try_open(&directory, &small()).unwrap();
    append(&log, 1..=300);
    // Then nobody asks for its pages once more.
    await_ready(&segment(&directory, 1));
    append(&log, 301..=302);
    assert_eq!(log.sync().unwrap(), Lsn(302));
    child::answer("synced");
    next_request();
    let refused = (303..=2000).find_map(|number| log.append(0, &payload(number)).err()).expect("nothing can be stored");
    assert!(matches!(refused, Error::Poisoned { durable: Lsn(302), .. }), "{refused}");
    assert!(is_poisoned(log.append(0, b"more")) && is_poisoned(log.append_batch(&[(0, b"more")])));
    assert!(is_poisoned(log.sync()) && is_poisoned(log.rotate()) && is_poisoned(log.put_meta(0, b"more")));
    assert_eq!(log.durable_lsn(), Lsn(302));
    let snapshot = log.snapshot().unwrap();
    assert_eq!(snapshot.iter().count() as u64, snapshot.next_lsn().0 - 1);
    for record in &snapshot {
        let record = record.unwrap();
        assert_record(&record, record.lsn().0);
    }
    assert!(snapshot.next_lsn() >= Lsn(303) && log.get(Lsn(302)).unwrap().is_some());
    child::answer("refused");
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn stores_guarded() {
    stores(true);
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn stores_unguarded() {
    stores(false);
}

#[test]
fn a_store_that_the_file_system_refuses_poisons_the_log_with_the_guard_and_ends_the_process_without() {
    // ext4 takes stores to blocks that it has written before, and fails the sync.
    for is_guarded in [true, false] {
        let Some(disk) = FileSystem::mount(Kind::Xfs, 32) else { return };
        let mut child = start(if is_guarded { "stores_guarded" } else { "stores_unguarded" }, &disk.path().join("log"));
        assert_eq!(child.hear(), "synced");
        disk.shut_down();
        if is_guarded {
            assert_eq!(child.ask("go on"), "refused");
            assert!(child.ended().success());
        } else {
            child.say("go on");
            assert_killed(child.ended());
        }
    }
}

/// Reads pages of a sealed segment that were there, and are not any more.
fn reads(is_guarded: bool) {
    let Some(directory) = child::directory() else { return };
    if is_guarded {
        guard();
    }
    let log = try_open(&directory, &small()).unwrap();
    assert_eq!(log.append(0, &[7; LONG]).unwrap(), Lsn(1));
    append(&log, 2..=1000);
    log.sync().unwrap();
    let snapshot = log.snapshot().unwrap();
    let held: RecordRef = snapshot.get_ref(Lsn(5)).unwrap().unwrap();
    assert_eq!(snapshot.iter().filter(|record| record.is_ok()).count(), 1000);
    assert!(snapshot.get(Lsn(6)).unwrap().is_some() && log.get(Lsn(6)).unwrap().is_some());
    let mut follower = log.follow(Lsn(3), Visibility::Published).unwrap();
    assert_eq!(follower.next().unwrap().unwrap().lsn(), Lsn(3));
    let mut begun = snapshot.iter();
    assert_eq!(begun.next().unwrap().unwrap().lsn(), Lsn(1));
    child::answer("read");
    next_request();
    check_lost(&log, &snapshot);
    assert!(matches!(begun.next(), Some(Err(Error::Io { operation: "read", .. }))), "what was checked before is gone");
    let lost = |error: Error| assert!(matches!(error, Error::Io { operation: "read", .. }), "{error}");
    lost(follower.next().unwrap_err());
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| held.lsn())).unwrap_err();
    assert!(panic.downcast_ref::<String>().is_some_and(|message| message.contains("unless its page was lost")));
    // What others need is there, and appends go on.
    assert_record(&snapshot.get(Lsn(1000)).unwrap().unwrap(), 1000);
    append(&log, 1001..=1400);
    assert_eq!(log.sync().unwrap(), Lsn(1400));
    child::answer("lost");
}

/// The records of the first segment cannot be read any more, however that is tried.
fn check_lost(log: &Log, snapshot: &Snapshot) {
    let lost = |error: Error| assert!(matches!(error, Error::Io { operation: "read", .. }), "{error}");
    lost(snapshot.get(Lsn(6)).unwrap_err());
    lost(snapshot.get(Lsn(7)).unwrap_err());
    lost(snapshot.get_ref(Lsn(5)).unwrap_err());
    lost(log.get(Lsn(6)).unwrap_err());
    // Its header is there, and most of its payload is not.
    lost(snapshot.get(Lsn(1)).unwrap_err());
    lost(snapshot.iter().next().unwrap().unwrap_err());
    lost(snapshot.range(Lsn(50)..).next().unwrap().unwrap_err());
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn reads_guarded() {
    reads(true);
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn reads_unguarded() {
    reads(false);
}

#[test]
fn a_page_that_cannot_be_read_any_more_is_an_error_with_the_guard_and_ends_the_process_without() {
    for is_guarded in [true, false] {
        let dir = scratch();
        let path = dir.path().join("log");
        let mut child = start(if is_guarded { "reads_guarded" } else { "reads_unguarded" }, &path);
        assert_eq!(child.hear(), "read");
        // As a device that does not give the pages again: touching one is the same signal.
        let first = segment(&path, segment_numbers(&path)[0]);
        File::options().write(true).open(first).unwrap().set_len(KEPT).unwrap();
        if is_guarded {
            assert_eq!(child.ask("go on"), "lost");
            assert!(child.ended().success());
        } else {
            child.say("go on");
            assert_killed(child.ended());
        }
    }
}

/// Touches a page beyond the end of a file that is none of a log.
fn touch_a_page_of_nobody(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let path = directory.join("other");
    let file = File::options().create(true).truncate(true).read(true).write(true).open(path).unwrap();
    file.set_len(8192).unwrap();
    // SAFETY: only this process has the file. Its end is moved below, which is what the test is about.
    let mapped = unsafe { memmap2::MmapOptions::new().map(&file) }.unwrap();
    file.set_len(0).unwrap();
    std::hint::black_box(mapped[5000]);
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn touches_others() {
    let Some(directory) = child::directory() else { return };
    guard();
    let log = try_open(&directory, &small()).unwrap();
    append(&log, 1..=10);
    child::answer("ready");
    next_request();
    touch_a_page_of_nobody(&directory.join("pages"));
}

#[test]
fn a_page_that_is_of_no_log_ends_the_process_as_it_would_without_the_guard() {
    let dir = scratch();
    let mut child = start("touches_others", &dir.path().join("log"));
    assert_eq!(child.hear(), "ready");
    child.say("go on");
    assert_killed(child.ended());
}

extern "C" fn exit_handled(_signal: i32) {
    // SAFETY: it ends the process at once, which a handler may do.
    unsafe { libc::_exit(HANDLED) };
}

fn set_action(action: usize) {
    // SAFETY: one of the two special actions, or a function of this type.
    unsafe { libc::signal(libc::SIGBUS, action) };
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn has_a_handler() {
    let Some(directory) = child::directory() else { return };
    set_action(exit_handled as *const () as usize);
    guard();
    guard();
    touch_a_page_of_nobody(&directory.join("pages"));
}

#[test]
fn a_handler_that_was_there_before_gets_what_is_of_no_log() {
    let dir = scratch();
    let child = start("has_a_handler", dir.path());
    assert_eq!(child.ended().code(), Some(HANDLED));
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn ignores() {
    if child::directory().is_none() {
        return;
    }
    set_action(libc::SIG_IGN);
    guard();
    child::answer("ready");
    while let Some(request) = next_request() {
        child::answer(&request);
    }
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn has_the_default() {
    if child::directory().is_none() {
        return;
    }
    set_action(libc::SIG_DFL);
    guard();
    child::answer("ready");
    next_request();
}

#[test]
fn a_signal_that_somebody_sends_does_what_it_did_before_the_guard() {
    let dir = scratch();
    let mut child = start("ignores", dir.path());
    assert_eq!(child.hear(), "ready");
    for request in ["one", "two"] {
        child.send(Signal::BUS);
        assert_eq!(child.ask(request), request, "it is ignored");
    }
    let mut child = start("has_the_default", dir.path());
    assert_eq!(child.hear(), "ready");
    child.send(Signal::BUS);
    assert_killed(child.ended());
}
