//! `repair`: in place, by steps that may be interrupted.
//!
//! Planted, and noticed: a control page that goes before the segments; a guard removed too early; a segment kept that ends
//! without a seal; new numbers for old files; files taken back that were made anew.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use mapwal::{Log, Lsn, Options};
use tempfile::TempDir;

use crate::logs::{closed, copy, killed, line, live, scratch, segments, spoil, synced, torn, write_at};
use crate::program::{Ran, run, run_with_input, start};

/// All files of a directory and of those in it, but for locks, with their bytes.
pub(crate) fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("LOCK") {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

/// The numbers of the records.
pub(crate) fn numbers(log: &Path) -> Vec<u64> {
    let dumped = run(log, "dump DIR").done();
    dumped.lines().iter().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect()
}

/// Damaged logs of 1200 records in four segments, with the numbers that can be saved.
fn damaged_logs() -> Vec<(&'static str, TempDir, Vec<u64>)> {
    let sound = synced(1200);
    let made = |spoil: &dyn Fn(&Path, &[PathBuf])| {
        let log = copy(sound.path());
        spoil(log.path(), &segments(log.path()));
        log
    };
    let of = |log: &Path| {
        let out = scratch();
        run(log, &format!("salvage DIR {}", out.path().display()));
        numbers(out.path())
    };
    let logs = [
        ("a record", made(&|log, _| drop(spoil(log, &line(700))))),
        ("the first header", made(&|_, files| write_at(&files[0], 20, &[99]))),
        ("a name", made(&|_, files| fs::rename(&files[1], files[1].with_extension("tmp")).unwrap())),
        ("the last segment", made(&|_, files| fs::remove_file(&files[3]).unwrap())),
    ];
    logs.into_iter().map(|(name, log)| (name, of(log.path()), log)).map(|(name, of, log)| (name, log, of)).collect()
}

#[test]
fn a_log_is_repaired_in_place_and_what_was_damaged_is_set_aside() {
    for (name, log, there) in damaged_logs() {
        let before = files(log.path());
        let ran = run(log.path(), "repair DIR");
        assert_eq!(ran.code, 2, "{name}: {}", ran.text());
        assert!(ran.text().ends_with("nothing is changed; --apply carries it out\n"), "{}", ran.text());
        assert!(files(log.path()) == before, "{name}: changed by a look");
        let ran = run(log.path(), "repair DIR --apply");
        assert_eq!(ran.code, 3, "{name}: {}{}", ran.text(), ran.err);
        assert!(ran.text().contains("lost "), "{name}: {}", ran.text());
        assert_eq!(numbers(log.path()), there, "{name}");
        run(log.path(), "verify DIR").done();
        // What was set aside is there as it was.
        let aside = files(&log.path().join("repair-1"));
        assert!(aside.contains_key(&log.path().join("repair-1/control")), "{name}");
        for (path, bytes) in aside.into_iter().filter(|(path, _)| !path.ends_with("lost")) {
            let was = log.path().join(path.file_name().unwrap());
            assert!(before[&was] == bytes, "{name}: {}", path.display());
        }
        // The numbers go on after all that there were, and a second repair finds nothing.
        let ran = run_with_input(log.path(), "append DIR", b"more\n").done();
        assert_eq!(ran.text(), "1201\n", "{name}");
        assert_eq!(run(log.path(), "repair DIR --apply").done().text(), "nothing to repair: the log is sound\n");
    }
}

#[test]
fn a_file_that_may_be_a_missing_segment_is_set_aside_and_that_of_a_dropped_one_is_not() {
    let log = synced(1200);
    run(log.path(), "trim DIR --before 400").done();
    let [first, second] = &segments(log.path())[..2] else { unreachable!() };
    let (renamed, dropped) = (second.with_extension("tmp"), log.path().join(format!("{:020}.tmp", 1)));
    assert!(!first.ends_with(format!("{:020}.seg", 1)), "it was dropped");
    let bytes = fs::read(second).unwrap();
    fs::rename(second, &renamed).unwrap();
    fs::write(&dropped, [0; 4096]).unwrap();
    assert_eq!(run(log.path(), "repair DIR --apply").code, 3);
    assert!(fs::read(log.path().join("repair-1").join(renamed.file_name().unwrap())).unwrap() == bytes);
    assert!(!renamed.exists() && !dropped.exists());
    // Without the page nothing says that it was dropped.
    let log = synced(1200);
    spoil(log.path(), &line(700));
    fs::remove_file(log.path().join("control")).unwrap();
    fs::write(log.path().join(dropped.file_name().unwrap()), [0; 4096]).unwrap();
    assert_eq!(run(log.path(), "repair DIR --apply").code, 3);
    assert!(log.path().join("repair-1").join(dropped.file_name().unwrap()).exists());
}

#[test]
fn only_what_follows_the_last_full_segment_before_the_damage_is_made_anew() {
    let log = synced(1200);
    spoil(log.path(), &line(700));
    let inodes = |log: &Path| segments(log).iter().map(|file| fs::metadata(file).unwrap().ino()).collect::<Vec<_>>();
    let (before, count) = (inodes(log.path()), segments(log.path()).len());
    assert_eq!(run(log.path(), "repair DIR --apply").code, 3);
    assert_eq!(inodes(log.path())[..2], before[..2], "the first two are the files that they were");
    for path in &segments(log.path())[2..] {
        let number: usize = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        assert!(number > count, "{number} is used again");
    }
}

#[test]
fn what_a_truncation_dropped_does_not_come_back() {
    let dir = scratch();
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(64 << 10)) }.unwrap();
    for _ in 0..30 {
        log.append(0, b"kept, or dropped").unwrap();
    }
    log.truncate_after(Lsn(20)).unwrap();
    log.append(0, b"the new 21").unwrap();
    log.append(0, b"the new 22").unwrap();
    log.append(0, b"the new 23").unwrap();
    log.close().unwrap();
    spoil(dir.path(), "the new 22");
    assert_eq!(run(dir.path(), "repair DIR --apply").code, 3);
    assert_eq!(numbers(dir.path()), (1..=21).chain([23]).collect::<Vec<_>>());
    assert!(run(dir.path(), "dump DIR --from 21").done().text().contains("the new 21"));
    assert_eq!(run_with_input(dir.path(), "append DIR", b"more\n").done().text(), "24\n");
}

