//! `tail` that chooses records, that goes on where the last run ended, and that outlives the directory.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};

use mapwal::wal::{PageId, Wal, WalOptions};
use mapwal::{Log, Lsn, Options};
use rustix::process::Signal;

use crate::logs::{closed, copy, killed, live, scratch};
use crate::program::{Ran, Running, run, run_with_input, start};
use crate::wait;

fn append(log: &Path, lines: &str, tag: u16) {
    run_with_input(log, &format!("append DIR --segment-size 64KiB --tag {tag}"), lines.as_bytes()).done();
}

/// The numbers of the records that were printed.
fn numbers(ran: &Ran) -> Vec<u64> {
    ran.lines().iter().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect()
}

/// The program, with a home of its own for its state.
fn at_home(home: &Path, log: &Path, command: &str) -> Command {
    let mut program = start(log, command);
    program.env("XDG_STATE_HOME", home).env_remove("HOME");
    program
}

fn since(home: &Path, log: &Path, options: &str) -> Ran {
    let command = format!("tail DIR --no-follow --since-last-run job {options}");
    Ran::new(at_home(home, log, &command).output().unwrap())
}

#[test]
fn records_are_chosen_by_tag_and_by_bytes() {
    let log = scratch();
    append(log.path(), "red apple\ngreen apple\n", 7);
    append(log.path(), "red cherry\n", 8);
    append(log.path(), "red apple pie\n", 9);
    for (filters, expected) in [
        ("--filter tag=7", &[1, 2][..]),
        ("--filter tag=7,9", &[1, 2, 4]),
        ("--filter text=red", &[1, 3, 4]),
        ("--filter text=red --filter text=apple", &[1, 4]),
        ("--filter tag=7 --filter text=red", &[1]),
        ("--filter hex=6170706c6520", &[4]),
        ("--filter text=blue", &[]),
    ] {
        let ran = run(log.path(), &format!("tail DIR --no-follow {filters}")).done();
        assert_eq!(numbers(&ran), expected, "{filters}");
    }
    for bad in ["tag=x", "text=", "hex=123", "size=1"] {
        assert_eq!(run(log.path(), &format!("tail DIR --no-follow --filter {bad}")).code, 64, "{bad}");
    }
}

#[test]
fn records_of_transactions_are_decoded_and_chosen_by_type() {
    let log = scratch();
    let options = WalOptions::new().log(Options::new().segment_size_bytes(64 << 10));
    // SAFETY: the directory is one of this test.
    let wal = unsafe { Wal::open(log.path(), &options) }.unwrap();
    let mut transaction = wal.begin().unwrap();
    transaction.update(PageId(5), b"a row").unwrap();
    transaction.commit().unwrap().applied();
    wal.close().unwrap();
    let ran = run(log.path(), "tail DIR --no-follow --wal").done();
    assert_eq!(ran.text(), run(log.path(), "dump DIR --wal").done().text());
    assert!(ran.text().contains("\tupdate\t"), "{}", ran.text());
    let ran = run(log.path(), "tail DIR --no-follow --wal --filter tag=begin,commit").done();
    let types: Vec<&str> = ran.lines().iter().map(|line| line.split('\t').nth(1).unwrap()).collect();
    assert_eq!(types, ["begin", "commit"]);
}

#[test]
fn each_run_begins_where_the_last_one_ended() {
    let (log, home) = (scratch(), scratch());
    append(log.path(), "one\ntwo\nthree\n", 1);
    assert_eq!(numbers(&since(home.path(), log.path(), "--from 2").done()), [2, 3], "the first");
    assert_eq!(numbers(&since(home.path(), log.path(), "--from 2").done()), [0; 0]);
    append(log.path(), "four\nfive\n", 2);
    assert_eq!(numbers(&since(home.path(), log.path(), "--filter tag=9").done()), [0; 0], "none is wanted");
    append(log.path(), "six\n", 1);
    assert_eq!(numbers(&since(home.path(), log.path(), "").done()), [6]);
    let file = home.path().join("mapwal/job");
    assert!(fs::read_to_string(&file).unwrap().contains("\nnext 7\n"));
    let path = home.path().join("elsewhere/job");
    let command = format!("tail DIR --no-follow --since-last-run {}", path.display());
    assert_eq!(numbers(&run(log.path(), &command).done()).len(), 6, "another name is another position");
    assert!(path.is_file());
    // By its end, not only once a second.
    let mut tail =
        at_home(home.path(), log.path(), "tail DIR --since-last-run live").stdin(Stdio::null()).spawn().unwrap();
    let mut printed = BufReader::new(tail.stdout.take().unwrap());
    for _ in 0..6 {
        printed.read_line(&mut String::new()).unwrap();
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&tail), Signal::INT).unwrap();
    assert!(tail.wait().unwrap().success());
    assert!(fs::read_to_string(home.path().join("mapwal/live")).unwrap().contains("\nnext 7\n"));
}

