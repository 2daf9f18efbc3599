//! `mapwal trim`: what goes, what stays, and when nothing does.

use std::fs;
use std::path::Path;

use mapwal::wal::{PageId, RecoverFrom, Wal, WalOptions};
use mapwal::{Error, Log, Options};

use crate::logs::{closed, copy, frames, killed, live, scratch, segments, torn};
use crate::mounted::Mounted;
use crate::program::{run, run_with_input};
use crate::repaired::files;

const RECORDS: u64 = 2000;
const SEGMENT: u64 = 64 << 10;

/// The first record that is left.
fn first(directory: &Path) -> u64 {
    let ran = run(directory, "dump DIR --format text").done();
    ran.lines()[0].split('\t').next().unwrap().parse().unwrap()
}

fn check_rest(directory: &Path, first: u64) {
    let ran = run(directory, "dump DIR --format text").done();
    assert_eq!(ran.lines().len() as u64, RECORDS + 1 - first, "nothing else went");
    run(directory, "verify DIR").done();
}

#[test]
fn whole_segments_below_a_record_go_and_that_is_said() {
    let log = closed(RECORDS);
    let before = segments(log.path()).len();
    let ran = run(log.path(), "trim DIR --before 1000").done();
    let first = first(log.path());
    assert!((2..=1000).contains(&first), "{first}");
    let gone = before - segments(log.path()).len();
    assert!(gone > 0);
    let freed = gone as u64 * 64;
    let size = if freed == 64 { "64.00 KiB".to_owned() } else { format!("{freed}.00 KiB") };
    let segments = if gone == 1 { "1 segment".to_owned() } else { format!("{gone} segments") };
    assert_eq!(ran.text(), format!("{segments} dropped, {size} freed; the log starts at record {first}\n"));
    check_rest(log.path(), first);
}

#[test]
fn as_much_stays_as_is_asked_for() {
    let log = closed(RECORDS);
    run(log.path(), "trim DIR --keep-records 1000").done();
    let kept_by_records = first(log.path());
    assert!((2..=RECORDS - 999).contains(&kept_by_records), "{kept_by_records}");
    run(log.path(), "trim DIR --keep-bytes 128KiB").done();
    assert!(first(log.path()) > kept_by_records);
    assert_eq!(segments(log.path()).len() as u64 * SEGMENT, 128 << 10);
    check_rest(log.path(), first(log.path()));
}

#[test]
#[cfg(target_os = "linux")]
fn no_more_is_said_to_be_gone_than_is_gone() {
    use indicatif::BinaryBytes;
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

    let log = closed(RECORDS);
    let second = fs::File::open(&segments(log.path())[1]).unwrap();
    let set = |flags| ioctl_setflags(&second, flags);
    let Ok(flags) = ioctl_getflags(&second).and_then(|flags| set(flags | IFlags::IMMUTABLE).map(|()| flags)) else {
        eprintln!("SKIPPED: no file can be made immutable here");
        return;
    };
    let before = segments(log.path()).len();
    let ran = run(log.path(), "trim DIR --keep-records 10");
    set(flags).unwrap();
    let first = first(log.path());
    assert!(first > 1000, "{first}");
    let left = segments(log.path()).len();
    let gone = before - left;
    assert!(gone > 1, "{gone}");
    let freed = BinaryBytes(gone as u64 * SEGMENT);
    let said = format!("{gone} segments dropped, {freed} freed; the log starts at record {first}\n");
    assert_eq!((ran.code, ran.text()), (4, &*said), "{}", ran.err);
    let why = format!("cannot remove: operation not permitted: {}", segments(log.path())[0].display());
    assert!(ran.err.contains(&why), "{}", ran.err);
    // What an earlier one could not remove is removed, and said to be.
    let ran = run(log.path(), "trim DIR --keep-records 10").done();
    assert!(ran.text().starts_with("1 segment dropped, 64.00 KiB freed; "), "{}", ran.text());
    assert_eq!(segments(log.path()).len(), left - 1);
    check_rest(log.path(), first);
}

#[test]
fn a_damaged_pin_is_named_and_goes_by_force() {
    let log = closed(RECORDS);
    run(log.path(), "pins DIR add replica 300").done();
    fs::write(log.path().join("pins/replica"), b"").unwrap();
    let ran = run(log.path(), "trim DIR --before 1000");
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("damaged pin replica keeps record 1 and all after it"), "{}", ran.err);
    assert_eq!(first(log.path()), 1);
    let ran = run(log.path(), "trim DIR --before 1000 --force").done();
    assert!(ran.text().contains(" dropped, which kept record "), "{}", ran.text());
    assert!(first(log.path()) > 300);
}