#[test]
fn a_log_that_is_sound_or_torn_or_live_is_not_touched() {
    let (sound, torn) = (closed(300), torn(100));
    for (log, why) in [(&sound, "the log is sound"), (&torn, "the next open drops the torn end")] {
        let before = files(log.path());
        let ran = run(log.path(), "repair DIR --apply").done();
        assert_eq!(ran.text(), format!("nothing to repair: {why}\n"));
        assert!(files(log.path()) == before);
    }
    let log = scratch();
    let _writer = live(log.path(), 10);
    for options in ["", "--apply", "--undo"] {
        let ran = run(log.path(), &format!("repair DIR {options}"));
        assert_eq!((ran.code, ran.err.contains("a process has the log open")), (4, true), "{}", ran.err);
    }
}

#[test]
fn a_repair_by_root_leaves_the_files_to_their_owner() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root gives files away");
        return;
    }
    let log = synced(1200);
    write_at(&segments(log.path())[0], 20, &[99]);
    std::os::unix::fs::chown(log.path(), Some(65534), Some(65534)).unwrap();
    for path in files(log.path()).keys() {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    assert_eq!(run(log.path(), "repair DIR --apply").code, 3);
    for path in files(log.path()).keys() {
        let found = fs::metadata(path).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (65534, 0o640), "{}", path.display());
    }
}

fn segments_in(folder: &Path) -> usize {
    if folder.is_dir() { segments(folder).len() } else { 0 }
}

/// Runs the program, which ends itself at step `at` of a repair; `None` if it did.
pub(crate) fn ended_at(log: &Path, command: &str, at: u64) -> Option<Ran> {
    let output = start(log, command).env("MAPWAL_END_AT_STEP", at.to_string()).output().unwrap();
    if output.status.signal() == Some(9) { None } else { Some(Ran::new(output)) }
}

/// Ends a repair at each of its steps: the log is as it was, or repaired, or opens in no way; and `then` makes of it what
/// `is_right` says, which has the files as they were unless the repair had come to its result.
fn killed_at_each_step(then: &str, is_right: impl Fn(&Path, Option<&BTreeMap<PathBuf, Vec<u8>>>, &[u64])) {
    for (name, made, there) in damaged_logs().into_iter().take(3) {
        let mut at = 1;
        loop {
            let log = copy(made.path());
            let before = files(log.path());
            if ended_at(log.path(), "repair DIR --apply", at).is_some() {
                break;
            }
            let opened = run(log.path(), "dump DIR");
            let is_guarded = opened.code == 4 && opened.err.contains("a repair was not finished");
            let is_repaired = opened.code == 0 && numbers(log.path()) == there;
            assert!(is_guarded || is_repaired || opened.code == 2, "{name}, step {at}: {} {}", opened.code, opened.err);
            if is_guarded {
                let is_done = fs::read_to_string(log.path().join("repair-under-way.seg")).unwrap().starts_with("done");
                // That is ended as well, once at each place, over all the steps.
                let first = at % 7 + 1;
                let ran = ended_at(log.path(), then, first).unwrap_or_else(|| run(log.path(), then));
                if is_done && then.ends_with("undo") {
                    assert_eq!((ran.code, ran.err.contains("nothing taken back")), (4, true), "{name}, step {at}");
                    assert_eq!(run(log.path(), "repair DIR --apply").code, 3);
                } else {
                    let is_right = ran.code == if then.ends_with("undo") { 0 } else { 3 };
                    // What is lost is told by whichever run ends it, unless it was killed when it had.
                    let is_over =
                        ran.text().contains("nothing to repair") || ran.err.contains("no repair is under way");
                    assert!(is_right || is_over, "{name}, step {at}, then {first}: {} {}", ran.text(), ran.err);
                    assert!(ran.text().contains("lost ") || is_over || then.ends_with("undo"), "{name}, step {at}");
                }
                is_right(log.path(), Some(&before).filter(|_| !is_done), &there);
            }
            at += 1;
        }
        assert!(at > 10, "{name}: {at} steps");
    }
}