#[test]
fn a_run_that_is_stopped_before_its_end_keeps_its_position() {
    let (log, home) = (closed(1200), scratch());
    let command = "tail DIR --no-follow --since-last-run job";
    let mut tail = at_home(home.path(), log.path(), command).spawn().unwrap();
    // More than a pipe holds: it has begun, and cannot end before all is read.
    let mut printed = BufReader::new(tail.stdout.take().unwrap());
    let mut text = String::new();
    printed.read_line(&mut text).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_child(&tail), Signal::TERM).unwrap();
    printed.read_to_string(&mut text).unwrap();
    assert!(matches!(tail.wait().unwrap().code(), Some(0 | 4)), "it ends in order");
    let first = text.lines().map(|line| line.split('\t').next().unwrap().parse().unwrap());
    let all: Vec<u64> = first.chain(numbers(&since(home.path(), log.path(), "").done())).collect();
    assert_eq!(all, (1..=1200).collect::<Vec<u64>>());
}

#[test]
fn what_could_not_be_handed_over_is_printed_again() {
    let (log, home) = (closed(600), scratch());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let command = "tail DIR --no-follow --since-last-run job";
    let ran = Ran::new(at_home(home.path(), log.path(), command).stdout(full).output().unwrap());
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("cannot write: no space left on device: standard output"), "{}", ran.err);
    assert_eq!(numbers(&since(home.path(), log.path(), "").done()).len(), 600);
}

#[test]
fn a_position_that_is_damaged_or_of_another_log_is_an_error() {
    let (log, other, home) = (closed(10), closed(10), scratch());
    since(home.path(), log.path(), "").done();
    let file = home.path().join("mapwal/job");
    let text = fs::read_to_string(&file).unwrap();
    let refused = |log: &Path, told: &str| {
        let before = fs::read(&file).unwrap();
        let ran = since(home.path(), log, "");
        assert_eq!((ran.code, ran.text()), (4, ""), "{}", ran.err);
        assert!(ran.err.contains(told), "{}", ran.err);
        assert_eq!(fs::read(&file).unwrap(), before, "it stays as it is");
    };
    refused(other.path(), "one in another log");
    for spoilt in [&text[..20], &text.replace("next 11", "next 12"), "notes of mine\n", ""] {
        fs::write(&file, spoilt).unwrap();
        refused(log.path(), "holds no position, or is damaged");
    }
    fs::write(&file, [0xff, 0xfe]).unwrap();
    refused(log.path(), "holds no position, or is damaged");
    for (name, told) in [("a.b", "a name has letters"), ("dir/", "this is a directory")] {
        let ran = run(log.path(), &format!("tail DIR --no-follow --since-last-run {name}"));
        assert_eq!(ran.code, 4);
        assert!(ran.err.contains(told), "{}", ran.err);
    }
    let mut homeless = start(log.path(), "tail DIR --no-follow --since-last-run job");
    let ran = Ran::new(homeless.env_remove("XDG_STATE_HOME").env_remove("HOME").output().unwrap());
    assert!(ran.code == 4 && ran.err.contains("give a path"), "{}", ran.err);
}

#[test]
fn records_that_were_trimmed_since_the_last_run_are_missed_aloud() {
    let (log, home) = (scratch(), scratch());
    append(log.path(), "one\n", 1);
    since(home.path(), log.path(), "").done();

    append(log.path(), &format!("{}\n", "y".repeat(900)).repeat(300), 1);
    run(log.path(), "trim DIR --keep-records 10").done();
    let ran = since(home.path(), log.path(), "");
    assert_eq!((ran.code, ran.text()), (4, ""));
    assert!(ran.err.contains("record 2 has been trimmed, and the log begins with "), "{}", ran.err);
    assert!(ran.err.contains("remove this file") && ran.err.contains("mapwal/job"), "{}", ran.err);
}