#[test]
fn a_pin_is_not_passed_unless_that_is_forced() {
    let log = closed(RECORDS);
    run(log.path(), "pins DIR add replica 300").done();
    let before = first(log.path());
    let ran = run(log.path(), "trim DIR --before 1000");
    assert_eq!(ran.code, 4);
    assert!(ran.err.contains("pin replica keeps record 300 and all after it; --force drops the pin"), "{}", ran.err);
    assert_eq!(first(log.path()), before);
    run(log.path(), "trim DIR --before 300").done();
    assert!(first(log.path()) <= 300);
    run(log.path(), "trim DIR --before 1000 --force").done();
    assert!(first(log.path()) > 300);
    assert_eq!(run(log.path(), "pins DIR").done().text(), "");
}

/// A log that this process has open, with so many records.
fn opened(directory: &Path, options: &Options) -> Log {
    // SAFETY: the directory is one of the test that calls this.
    let log = unsafe { Log::open(directory, &options.clone().segment_size_bytes(SEGMENT)) }.unwrap();
    for _ in 0..RECORDS {
        log.append(7, &[7; 150]).unwrap();
    }
    log.sync().unwrap();
    log
}

#[test]
fn a_writer_that_takes_no_requests_is_named_and_nothing_goes() {
    let directory = scratch();
    let log = opened(directory.path(), &Options::new());
    let ran = run(directory.path(), "trim DIR --before 500");
    assert_eq!(ran.code, 4);
    let who = format!("process {} has the log open, and takes no requests", std::process::id());
    assert!(ran.err.contains(&who) && !ran.err.contains("; what pin"), "{}", ran.err);
    for (name, from) in [("late", 300), ("early", 7)] {
        run(directory.path(), &format!("pins DIR add {name} {from}")).done();
    }
    let ran = run(directory.path(), "trim DIR --before 500 --force");
    assert!(ran.err.contains("; what pin early keeps, from record 7 on, it does not trim"), "{}", ran.err);
    assert_eq!((log.first_lsn().0, log.pins().len()), (1, 2));
}

#[test]
fn a_writer_trims_its_log_for_the_program_and_keeps_what_it_needs() {
    let directory = scratch();
    let log = opened(directory.path(), &Options::new().trim_on_request(true));
    run(directory.path(), "pins DIR add replica 700").done();
    let ran = run(directory.path(), "trim DIR --before 1000");
    assert!(ran.code == 4 && ran.err.contains("pin replica keeps record 700 and all after it"), "{}", ran.err);
    assert_eq!(log.first_lsn().0, 1);
    let ran = run(directory.path(), "trim DIR --before 700").done();
    let first = log.first_lsn().0;
    assert!((2..=700).contains(&first), "{first}");
    let says =
        |ran: &crate::program::Ran| ran.text().ends_with(&format!("; the log starts at record {}\n", log.first_lsn()));
    assert!(ran.text().starts_with("2 segments dropped, 128.00 KiB freed; ") && says(&ran), "{}", ran.text());
    // What the process pins for itself it tells nobody of before.
    let guard = log.pin(mapwal::Lsn(1100)).unwrap();
    let ran = run(directory.path(), "trim DIR --keep-records 1 --force");
    let first = log.first_lsn().0;
    let needs = format!("process {} needs record {first} and all after it", std::process::id());
    assert!(ran.code == 4 && ran.err.contains(&needs) && says(&ran), "{}{}", ran.text(), ran.err);
    assert!(ran.text().starts_with("pin replica dropped"), "{}", ran.text());
    assert!((701..=1100).contains(&first), "{first}");
    drop(guard);
    let ran = run(directory.path(), "trim DIR --keep-records 1").done();
    assert!(says(&ran), "{}", ran.text());
    assert_eq!(log.sealed(0).unwrap().len(), 0);
    assert_eq!(run(directory.path(), "dump DIR").done().lines().len() as u64, RECORDS + 1 - log.first_lsn().0);
    log.close().unwrap();
    run(directory.path(), "verify DIR").done();
}