#[test]
fn a_repair_that_is_killed_at_any_step_can_be_run_again() {
    killed_at_each_step("repair DIR --apply", |log, _, there| {
        assert_eq!(numbers(log), there);
        run(log, "verify DIR").done();
        assert_eq!(run_with_input(log, "append DIR", b"more\n").done().text(), "1201\n");
    });
}

#[test]
fn a_repair_that_is_killed_at_any_step_can_be_taken_back_until_it_is_done() {
    killed_at_each_step("repair DIR --undo", |log, before, there| {
        let files: BTreeMap<_, _> =
            files(log).into_iter().filter(|(path, _)| !path.to_str().unwrap().contains("/repair-")).collect();
        match before {
            Some(before) => assert!(files == *before, "{:?}", files.keys()),
            // Once all is made, what was begun is ended.
            None => assert_eq!(numbers(log), there),
        }
    });
}

#[test]
fn a_guard_that_has_changed_leads_to_no_other_folder_and_says_where_the_files_are() {
    let log = synced(1200);
    spoil(log.path(), &line(700));
    assert!(ended_at(log.path(), "repair DIR --apply", 9).is_none(), "it was killed");
    let guard = log.path().join("repair-under-way.seg");
    let said = fs::read(&guard).unwrap();
    let before = files(log.path());
    for at in 0..said.len() {
        let mut changed = said.clone();
        changed[at] ^= 1;
        fs::write(&guard, changed).unwrap();
        for command in ["repair DIR --apply", "repair DIR --undo"] {
            let ran = run(log.path(), command);
            assert_eq!((ran.code, ran.err.contains("repair-N/work")), (4, true), "byte {at}, {command}: {}", ran.err);
        }
    }
    fs::write(&guard, &said).unwrap();
    assert!(files(log.path()) == before);
    assert_eq!(run(log.path(), "repair DIR --apply").code, 3);
}

#[test]
fn there_is_nothing_to_take_back_where_no_repair_is_under_way() {
    let log = closed(10);
    let ran = run(log.path(), "repair DIR --undo");
    assert_eq!((ran.code, ran.err.contains("nothing taken back: no repair is under way")), (4, true), "{}", ran.err);
}

#[test]
fn what_is_missing_is_no_log_that_was_taken_back() {
    let (_, made, _) = damaged_logs().swap_remove(0);
    // In the middle of it, with two segments in `work`.
    let ended_with_two = |at| {
        let log = copy(made.path());
        assert!(ended_at(log.path(), "repair DIR --apply", at).is_none(), "it has ended by itself");
        let has_two = segments_in(&log.path().join("repair-1/work")) == 2;
        has_two.then_some(log)
    };
    let log = (1..).find_map(ended_with_two).unwrap();
    fs::remove_dir_all(log.path().join("repair-1/work")).unwrap();
    let ran = run(log.path(), "repair DIR --undo");
    assert_eq!(
        (ran.code, ran.err.contains("cannot be taken back: 2 segments are there of 4")),
        (4, true),
        "{}",
        ran.err
    );
    assert_eq!(run(log.path(), "dump DIR").code, 4);
}

#[test]
fn what_is_carried_out_is_carried_out_whether_its_output_is_read_or_not() {
    for command in ["repair DIR --apply", "salvage DIR OUT"] {
        let (_, log, there) = damaged_logs().swap_remove(0);
        let out = scratch();
        let (reader, pipe) = std::io::pipe().unwrap();
        drop(reader);
        let mut program = start(log.path(), &command.replace("OUT", out.path().to_str().unwrap()));
        assert_eq!(program.stdout(pipe).status().unwrap().code(), Some(3), "{command}");
        assert_eq!(numbers(if command.starts_with("repair") { log.path() } else { out.path() }), there, "{command}");
    }
}

