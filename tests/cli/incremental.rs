//! `backup` of what an earlier one has already, and of blocks that files share.
//!
//! Planted, and noticed: no control page (half a copy is a shorter log); an earlier segment whose checksum or bytes are not
//! compared; a parting not told; a copy inside the log.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Options};
use tempfile::TempDir;

use crate::file_system::{FileSystem, Kind};
use crate::logs::{copy, damaged, scratch, segments, write_at};
use crate::program::{Ran, run};

fn open(path: &Path) -> Log {
    // SAFETY: the directory is one of this test.
    unsafe { Log::open(path, &Options::new().segment_size_bytes(64 << 10)) }.unwrap()
}

/// Fills so many segments, and begins the next.
fn fill(log: &Log, segments: usize) {
    for _ in 0..segments {
        for _ in 0..20 {
            log.append(1, &[7; 1000]).unwrap();
        }
        log.rotate().unwrap();
    }
    log.append(1, b"the last").unwrap();
    log.sync().unwrap();
}

/// A backup of `log`, against `earlier`.
fn against(log: &Path, out: &Path, earlier: &Path) -> Ran {
    run(log, &format!("backup DIR {} --against {}", out.display(), earlier.display()))
}

/// A log with so many full segments, and a backup of it.
fn backed_up(full: usize) -> (TempDir, Log, TempDir) {
    let (dir, out) = (scratch(), scratch());
    let log = open(dir.path());
    fill(&log, full);
    run(dir.path(), &format!("backup DIR {}", out.path().join("one").display())).done();
    (dir, log, out)
}

fn records(path: &Path) -> usize {
    run(path, "verify DIR").done();
    run(path, "dump DIR").done().lines().len()
}

#[test]
fn whatever_part_of_a_copy_has_its_names_is_no_log() {
    let (_dir, _log, out) = backed_up(3);
    let one = out.path().join("one");
    assert_eq!(records(&one), 61);
    let whole = segments(&one).len();
    for there in 0..whole {
        let part = copy(&one);
        for file in &segments(part.path())[..whole - there] {
            fs::rename(file, file.with_extension("tmp")).unwrap();
        }
        let verified = run(part.path(), "verify DIR");
        assert_eq!(verified.code, 2, "{there} of {whole}: {}", verified.text());
        // SAFETY: the directory is one of this test.
        let opened = unsafe { Log::open(part.path(), &Options::new()) };
        assert!(matches!(opened, Err(mapwal::Error::Corrupt(_))), "{there} of {whole}: {opened:?}");
    }
    // Before that it is none at all.
    let unnamed = scratch();
    for file in segments(&one) {
        fs::copy(&file, unnamed.path().join(file.with_extension("tmp").file_name().unwrap())).unwrap();
    }
    assert_eq!(run(unnamed.path(), "verify DIR").code, 4);
    // What is lost later is missed as well.
    fs::remove_file(&segments(&one)[0]).unwrap();
    assert_eq!(run(&one, "verify DIR").code, 2);
}

#[test]
fn full_segments_that_an_earlier_backup_has_are_shared_with_it_and_the_newest_is_not() {
    let (dir, log, out) = backed_up(3);
    fill(&log, 2);
    let (one, two) = (out.path().join("one"), out.path().join("two"));
    let ran = against(dir.path(), &two, &one).done();
    let expected = format!("copied 102 records from 1 on, in 6 segments, 3 of them shared with {}\n", one.display());
    assert_eq!(ran.text(), expected);
    let links: Vec<u64> = segments(&two).iter().map(|file| fs::metadata(file).unwrap().nlink()).collect();
    assert_eq!(links, [2, 2, 2, 1, 1, 1]);
    assert_eq!((records(&one), records(&two)), (61, 102));
    // Neither needs the other.
    fs::remove_dir_all(&one).unwrap();
    assert_eq!(records(&two), 102);
    let restored = open(&two);
    assert_eq!(restored.append(1, b"more").unwrap(), Lsn(103));
}

#[test]
fn what_a_log_made_of_an_earlier_backup_does_changes_no_later_one() {
    let (dir, log, out) = backed_up(3);
    fill(&log, 1);
    let (one, two, three) = (out.path().join("one"), out.path().join("two"), out.path().join("three"));
    against(dir.path(), &two, &one).done();
    let bytes = |of: &Path| segments(of).iter().map(|file| fs::read(file).unwrap()).collect::<Vec<_>>();
    let before = bytes(&two);
    let restored = open(&one);
    let began = Instant::now();
    while restored.stats().recycled_segments < 4 {
        assert!(began.elapsed() < Duration::from_secs(60), "no file is used again");
        fill(&restored, 1);
        restored.trim_before(restored.next_lsn()).unwrap();
    }
    restored.close().unwrap();
    assert!(before == bytes(&two));
    // Nothing of what it has gone on with is taken for the log's.
    let ran = against(dir.path(), &three, &one).done();
    assert!(ran.text().contains(" 0 of them shared with "), "{}", ran.text());
    assert!(ran.text().contains("one parts from the log at record "), "{}", ran.text());
    assert_eq!(records(&three), 82);
}