#[test]
fn no_room_is_said_to_be_freed_that_the_writer_keeps() {
    let directory = scratch();
    let log = opened(directory.path(), &Options::new().trim_on_request(true).spare_segments(2));
    let dropped = log.sealed(0).unwrap().len();
    assert!(dropped > 3, "{dropped}");
    let ran = run(directory.path(), "trim DIR --keep-records 1").done();
    let freed = (dropped - 2) * 64;
    let said = format!("{dropped} segments dropped, {freed}.00 KiB freed, 128.00 KiB kept for further segments; ");
    assert!(ran.text().starts_with(&said), "{said}{}", ran.text());
    drop(log);
}

#[test]
fn a_writer_that_does_not_answer_is_not_waited_for_for_ever() {
    let directory = scratch();
    let writer = live(directory.path(), 800);
    let pid = rustix::process::Pid::from_child(&writer.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let ran = run(directory.path(), "trim DIR --before 500");
    assert_eq!(ran.code, 4);
    assert!(ran.err.contains("did not answer for ten seconds; the request is taken back"), "{}", ran.err);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    run(directory.path(), "trim DIR --before 1").done();
    assert_eq!(first(directory.path()), 1, "what was taken back was done");
}

#[test]
fn what_stays_of_a_log_has_to_be_said() {
    let log = closed(10);
    assert_eq!(run(log.path(), "trim DIR").code, 64);
    assert_eq!(run(log.path(), "trim DIR --before 5 --keep-records 3").code, 64);
    let empty = scratch();
    assert_eq!(run(empty.path(), "trim DIR --before 5").code, 4, "there is no log");
    assert!(fs::read_dir(empty.path()).unwrap().next().is_none(), "and none is made");
}

#[test]
fn a_log_that_has_filled_its_disk_and_crashed_is_trimmed_there() {
    let Some(disk) = Mounted::of_size(1 << 20) else { return };
    let directory = disk.path().join("log");
    // SAFETY: the file system is one of this test, which opens the log once at a time.
    let log = unsafe { Log::open(&directory, &Options::new().segment_size_bytes(SEGMENT)) }.unwrap();
    let refused = (0..20_000).find_map(|_| log.append(7, &[7; 200]).err());
    assert!(matches!(refused, Some(Error::NoSpace { .. })), "{refused:?}");
    // As a crash of the process leaves it.
    drop(log);
    std::fs::write(disk.path().join("ballast"), vec![1; 1 << 20]).unwrap_err();
    let ran = run_with_input(&directory, "append DIR", b"refused");
    assert!(ran.err.contains("disk full"), "{}", ran.err);
    run(&directory, "trim DIR --keep-records 100").done();
    let left = first(&directory);
    assert!(left > 1000, "{left}");
    run(&directory, "verify DIR").done();
    assert_eq!(run_with_input(&directory, "append DIR", b"goes on").done().lines().len(), 1);
}

#[test]
fn numbers_without_records_are_not_counted() {
    let directory = scratch();
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(directory.path(), &Options::new().segment_size_bytes(SEGMENT)) }.unwrap();
    for _ in 0..10 {
        for _ in 0..20 {
            log.append(7, b"a record").unwrap();
        }
        log.rotate().unwrap();
    }
    for _ in 0..100 {
        log.append_void().unwrap();
    }
    log.close().unwrap();
    run(directory.path(), "trim DIR --keep-records 50").done();
    let left = run(directory.path(), "dump DIR").done().lines().len();
    assert_eq!(left, 60, "three segments with 20 records each");
}

#[test]
fn a_pin_that_loses_records_is_named() {
    let log = closed(RECORDS);
    run(log.path(), "pins DIR add replica 300 --limit 64KiB").done();
    run(log.path(), "pins DIR add near 1500 --limit 1GiB").done();
    let ran = run(log.path(), "trim DIR --before 1000").done();
    let lost = "pin replica lost, which held back more than its limit, from record 300 on";
    assert_eq!(ran.lines()[0], lost);
    assert_eq!(ran.lines().len(), 2, "{}", ran.text());
    // It is told once.
    assert_eq!(run(log.path(), "trim DIR --before 1000").done().lines().len(), 1);
}

