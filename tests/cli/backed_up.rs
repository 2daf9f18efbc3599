//! `backup`, beside writers and without, `pins` beside a writer, and what `salvage` does not copy.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Options, PinDirectory};

use crate::logs::{closed, damaged, line, live, scratch, segments};
use crate::program::{Ran, run, start};

fn backup(log: &Path, out: &Path, options: &str) -> Ran {
    run(log, &format!("backup DIR {} {options}", out.display()))
}

/// The numbers of the records, each of which is checked; in a row.
fn numbers(log: &Path) -> Vec<u64> {
    numbers_by(log, "dump DIR")
}

fn numbers_by(log: &Path, command: &str) -> Vec<u64> {
    let dumped = run(log, command).done();
    let numbers: Vec<u64> =
        dumped.lines().iter().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap");
    numbers
}

fn open(path: &Path, options: &Options) -> Log {
    // SAFETY: the directory is one of this test.
    unsafe { Log::open(path, options) }.unwrap()
}

/// Ends the other threads of a test, also when it fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn small() -> Options {
    Options::new().segment_size_bytes(64 << 10)
}

#[test]
fn a_copy_of_a_closed_log_is_the_log() {
    let (log, out) = (closed(600), scratch());
    let ran = backup(log.path(), out.path(), "").done();
    assert!(ran.text().starts_with("copied 600 records from 1 on, in "), "{}", ran.text());
    assert_eq!(numbers(out.path()), (1..=600).collect::<Vec<_>>());
    run(out.path(), "verify DIR --deep").done();
    for copy in segments(out.path()) {
        let original = log.path().join(copy.file_name().unwrap());
        assert!(fs::read(&copy).unwrap() == fs::read(&original).unwrap(), "{}", copy.display());
        let blocks = fs::metadata(&copy).unwrap();
        assert!(blocks.blocks() * 512 >= blocks.len(), "a hole would be a signal on a full disk");
    }
    assert_eq!(run(log.path(), "pins DIR").done().text(), "", "the pin is gone");
    let log = open(out.path(), &small());
    assert!(log.recovery().clean);
    assert_eq!(log.append(0, b"more").unwrap(), Lsn(601));
}

#[test]
fn a_copy_goes_nowhere_where_something_is() {
    let (log, out) = (closed(10), scratch());
    fs::write(out.path().join("file"), "here").unwrap();
    let ran = backup(log.path(), out.path(), "");
    assert_eq!((ran.code, ran.err.contains("the directory is not empty")), (4, true), "{}", ran.err);
    backup(log.path(), &out.path().join("new/one"), "").done();
    assert_eq!(numbers(&out.path().join("new/one")).len(), 10);
}

#[test]
fn copies_of_a_log_that_is_written_rotated_and_trimmed_are_sound() {
    let dir = scratch();
    let log = open(dir.path(), &small());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let lsn = log.append(1, &vec![7; 900]).unwrap();
                    if lsn.0.is_multiple_of(5) {
                        log.sync().unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                let next = log.next_lsn().0;
                log.trim_before(Lsn(next.saturating_sub(400).max(1))).unwrap();
            }
        });
        let _ends = Ends(&is_over);
        let began = Instant::now();
        let mut copies = 0;
        while copies < 10 || (began.elapsed() < Duration::from_secs(4) && copies < 60) {
            std::thread::sleep(Duration::from_millis(20));
            let durable = log.durable_lsn().0;
            let out = scratch();
            backup(dir.path(), out.path(), "").done();
            run(out.path(), "verify DIR").done();
            let copied = numbers(out.path());
            assert!(*copied.last().unwrap() >= durable, "{:?} without {durable}", copied.last());
            let copy = open(out.path(), &small());
            assert_eq!(copy.recovery().torn_bytes, 0);
            assert_eq!(copy.next_lsn().0, copied.last().unwrap() + 1);
            copies += 1;
        }
    });
}