#[test]
fn an_earlier_segment_that_is_damaged_or_differs_is_not_shared() {
    let (dir, _log, out) = backed_up(3);
    let one = out.path().join("one");
    // A byte of a payload, in the second one.
    write_at(&segments(&one)[1], 40_00 + 1000, &[8]);
    let two = out.path().join("two");
    let ran = against(dir.path(), &two, &one);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.text().contains("in 4 segments, 2 of them shared with "), "{}", ran.text());
    assert!(ran.err.contains("that is not taken from the earlier copy: "), "{}", ran.err);
    assert!(ran.err.contains(&segments(&one)[1].display().to_string()), "{}", ran.err);
    assert_eq!(records(&two), 61);
    // Of headers and the control page, before anything is copied.
    write_at(&one.join("control"), 20, &[8]);
    let ran = against(dir.path(), &out.path().join("three"), &one);
    assert!(ran.err.contains("that is not taken from the earlier copy: "), "{}", ran.err);
    assert!(ran.err.contains("/one/control"), "{}", ran.err);
}

#[test]
fn an_earlier_segment_of_the_same_number_and_length_that_went_another_way_is_not_shared() {
    for is_sealed in [true, false] {
        let (dir, out) = (scratch(), scratch());
        open(dir.path()).close().unwrap();
        let one = out.path().join("one");
        run(dir.path(), &format!("backup DIR {}", one.display())).done();
        // Both go on in the segment that was closed, with as many bytes and the same last record.
        for (path, byte) in [(dir.path(), 1), (&*one, 2)] {
            let log = open(path);
            for payload in [[byte; 100], [7; 100], [8; 100]] {
                log.append(1, &payload).unwrap();
            }
            log.sync().unwrap();
            if is_sealed {
                log.rotate().unwrap();
            } else {
                log.truncate_after(Lsn(2)).unwrap();
            }
            log.append(1, b"goes on").unwrap();
            log.close().unwrap();
        }
        let two = out.path().join("two");
        let ran = against(dir.path(), &two, &one).done();
        assert!(ran.text().contains("in 2 segments, 0 of them shared with "), "{}", ran.text());
        assert!(ran.text().contains("one parts from the log at record 1: "), "{}", ran.text());
        let dumped = run(&two, "dump DIR --to 1").done();
        assert!(dumped.text().contains("\\x01\\x01") && !dumped.text().contains("\\x02"), "{}", dumped.text());
    }
}

#[test]
fn a_log_that_was_truncated_since_an_earlier_backup_is_told_from_where() {
    let (dir, log, out) = backed_up(3);
    let one = out.path().join("one");
    log.truncate_after(Lsn(45)).unwrap();
    fill(&log, 1);
    let two = out.path().join("two");
    let ran = against(dir.path(), &two, &one).done();
    let told: Vec<&str> = ran.lines();
    assert!(told[0].contains(" 3 of them shared with "), "{}", ran.text());
    assert!(told[1].contains("one parts from the log at record 46: it was truncated"), "{}", ran.text());
    assert_eq!(records(&two), 45 + 21);
    // What has been trimmed, and what has come since, is no parting.
    log.trim_before(Lsn(41)).unwrap();
    fill(&log, 1);
    let ran = against(dir.path(), &out.path().join("three"), &two).done();
    assert_eq!(ran.lines().len(), 1, "{}", ran.text());
}

#[test]
fn an_earlier_backup_of_another_log_is_refused_and_so_is_the_log_itself() {
    let (dir, _log, out) = backed_up(1);
    let (_other, _it, of_other) = backed_up(1);
    for (earlier, why) in [
        (of_other.path().join("one"), "no earlier copy of this log"),
        (dir.path().to_owned(), "the log is no copy of itself"),
        (out.path().join("none"), "no log"),
    ] {
        let ran = against(dir.path(), &out.path().join("two"), &earlier);
        assert_eq!((ran.code, ran.err.contains(why)), (4, true), "{}", ran.err);
    }
    assert_eq!(run(dir.path(), "pins DIR").done().text(), "", "the pin is gone");
}

#[test]
fn an_earlier_copy_that_is_damaged_spoils_nothing() {
    let (log, out) = (crate::logs::synced(1200), scratch());
    let (earlier, new) = (out.path().join("earlier"), out.path().join("new"));
    run(log.path(), &format!("backup DIR {}", earlier.display())).done();
    for spoilt in &segments(&earlier)[1..3] {
        crate::logs::write_at(spoilt, 20, &[99]);
    }
    let ran = against(log.path(), &new, &earlier);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.text().starts_with("copied 1,200 records from 1 on, "), "{}", ran.text());
    assert!(ran.err.contains("it was not compared with the log, and nothing was taken from it: "), "{}", ran.err);
    run(&new, "verify DIR").done();
    assert_eq!(records(&new), 1200);
}