#[test]
fn a_running_tail_that_misses_records_says_where_its_position_is() {
    let (log, home) = (scratch(), scratch());
    append(log.path(), "one\ntwo\n", 1);
    let position = home.path().join("position");
    for (options, told) in
        [(format!("--since-last-run {}", position.display()), "remove this file"), (String::new(), "has been trimmed")]
    {
        let mut tail = Running::start(log.path(), &format!("tail DIR --from start {options}"));
        tail.line().unwrap();
        // While it stands still, all that it has not printed goes.
        tail.signal(Signal::STOP);
        for _ in 0..2 {
            append(log.path(), &format!("{}\n", "y".repeat(900)).repeat(300), 1);
            run(log.path(), "trim DIR --keep-records 10").done();
        }
        tail.signal(Signal::CONT);
        while tail.line().is_some() {}
        let mut said = String::new();
        tail.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(tail.child.wait().unwrap().code(), Some(4), "{said}");
        assert!(said.contains(told), "{said}");
        assert!(options.is_empty() || said.contains(position.to_str().unwrap()), "{said}");
    }
}

#[test]
fn a_log_that_gives_numbers_anew_is_not_taken_for_the_one_that_was_printed() {
    let (log, home) = (scratch(), scratch());
    append(log.path(), "one\ntwo\n", 1);
    let earlier = copy(log.path());
    append(log.path(), "three\nfour\n", 1);
    assert_eq!(numbers(&since(home.path(), log.path(), "").done()).len(), 4);
    let refused = |log: &Path, told: &str| {
        let ran = since(home.path(), log, "");
        assert_eq!((ran.code, ran.text()), (4, ""));
        assert!(ran.err.contains(told) && ran.err.contains("remove this file"), "{}", ran.err);
        assert!(ran.err.contains("mapwal/job"), "{}", ran.err);
    };
    refused(earlier.path(), "record 4 is not there, and the next will be 3");
    append(earlier.path(), "another three\n", 1);
    refused(earlier.path(), "record 4 is not there, and the next will be 4");
    append(earlier.path(), "another four\n", 1);
    refused(earlier.path(), "record 4 is not the one that was printed");
    append(earlier.path(), "five\nsix\n", 1);
    refused(earlier.path(), "record 4 is not the one that was printed");
    // Also when it takes the place of one that is followed.
    let parent = scratch();
    let place = parent.path().join("log");
    fs::rename(copy(log.path()).keep(), &place).unwrap();
    let (mut tail, mut told) = tailing(&place, &format!("--since-last-run {}", parent.path().join("job").display()));
    (1..=4).for_each(|expected| assert_eq!(number(&mut tail), expected));
    fs::rename(&place, parent.path().join("away")).unwrap();
    fs::rename(copy(earlier.path()).keep(), &place).unwrap();
    until_told(&mut told, "an older copy has taken the place of this log");
    assert_eq!(tail.child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_position_is_kept_in_a_short_regular_file_outside_of_the_log() {
    let log = closed(10);
    let command = |path: &Path| format!("tail DIR --no-follow --since-last-run {}", path.display());
    for path in [Path::new("/dev/zero"), &log.path().join("job"), &log.path().join("pins/job")] {
        let before = fs::read_dir(log.path()).unwrap().count();
        let ran = run(log.path(), &command(path));
        assert_eq!((ran.code, ran.text()), (4, ""), "{}", path.display());
        assert!(!path.with_extension("lock").exists(), "{}", path.display());
        assert_eq!(fs::read_dir(log.path()).unwrap().count(), before);
    }
    // What would wait for a writer is not opened.
    let home = scratch();
    let fifo = home.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut waiting = Running::start(log.path(), &command(&fifo));
    let mut status = None;
    wait::until("it ends", || {
        status = waiting.child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(4));
    fs::write(home.path().join("long"), vec![b'x'; 1 << 20]).unwrap();
    assert!(run(log.path(), &command(&home.path().join("long"))).err.contains("holds no position"));
}

#[test]
fn a_run_that_is_terminated_keeps_its_position() {
    let (log, home) = (closed(3), scratch());
    for signal in [Signal::TERM, Signal::HUP] {
        let mut tail = at_home(home.path(), log.path(), "tail DIR --since-last-run job").spawn().unwrap();
        let mut printed = BufReader::new(tail.stdout.take().unwrap());
        for _ in 0..3 {
            printed.read_line(&mut String::new()).unwrap();
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&tail), signal).unwrap();
        assert_eq!(tail.wait().unwrap().code(), Some(0), "{signal:?}");
        let file = home.path().join("mapwal/job");
        assert!(fs::read_to_string(&file).unwrap().contains("\nnext 4\n"));
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn two_runs_do_not_share_a_position() {
    let (log, home) = (closed(3), scratch());
    let mut first = at_home(home.path(), log.path(), "tail DIR --since-last-run job").spawn().unwrap();
    let mut printed = BufReader::new(first.stdout.take().unwrap());
    printed.read_line(&mut String::new()).unwrap();
    let second = since(home.path(), log.path(), "");
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!((second.code, second.text()), (4, ""));
    assert!(second.err.contains("another run with this position is under way"), "{}", second.err);
    since(home.path(), log.path(), "").done();
}

/// A `tail` and what it says on the standard error.
fn tailing(log: &Path, options: &str) -> (Running, BufReader<ChildStderr>) {
    let mut tail = Running::start(log, &format!("tail DIR --from start {options}"));
    let told = BufReader::new(tail.child.stderr.take().unwrap());
    (tail, told)
}

/// The next line on the standard error that has `text`.
fn until_told(told: &mut BufReader<ChildStderr>, text: &str) {
    let mut line = String::new();
    let mut all = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "{text} is never said: {all}");
        all.push_str(&line);
    }
}

fn number(tail: &mut Running) -> u64 {
    tail.line().unwrap().split('\t').next().unwrap().parse().unwrap()
}

#[test]
fn a_log_that_comes_back_is_followed_from_the_next_record_on() {
    let parent = scratch();
    let (log, away) = (parent.path().join("log"), parent.path().join("away"));
    fs::rename(killed(5).keep(), &log).unwrap();
    let (mut tail, mut told) = tailing(&log, "");
    (1..=5).for_each(|expected| assert_eq!(number(&mut tail), expected));
    fs::rename(&log, &away).unwrap();
    until_told(&mut told, "not where it was: removed or replaced");
    until_told(&mut told, "waiting: for a log to be there again");
    append(&away, "six\n", 1);
    fs::rename(&away, &log).unwrap();
    until_told(&mut told, "a log is there again: it goes on with record 6");
    assert_eq!(number(&mut tail), 6);
    tail.interrupt();
    assert_eq!(tail.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_log_that_takes_the_place_of_another_is_followed_from_its_first_record_on() {
    let parent = scratch();
    let log = parent.path().join("log");
    fs::rename(killed(5).keep(), &log).unwrap();
    let earlier = copy(&log);
    append(&log, "six\nseven\n", 1);
    let (mut tail, mut told) = tailing(&log, "");
    (1..=7).for_each(|expected| assert_eq!(number(&mut tail), expected));
    // The same log at an earlier time.
    fs::remove_dir_all(&log).unwrap();
    fs::rename(earlier.keep(), &log).unwrap();
    until_told(&mut told, "an older copy, without record 7");
    append(&log, "another six\n", 1);
    assert_eq!(number(&mut tail), 6);
    // Another one, which begins with a later number.
    let other = scratch();
    let options = Options::new().segment_size_bytes(64 << 10).first_lsn(Lsn(100));
    // SAFETY: the directory is one of this test.
    let made = unsafe { Log::open(other.path(), &options) }.unwrap();
    made.append(1, b"of another").unwrap();
    made.close().unwrap();
    fs::remove_dir_all(&log).unwrap();
    fs::rename(other.keep(), &log).unwrap();
    until_told(&mut told, "it is another one, from its first record on");
    assert_eq!(number(&mut tail), 100);
}

#[test]
fn a_position_does_not_move_to_another_log() {
    let parent = scratch();
    let log = parent.path().join("log");
    fs::rename(killed(5).keep(), &log).unwrap();
    let path = parent.path().join("job");
    let (mut tail, mut told) = tailing(&log, &format!("--since-last-run {}", path.display()));
    (1..=5).for_each(|expected| assert_eq!(number(&mut tail), expected));
    fs::remove_dir_all(&log).unwrap();
    fs::rename(closed(3).keep(), &log).unwrap();
    until_told(&mut told, "cannot go on: another log has taken the place of this log");
    assert_eq!(tail.child.wait().unwrap().code(), Some(4));
    assert!(fs::read_to_string(&path).unwrap().contains("\nnext 6\n"));
}

#[test]
fn without_following_a_log_that_is_gone_is_an_error() {
    let directory = scratch();
    let _writer = live(directory.path(), 10);
    let gone = directory.path().join("gone");
    assert_eq!(run(&gone, "tail DIR").code, 4, "one that was never there is not waited for");
}

#[test]
fn where_nothing_says_what_is_durable_waiting_for_it_is_refused() {
    let log = closed(10);
    fs::remove_file(log.path().join("control")).unwrap();
    // If it waits, it is ended.
    let mut tail = Running::start(log.path(), "tail DIR --durable --from start");
    assert_eq!((tail.line(), tail.child.wait().unwrap().code()), (None, Some(4)));
}