#[test]
fn a_trim_that_is_refused_changes_nothing_and_one_that_drops_a_torn_end_says_so() {
    let log = torn(100);
    run(log.path(), "pins DIR add replica 50").done();
    let before = files(log.path());
    assert_eq!(run(log.path(), "trim DIR --before 90").code, 4);
    assert!(files(log.path()) == before, "the torn end is gone");
    for command in ["trim DIR --before 90 --force", "append DIR"] {
        let log = copy(log.path());
        let ran = run(log.path(), command);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.err.starts_with("mapwal: torn end dropped: "), "{command}: {}", ran.err);
        assert_eq!(run(log.path(), "verify DIR").done().code, 0);
    }
}

fn open_wal(directory: &Path, from: RecoverFrom) -> mapwal::wal::Result<Wal> {
    let log = Options::new().segment_size_bytes(SEGMENT).trim_on_request(true);
    let options = WalOptions::new().log(log).recover_from(from);
    // SAFETY: the directory is one of this test, which opens the log once at a time.
    unsafe { Wal::open(directory, &options) }
}

/// Transactions that fill some segments.
fn fill(wal: &Wal) {
    for _ in 0..200 {
        let mut transaction = wal.begin().unwrap();
        transaction.insert(PageId(1), &[1; 1000]).unwrap();
        transaction.commit().unwrap().applied();
    }
}

#[test]
fn records_of_the_application_do_not_hide_what_recovery_of_transactions_needs() {
    let directory = scratch();
    let wal = open_wal(directory.path(), RecoverFrom::Checkpoint).unwrap();
    for _ in 0..200 {
        wal.append_plain(0x8000, &[1; 1000]).unwrap();
    }
    fill(&wal);
    wal.close().unwrap();
    let ran = run(directory.path(), "trim DIR --keep-records 10");
    assert_eq!(ran.code, 4, "{}", ran.text());
    assert!(ran.err.contains("a log of transactions without a checkpoint needs record 1 "), "{}", ran.err);
    assert_eq!(first(directory.path()), 1);
}

#[test]
fn the_last_segment_with_a_record_stays_whatever_is_asked() {
    for extent in ["--keep-records 0", "--keep-bytes 1", "--keep-bytes 100KiB", "--before 1000000"] {
        for is_reopened in [false, true] {
            let log = killed(600);
            let last = segments(log.path()).into_iter().rfind(|path| frames(path).len() > 2).unwrap();
            if is_reopened {
                run_with_input(log.path(), "append DIR", b"").done();
            }
            run(log.path(), &format!("trim DIR {extent}")).done();
            assert!(last.exists(), "{extent}");
            let kept = run(log.path(), "dump DIR").done().lines().len();
            assert!((1..600).contains(&kept), "{extent}: {kept}");
        }
    }
}

#[test]
fn what_recovery_of_transactions_needs_stays_unless_it_is_forced() {
    for (has_checkpoint, is_open) in [(true, false), (true, true), (false, false)] {
        let directory = scratch();
        let wal = open_wal(directory.path(), RecoverFrom::Checkpoint).unwrap();
        fill(&wal);
        let mut needed = 1;
        if has_checkpoint {
            let open = is_open.then(|| wal.begin().unwrap());
            needed = wal.current_lsn().0 - u64::from(is_open);
            fill(&wal);
            // Listed with its first record, from before the redo point.
            let checkpoint = wal.log_checkpoint(&[], &[]).unwrap();
            needed = if is_open { needed } else { checkpoint.0 };
            drop(open);
            fill(&wal);
        }
        wal.close().unwrap();
        let ran = run(directory.path(), "trim DIR --keep-records 10");
        assert_eq!(ran.code, 4, "{}", ran.text());
        assert!(
            ran.err.contains(&format!("needs record {needed} and all after it; with --force they go")),
            "{}",
            ran.err
        );
        assert_eq!(first(directory.path()), 1);
        run(directory.path(), &format!("trim DIR --before {needed}")).done();
        assert!(first(directory.path()) <= needed);
        open_wal(directory.path(), RecoverFrom::Checkpoint).unwrap().close().unwrap();
        run(directory.path(), "trim DIR --keep-records 10 --force").done();
        assert!(first(directory.path()) > needed);
        // Asked for and told: the remedy that is named works.
        assert!(open_wal(directory.path(), RecoverFrom::Checkpoint).is_err() || !has_checkpoint);
        let wal = open_wal(directory.path(), RecoverFrom::OldestRecord).unwrap();
        wal.log_checkpoint(&[], &[]).unwrap();
        wal.close().unwrap();
        open_wal(directory.path(), RecoverFrom::Checkpoint).unwrap();
    }
}