#[test]
fn a_copy_inside_the_log_is_refused_however_it_is_named() {
    let log = damaged(10);
    let before = fs::read_dir(log.path()).unwrap().count();
    let beside = scratch();
    symlink(log.path(), beside.path().join("link")).unwrap();
    symlink(log.path().join("not/there"), beside.path().join("dangling")).unwrap();
    fs::create_dir(beside.path().join("directory")).unwrap();
    let inside: Vec<PathBuf> = vec![
        log.path().join("copy"),
        log.path().join("deep/down/copy"),
        beside.path().join("link/copy"),
        beside.path().join("dangling"),
        beside.path().join("directory/../link/copy"),
        beside.path().join("none/../link/copy"),
    ];
    for out in inside {
        for command in ["backup", "salvage"] {
            let ran = run(log.path(), &format!("{command} DIR {}", out.display()));
            assert_eq!((ran.code, ran.err.contains("inside the log")), (4, true), "{command} {out:?}: {}", ran.err);
        }
    }
    assert_eq!(fs::read_dir(log.path()).unwrap().count(), before, "nothing was made");
}

/// A log whose files share their blocks with a copy, and which uses them again.
fn reflinked_on(kind: Kind) {
    let Some(disk) = FileSystem::mount(kind, 300) else { return };
    let (dir, one, two) = (disk.path().join("log"), disk.path().join("one"), disk.path().join("two"));
    let log = open(&dir);
    fill(&log, 8);
    let ran = run(&dir, &format!("backup DIR {}", one.display())).done();
    assert_eq!(ran.text(), "copied 161 records from 1 on, in 9 segments, 8 of them as reflinks\n", "{kind:?}");
    let ran = against(&dir, &two, &one).done();
    assert!(ran.text().contains("8 of them shared with "), "{}", ran.text());
    let bytes: Vec<_> = segments(&one).iter().map(|file| fs::read(file).unwrap()).collect();
    let began = Instant::now();
    while log.stats().recycled_segments < 16 {
        assert!(began.elapsed() < Duration::from_secs(60), "no file is used again");
        fill(&log, 4);
        log.trim_before(log.next_lsn()).unwrap();
    }
    log.close().unwrap();
    disk.sync();
    for made in [&one, &two] {
        assert!(segments(made).iter().map(|file| fs::read(file).unwrap()).eq(bytes.iter().cloned()), "{kind:?}");
        assert_eq!(records(made), 161);
        assert_eq!(run(made, "verify DIR --deep").done().code, 0);
        assert_eq!(fs::metadata(&segments(made)[0]).unwrap().nlink(), 1, "blocks are shared, not files");
    }
    // The newest segment's blocks are the log's own.
    assert_eq!(open(&one).append(1, b"more").unwrap(), Lsn(162));
}

#[test]
fn a_reflinked_copy_keeps_its_bytes_when_the_log_uses_its_files_again_on_xfs() {
    reflinked_on(Kind::Xfs);
}

#[test]
fn a_reflinked_copy_keeps_its_bytes_when_the_log_uses_its_files_again_on_btrfs() {
    reflinked_on(Kind::Btrfs);
}

#[test]
fn a_copy_that_fails_while_it_gets_its_names_is_no_log() {
    let (log, out) = (crate::logs::closed(600), scratch());
    // In the way of the control page, which gets its name first.
    fs::write(out.path().join("control.tmp"), "left over").unwrap();
    let ran = run(log.path(), &format!("backup DIR {}", out.path().display()));
    assert_eq!((ran.code, ran.err.contains("; delete the directory of the copy")), (4, true), "{}", ran.err);
    let ran = run(out.path(), "verify DIR");
    assert_eq!((ran.code, ran.err.contains("a copy was not finished; delete the directory")), (4, true), "{}", ran.err);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 2, "the guard, and what was in the way");
}

#[test]
fn a_backup_that_looks_at_an_earlier_one_is_interrupted_before_it_has_looked_at_all_of_it() {
    let (dir, out) = (scratch(), scratch());
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(8 << 20)) }.unwrap();
    for _ in 0..60 {
        log.append(0, &vec![1; 1 << 20]).unwrap();
    }
    log.sync().unwrap();
    let (one, two) = (out.path().join("one"), out.path().join("two"));
    run(dir.path(), &format!("backup DIR {}", one.display())).done();
    let begin = Instant::now();
    loop {
        // One that shares the file changes how many names it has.
        let last = segments(&one).into_iter().nth_back(1).unwrap();
        let changed = || fs::metadata(&last).map(|found| (found.ctime(), found.ctime_nsec())).unwrap();
        let before = changed();
        let command = format!("backup DIR {} --against {}", two.display(), one.display());
        let mut child = crate::program::start(dir.path(), &command).spawn().unwrap();
        while child.try_wait().unwrap().is_none() {
            if two.join("backup-under-way.seg").exists() {
                let pid = rustix::process::Pid::from_child(&child);
                rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
                break;
            }
        }
        let ran = Ran::new(child.wait_with_output().unwrap());
        if ran.code == 4 && changed() == before {
            assert!(ran.err.contains("stopped: the copy is removed"), "{}", ran.err);
            return;
        }
        // The signal came too late.
        assert!(begin.elapsed() < Duration::from_secs(30), "it does not stop: {}", ran.err);
        fs::remove_dir_all(&two).unwrap();
    }
}