#[test]
fn a_full_segment_before_one_that_is_missing_stays_as_it_is() {
    let sound = synced(1200);
    let files = segments(sound.path());
    for (spoil, count) in [
        (&|files: &[PathBuf]| fs::remove_file(&files[3]).unwrap() as _, 3),
        (&|files: &[PathBuf]| write_at(&files[3], 20, &[99]), 3),
        (&|files: &[PathBuf]| write_at(&files[1], 4100, &[99]), 1),
    ] as [(&dyn Fn(&[PathBuf]), usize); 3]
    {
        let log = copy(sound.path());
        spoil(&segments(log.path()));
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let before: Vec<u64> = segments(log.path())[..count].iter().map(|path| inode(path)).collect();
        let ran = run(log.path(), "repair DIR --apply");
        assert!([0, 3].contains(&ran.code), "{}{}", ran.text(), ran.err);
        let after: Vec<u64> = segments(log.path())[..count].iter().map(|path| inode(path)).collect();
        assert_eq!(after, before, "{}", ran.text());
        assert!(segments(log.path())[count].file_stem() > files[3].file_stem(), "all others are made anew");
    }
}

#[test]
fn a_segment_that_a_truncation_has_cut_does_not_get_back_what_was_cut_off() {
    let dir = scratch();
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(64 << 10)) }.unwrap();
    for _ in 0..20 {
        log.append(0, b"kept, or dropped").unwrap();
    }
    log.rotate().unwrap();
    log.append(0, b"of the second segment").unwrap();
    log.sync().unwrap();
    log.truncate_after(Lsn(10)).unwrap();
    log.append(0, b"the new 11").unwrap();
    log.rotate().unwrap();
    log.append(0, b"the new 12").unwrap();
    log.close().unwrap();
    // The one that says where the first is cut: with its link goes what tells of that, and the old records are what is sound.
    let files = segments(dir.path());
    write_at(&files[1], 4100, &[99]);
    let ran = run(dir.path(), "repair DIR --apply");
    assert!([0, 3].contains(&ran.code), "{}{}", ran.text(), ran.err);
    // The first is no full segment that may stay: its seal names one that is not the next.
    assert!(ran.text().contains("no segment stays as it is"), "{}", ran.text());
    run(dir.path(), "verify DIR").done();
}

#[test]
fn a_file_that_a_backup_shares_keeps_what_it_holds() {
    let (log, backup) = (synced(1200), scratch());
    spoil(log.path(), &line(700));
    let shared = backup.path().join("shared.seg");
    fs::write(&shared, vec![7; 64 << 10]).unwrap();
    // A trim takes the name of a segment away before it removes the file.
    fs::hard_link(&shared, log.path().join(format!("{:020}.tmp", 101))).unwrap();
    let ran = run(log.path(), "repair DIR");
    assert!(!ran.text().contains("come from files"), "{}", ran.text());
    assert_eq!(run(log.path(), "repair DIR --apply").code, 3);
    assert!(!log.path().join(format!("{:020}.tmp", 101)).exists());
    assert!(fs::read(&shared).unwrap() == vec![7; 64 << 10], "{} bytes are left", fs::metadata(&shared).unwrap().len());
}

#[test]
fn what_was_acknowledged_last_and_is_damaged_is_refused_until_the_loss_is_accepted() {
    let log = killed(50);
    let (path, offset) = spoil(log.path(), &line(50));
    let before = files(log.path());
    for command in ["append DIR", "trim DIR --keep-records 10"] {
        let ran = run_with_input(log.path(), command, b"more\n");
        let says = [
            path.display().to_string(),
            format!("at offset {offset}, record 50"),
            "says that the log was durable up to record 50".to_owned(),
        ];
        assert!(ran.code == 2 && says.iter().all(|it| ran.err.contains(it)), "{command}: {}: {}", ran.code, ran.err);
        assert_eq!(files(log.path()), before, "{command}");
    }
    let saved = scratch();
    let ran = run(log.path(), &format!("salvage DIR {}", saved.path().display()));
    assert_eq!((ran.code, ran.lines()), (3, vec!["lost 50..50: 1 record", "saved 49 records"]));
    let ran = run(log.path(), "repair DIR --apply");
    assert!(ran.code == 3 && ran.lines().contains(&"lost 50..50: 1 record"), "{}: {}", ran.code, ran.text());
    assert_eq!(run_with_input(log.path(), "append DIR", b"more\n").done().lines(), ["51"]);
    assert_eq!(numbers(log.path()), (1..50).chain([51]).collect::<Vec<_>>());
}