#[test]
fn a_pin_that_a_killed_backup_left_is_replaced_and_that_of_one_that_lives_is_not() {
    let (log, out) = (closed(600), scratch());
    // One that was killed.
    PinDirectory::open(log.path()).unwrap().create("mapwal-backup", "process 1, to /gone", Lsn(100), None).unwrap();
    backup(log.path(), &out.path().join("one"), "").done();
    assert_eq!(run(log.path(), "pins DIR").done().text(), "");
    // One that lives holds the file of its pin.
    PinDirectory::open(log.path()).unwrap().create("mapwal-backup", "process 1, to /there", Lsn(1), None).unwrap();
    let held = fs::File::open(log.path().join("pins/mapwal-backup")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let ran = backup(log.path(), &out.path().join("two"), "");
    assert_eq!((ran.code, ran.err.contains("another backup is under way")), (4, true), "{}", ran.err);
    assert!(run(log.path(), "pins DIR").done().text().contains("mapwal-backup"));
    backup(log.path(), &out.path().join("two"), "--no-pin").done();
}

#[test]
fn a_backup_that_is_interrupted_leaves_neither_a_pin_nor_a_log() {
    // Large enough to be copied for a while.
    let dir = scratch();
    let log = open(dir.path(), &Options::new().segment_size_bytes(16 << 20));
    for _ in 0..200 {
        log.append(0, &vec![1; 1 << 20]).unwrap();
    }
    log.sync().unwrap();
    let begin = Instant::now();
    loop {
        let out = scratch();
        let mut child =
            start(dir.path(), &format!("backup DIR {}", out.path().display())).stdin(Stdio::null()).spawn().unwrap();
        while fs::read_dir(out.path()).unwrap().count() == 0 && child.try_wait().unwrap().is_none() {}
        let pins = log.pins();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let ran = Ran::new(child.wait_with_output().unwrap());
        assert_eq!(log.pins(), []);
        if ran.code == 0 {
            // It had ended before the signal came.
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not stop");
            continue;
        }
        assert_eq!((ran.code, ran.err.contains("stopped")), (4, true), "{}", ran.err);
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
        assert!(pins[0].name == "mapwal-backup" && pins[0].limit_bytes.is_some(), "{pins:?}");
        return;
    }
}

#[test]
fn a_copy_that_a_killed_backup_has_left_never_opens_and_is_not_written_to() {
    let (dir, out) = (scratch(), scratch());
    let log = open(dir.path(), &Options::new().segment_size_bytes(16 << 20));
    for _ in 0..200 {
        log.append(0, &vec![1; 1 << 20]).unwrap();
    }
    log.sync().unwrap();
    let mut child =
        start(dir.path(), &format!("backup DIR {}", out.path().display())).stdin(Stdio::null()).spawn().unwrap();
    let names = || fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    while !names().iter().any(|name| name.to_str().unwrap().ends_with(".tmp")) {
        assert!(child.try_wait().unwrap().is_none(), "it has ended already");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = names().len();
    for command in ["append DIR", "dump DIR", "verify DIR"] {
        let ran = run(out.path(), command);
        assert_eq!((ran.code, ran.err.contains("a copy was not finished")), (4, true), "{command}: {}", ran.err);
    }
    assert_eq!(names().len(), before);
}

#[test]
fn a_damaged_log_that_is_in_use_is_said_to_be_damaged() {
    let (dir, out) = (scratch(), scratch());
    let _writer = live(dir.path(), 900);
    crate::logs::spoil(dir.path(), &line(400));
    let ran = backup(dir.path(), out.path(), "");
    assert_eq!((ran.code, ran.err.contains("damaged: ")), (2, true), "{}", ran.err);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_log_is_not_copied_and_said_to_be_damaged() {
    let (log, out) = (damaged(600), scratch());
    let ran = backup(log.path(), out.path(), "");
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    assert_eq!(run(log.path(), "pins DIR").done().text(), "", "the pin is gone");
}

#[test]
fn pins_are_changed_beside_the_writer_with_a_limit_unless_it_is_refused() {
    let dir = scratch();
    let mut writer = live(dir.path(), 600);
    let ran = run(dir.path(), "pins DIR add replica 5").done();
    assert!(ran.text().starts_with("replica keeps records from 5 on, up to "), "{}", ran.text());
    let ran = run(dir.path(), "pins DIR add other 7 --no-limit --owner me").done();
    assert_eq!(ran.text(), "other keeps records from 7 on, whatever space that takes\n");
    let ran = run(dir.path(), "pins DIR add third 8 --limit 1GiB").done();
    assert_eq!(ran.text(), "third keeps records from 8 on, up to 1.00 GiB\n");
    run(dir.path(), "pins DIR advance replica 600").done();
    let listed = run(dir.path(), "pins DIR").done();
    assert!(listed.text().contains("600") && listed.text().contains("  me\n"), "{}", listed.text());
    for name in ["replica", "other", "third"] {
        run(dir.path(), &format!("pins DIR drop {name}")).done();
    }
    assert_eq!(run(dir.path(), "pins DIR").done().text(), "");
    writer.say(&line(601));
    assert_eq!(writer.line(), Some("601".to_owned()), "the writer goes on");
    assert!(segments(dir.path()).iter().all(|path| fs::metadata(path).unwrap().len() == 64 << 10));
}

#[test]
fn salvage_says_which_pins_it_leaves_out() {
    let (log, out) = (damaged(600), scratch());
    run(log.path(), "pins DIR add replica 5").done();
    run(log.path(), "pins DIR add other 7").done();
    let ran = run(log.path(), &format!("salvage DIR {}", out.path().display()));
    assert_eq!(ran.lines().last(), Some(&"2 pins not copied: other at record 7, replica at record 5"));
    assert_eq!(run(out.path(), "pins DIR").done().text(), "");
}

/// Six sealed segments with ten records each, and the copies of them in the order that is given, with a trim after the second.
fn copied_by_hand(order: &[u64]) -> Ran {
    let (dir, out) = (scratch(), scratch());
    let log = open(dir.path(), &small());
    for _ in 0..6 {
        for _ in 0..10 {
            log.append(0, b"record").unwrap();
        }
        log.rotate().unwrap();
    }
    log.append(0, b"record").unwrap();
    log.sync().unwrap();
    for (copied, &number) in order.iter().enumerate() {
        if copied == 2 {
            log.trim_before(Lsn(41)).unwrap();
            // The files go a little later.
            let begin = Instant::now();
            while dir.path().join("00000000000000000004.seg").exists() {
                assert!(begin.elapsed() < Duration::from_secs(30), "it stays");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let name = format!("{number:020}.seg");
        match fs::copy(dir.path().join(&name), out.path().join(&name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            copied => drop(copied.unwrap()),
        }
    }
    assert_eq!(run(out.path(), "verify DIR").code, 2, "the segment that comes next is not there");
    let verified = run(out.path(), "verify DIR --archive");
    if verified.code == 0 {
        assert_eq!(numbers_by(out.path(), "dump DIR --archive"), (41..=60).collect::<Vec<_>>());
        for command in ["dump DIR", "tail DIR --no-follow", "stat DIR"] {
            assert_eq!(run(out.path(), command).code, 2, "{command}: the segment that comes next is not there");
            run(out.path(), &format!("{command} --archive")).done();
        }
        for (options, code) in [("", 3), ("--archive", 0)] {
            let saved = scratch();
            assert_eq!(run(out.path(), &format!("salvage DIR {} {options}", saved.path().display())).code, code);
            assert_eq!(numbers(saved.path()), (41..=60).collect::<Vec<_>>());
        }
        let made = scratch();
        let log = made.path().join("log");
        run(out.path(), &format!("backup --no-pin --archive DIR {}", log.display())).done();
        assert_eq!(run(&log, "verify DIR").code, 0);
        assert_eq!(open(&log, &small()).next_lsn(), Lsn(61));
        assert_eq!(open(out.path(), &small().archive(true)).next_lsn(), Lsn(61));
        assert_eq!(run(out.path(), "verify DIR").code, 0, "it goes on in a segment of its own");
    }
    verified
}

#[test]
fn sealed_segments_that_are_copied_the_newest_first_have_no_hole_whatever_is_trimmed_meanwhile() {
    let newest_first = copied_by_hand(&[6, 5, 4, 3, 2, 1]);
    assert_eq!(newest_first.code, 0, "{}", newest_first.text());
    assert_eq!(copied_by_hand(&[1, 2, 3, 4, 5, 6]).code, 2, "the oldest first is what the guide warns of");
}

#[test]
fn a_backup_counts_records_and_not_numbers() {
    let (damaged, log, one, other) = (damaged(1500), scratch(), scratch(), scratch());
    assert_eq!(run(damaged.path(), &format!("salvage DIR {}", log.path().display())).code, 3);
    let ran = backup(log.path(), one.path(), "").done();
    assert!(ran.text().starts_with("copied 1,499 records from 1 on, in "), "{}", ran.text());
    let ran = backup(log.path(), other.path(), &format!("--against {} --format json", one.path().display())).done();
    let told: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!((&told["records"], &told["next_lsn"]), (&1499.into(), &1501.into()), "{told}");
    assert!(told["shared_segments"].as_u64().unwrap() > 0, "{told}");
}

#[test]
fn a_damaged_record_is_named_by_its_number() {
    let (log, out) = (damaged(600), scratch());
    let ran = backup(log.path(), out.path(), "");
    assert_eq!((ran.code, ran.err.contains(", record 5: ")), (2, true), "{}", ran.err);
}

#[test]
fn a_pin_of_the_name_that_no_backup_has_made_stays() {
    let (log, out) = (closed(600), scratch());
    run(log.path(), "pins DIR add mapwal-backup 5").done();
    let ran = backup(log.path(), out.path(), "");
    assert_eq!((ran.code, ran.err.contains("pin mapwal-backup at record 5 is of no backup")), (4, true), "{}", ran.err);
    assert!(run(log.path(), "pins DIR").done().text().contains("mapwal-backup"));
    backup(log.path(), out.path(), "--no-pin").done();
    assert!(run(log.path(), "pins DIR").done().text().contains("mapwal-backup"));
}

#[test]
fn a_batch_that_has_not_come_to_its_end_is_not_copied() {
    let (log, out) = (crate::tears::batch(), scratch());
    backup(log.path(), out.path(), "").done();
    run(out.path(), "verify DIR").done();
    assert_eq!(numbers(out.path()), (1..=crate::tears::RECORDS).collect::<Vec<_>>());
}
