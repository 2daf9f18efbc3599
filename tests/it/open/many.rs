//! Many logs in one process: the threads that they share, none of which a log keeps from the others.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mapwal::{Log, Lsn, Options, request_trim};

use crate::support::child::{self, Child};
use crate::support::faulty::{Call, Faulty};
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::{LONG, until};
use crate::support::{append, open, open_on, small, try_open};

/// Far more than there are threads.
const STUCK: usize = 12;

/// The numbers of the threads that logs share, with their names.
fn threads() -> BTreeMap<String, String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let named = tasks.filter_map(|task| {
        let task = task.unwrap();
        // It may have ended meanwhile.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((task.file_name().into_string().unwrap(), name.trim_end().to_owned()))
    });
    named.filter(|(_, name)| name.starts_with("mapwal-")).collect()
}

/// How often each of those threads has given up its processor because it had nothing to do, or to wait.
fn sleeps() -> BTreeMap<String, u64> {
    let of = |number: &String| {
        let status = fs::read_to_string(format!("/proc/self/task/{number}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    threads().keys().filter_map(|number| Some((number.clone(), of(number)?))).collect()
}

/// Has `log` use all that it can use threads for.
fn use_all(log: &Log) {
    let next = log.next_lsn().0;
    append(log, next..=next + 2);
    log.rotate().unwrap();
    append(log, next + 3..=next + 4);
    let (tell, told) = channel();
    log.on_durable(log.next_lsn().previous(), move |outcome| tell.send(outcome.is_ok()).unwrap()).unwrap();
    assert_eq!(log.snapshot().unwrap().iter().count() as u64, log.next_lsn().0 - log.first_lsn().0);
    assert!(told.recv_timeout(LONG).expect("the callback is called"));
    log.trim_before(Lsn(next + 3)).unwrap();
}

fn open_many(directory: &Path, count: usize, options: &Options) -> Vec<Log> {
    let paths = (0..count).map(|number| directory.join(number.to_string()));
    let logs = paths.map(|path| {
        let log = open(&path, options);
        let barriers = threads().values().filter(|name| *name == "mapwal-barrier").count();
        assert!(barriers <= 1, "the process is registered once");
        log
    });
    logs.collect()
}

/// Opens logs and uses them, and tells of what they take.
#[test]
#[ignore = "other tests run it as a process of its own"]
fn has_many() {
    let Some(directory) = child::directory() else { return };
    let mut logs = Vec::new();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (verb, count) = line.split_once(' ').unwrap_or((&line, "0"));
        let answer = match verb {
            "open" => {
                logs = open_many(&directory, count.parse().unwrap(), &small());
                logs.len()
            }
            "take" => {
                logs = open_many(&directory, count.parse().unwrap(), &small().trim_on_request(true));
                logs.len()
            }
            "use" => {
                logs.iter().for_each(use_all);
                logs.len()
            }
            "threads" => threads().len(),
            "rest" => {
                until("all threads sleep for a second", || {
                    let before = sleeps();
                    std::thread::sleep(std::time::Duration::from_secs(1));
                    sleeps() == before
                });
                1
            }
            "drop" => {
                logs.truncate(count.parse().unwrap());
                logs.len()
            }
            "close" => {
                logs.drain(..).for_each(|log| log.close().unwrap());
                0
            }
            _ => panic!("no such request: {verb}"),
        };
        child::answer(&answer.to_string());
    }
}

fn answer(child: &mut Child, request: &str) -> usize {
    child.ask(request).parse().unwrap()
}

#[test]
fn two_hundred_logs_have_the_threads_of_one_and_leave_none() {
    let dir = scratch();
    let mut child = Child::spawn("open::many::has_many", dir.path());
    assert_eq!(answer(&mut child, "open 200"), 200);
    assert_eq!(answer(&mut child, "use"), 200);
    // A thread that was started for a step that took long ends a second after it is no longer needed.
    until("no more than a handful of threads", || answer(&mut child, "threads") <= 7);
    assert_eq!(answer(&mut child, "drop 1"), 1);
    assert_eq!(answer(&mut child, "use"), 1, "what one leaves to the others still runs");
    assert_eq!(answer(&mut child, "close"), 0);
    until("no thread", || answer(&mut child, "threads") == 0);
    assert_eq!(answer(&mut child, "open 2"), 2);
    assert_eq!(answer(&mut child, "use"), 2, "threads come again");
}

#[test]
fn logs_that_take_requests_have_the_threads_of_one() {
    let dir = scratch();
    let mut child = Child::spawn("open::many::has_many", dir.path());
    assert_eq!(answer(&mut child, "take 100"), 100);
    assert_eq!(answer(&mut child, "use"), 100);
    until("no more than a handful of threads", || answer(&mut child, "threads") <= 7);
    for number in ["0", "50", "99"] {
        assert_eq!(request_trim(dir.path().join(number), Lsn(u64::MAX)).unwrap().first_lsn, Lsn(4));
    }
    assert_eq!(answer(&mut child, "close"), 0);
    until("no thread", || answer(&mut child, "threads") == 0);
}

#[test]
fn logs_that_have_nothing_to_do_wake_no_thread() {
    let dir = scratch();
    let mut child = Child::spawn("open::many::has_many", dir.path());
    answer(&mut child, "open 50");
    answer(&mut child, "use");
    assert_eq!(answer(&mut child, "rest"), 1);
}

/// Logs whose disk does not answer `call`, with a thread of theirs in it.
struct Stuck {
    logs: Vec<(Log, Arc<Faulty>, tempfile::TempDir)>,
}

impl Stuck {
    fn in_call(call: Call, get_there: impl Fn(&Log)) -> Self {
        let logs = (0..STUCK).map(|_| {
            let dir = scratch();
            let storage = Faulty::new(dir.path());
            let log = open_on(&storage);
            append(&log, 1..=1);
            log.sync().unwrap();
            storage.hold(call);
            get_there(&log);
            (log, storage, dir)
        });
        let stuck = Self { logs: logs.collect() };
        stuck.logs.iter().for_each(|(_, storage, _)| storage.wait_until_held());
        stuck
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.logs.iter().for_each(|(_, storage, _)| storage.release());
    }
}

/// A log that is opened, used in every way, and closed.
fn use_another() {
    let dir = scratch();
    let log = open_small(dir.path());
    (0..3).for_each(|_| use_all(&log));
    log.close().unwrap();
}

#[test]
fn logs_whose_syncs_do_not_return_hold_up_no_other() {
    let _stuck = Stuck::in_call(Call::SyncMapping, |log| {
        append(log, 2..=2);
        log.on_durable(Lsn(2), |_| {}).unwrap();
    });
    use_another();
}

#[test]
fn logs_whose_segments_cannot_be_made_ready_hold_up_no_other() {
    let _stuck = Stuck::in_call(Call::Allocate, |log| {
        // One is made by now, or is about to be.
        let there = log.clone();
        std::thread::spawn(move || there.rotate().and_then(|_| there.rotate()));
    });
    use_another();
}

#[test]
fn logs_whose_files_are_not_removed_hold_up_no_other() {
    let _stuck = Stuck::in_call(Call::Rename, |log| {
        let there = log.clone();
        std::thread::spawn(move || there.rotate().and_then(|_| there.trim_before(Lsn(2))));
    });
    use_another();
}

/// Callbacks that return when this is dropped, each of a log of its own.
struct Busy {
    _hold: Sender<()>,
    there: Receiver<()>,
    logs: Vec<(Log, tempfile::TempDir)>,
}

impl Busy {
    fn new() -> Self {
        let (hold, held) = channel::<()>();
        let held = Arc::new(parking_lot::Mutex::new(held));
        let (tell, there) = channel();
        let logs = (0..STUCK).map(|_| {
            let dir = scratch();
            let log = open_small(dir.path());
            append(&log, 1..=1);
            let (held, tell) = (Arc::clone(&held), tell.clone());
            let wait = move |_| {
                tell.send(()).unwrap();
                let _ = held.lock().recv();
            };
            log.on_durable(Lsn(1), wait).unwrap();
            (log, dir)
        });
        let logs = logs.collect();
        Self { _hold: hold, there, logs }
    }
}

#[test]
fn logs_whose_callbacks_do_not_return_hold_up_no_other() {
    let busy = Busy::new();
    (0..STUCK).for_each(|_| busy.there.recv_timeout(LONG).expect("each is inside of its callback"));
    use_another();
    // Nor do they keep their own from being used.
    for (log, _) in &busy.logs {
        append(log, 2..=2);
        assert_eq!(log.sync().unwrap(), Lsn(2));
        log.rotate().unwrap();
    }
}

#[test]
fn a_log_that_is_closed_or_dropped_waits_for_none_of_the_others() {
    let _stuck = Stuck::in_call(Call::SyncMapping, |log| {
        append(log, 2..=2);
        log.on_durable(Lsn(2), |_| {}).unwrap();
    });
    let busy = Busy::new();
    (0..STUCK).for_each(|_| busy.there.recv_timeout(LONG).expect("each is inside of its callback"));
    for is_closed in [true, false] {
        let dir = scratch();
        let log = open_small(dir.path());
        let (tell, told) = channel();
        for number in 1..=100 {
            append(&log, number..=number);
            let tell = tell.clone();
            log.on_durable(Lsn(number), move |outcome| tell.send(outcome.is_ok()).unwrap()).unwrap();
        }
        if is_closed {
            log.close().unwrap();
        }
        drop((log, tell));
        assert_eq!(told.try_iter().count(), 100, "each is called back before the end");
        assert!(open_small(dir.path()).next_lsn() == Lsn(101));
    }
}

#[test]
fn a_log_keeps_its_directory_as_long_as_a_step_of_its_own_runs() {
    let dir = scratch();
    let storage = Faulty::new(dir.path());
    let log = open_on(&storage);
    append(&log, 1..=1);
    storage.hold(Call::SyncMapping);
    log.on_durable(Lsn(1), |_| {}).unwrap();
    storage.wait_until_held();
    let dropping = std::thread::spawn(move || drop(log));
    for _ in 0..50 {
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(try_open(dir.path(), &small()).is_err(), "it may still be written to");
    }
    storage.release();
    dropping.join().unwrap();
    assert_eq!(open_small(dir.path()).next_lsn(), Lsn(2));
}

#[test]
fn a_callback_may_drop_its_own_log_and_close_another() {
    let dirs = [scratch(), scratch()];
    let [own, other] = dirs.each_ref().map(|dir| open_small(dir.path()));
    append(&own, 1..=2);
    append(&other, 1..=1);
    let (tell, told) = channel();
    let second = tell.clone();
    let there = own.clone();
    let first = move |_| {
        drop(there);
        other.close().unwrap();
        tell.send(1).unwrap();
    };
    own.on_durable(Lsn(1), first).unwrap();
    own.on_durable(Lsn(2), move |_| second.send(2).unwrap()).unwrap();
    drop(own);
    assert_eq!([(); 2].map(|()| told.recv_timeout(LONG).expect("both are called back")), [1, 2]);
    until("both can be opened", || dirs.iter().all(|dir| try_open(dir.path(), &small()).is_ok()));
}
