//! `repair` where there is little room.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, WaitOptions, kill_process};

use crate::logs::{line, spoil, synced};
use crate::mounted::Mounted;
use crate::program::{Ran, run, start};
use crate::repaired::{ended_at, files, numbers};

/// A log on `disk` whose record 5 of 1200 is damaged.
fn damaged_on(disk: &Mounted) -> PathBuf {
    let sound = synced(1200);
    spoil(sound.path(), &line(5));
    let log = disk.path().join("log");
    fs::create_dir(&log).unwrap();
    for (path, bytes) in files(sound.path()) {
        fs::write(log.join(path.file_name().unwrap()), bytes).unwrap();
    }
    log
}

#[test]
fn without_room_nothing_is_changed() {
    let Some(disk) = Mounted::of_size(400 << 10) else { return };
    let log = damaged_on(&disk);
    let before = files(&log);
    let ran = run(&log, "repair DIR");
    let needed = "what is sound in them appended anew: 1.31 MiB are needed\nthere is no room for that: ";
    assert!(ran.code == 2 && ran.text().contains(needed), "{}", ran.text());
    let ran = run(&log, "repair DIR --apply");
    let needed = "nothing repaired: 1376256 bytes are needed, ";
    assert_eq!((ran.code, ran.err.contains(needed)), (4, true), "{}", ran.err);
    assert!(files(&log) == before);
}

#[test]
fn files_that_hold_nothing_make_room() {
    let Some(disk) = Mounted::of_size(2 << 20) else { return };
    let log = damaged_on(&disk);
    for number in 101..107 {
        fs::write(log.join(format!("{number:020}.tmp")), vec![1; 64 << 10]).unwrap();
    }
    // All that is left is less than is needed without them.
    fs::write(disk.path().join("ballast"), vec![0; free(disk.path()) - (1100 << 10)]).unwrap();
    let ran = run(&log, "repair DIR");
    assert!(ran.text().contains("384.00 KiB of them come from files"), "{}", ran.text());
    let ran = run(&log, "repair DIR --apply");
    assert_eq!(ran.code, 3, "{}{}", ran.text(), ran.err);
    assert_eq!(numbers(&log).len(), 1199);
    assert!(!log.join(format!("{:020}.tmp", 101)).exists());
}

/// The room that is left on the disk.
fn free(disk: &Path) -> usize {
    let found = rustix::fs::statvfs(disk).unwrap();
    (found.f_bavail * found.f_frsize) as usize
}

/// Fills the disk to the last block.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("ballast");
    let mut file = fs::File::create(&path).unwrap();
    let (chunk, mut len) = (vec![0; 64 << 10], 64 << 10);
    while len >= 512 {
        if std::io::Write::write(&mut file, &chunk[..len]).is_err() {
            len /= 2;
        }
    }
    file.sync_all().unwrap();
    path
}

#[test]
#[cfg(target_os = "linux")]
fn on_a_disk_that_is_nearly_full_a_repair_is_made_or_nothing_is_changed_and_taking_it_back_needs_no_room() {
    use crate::file_system::{FileSystem, Kind};

    let Some(disk) = FileSystem::mount(Kind::Xfs, 20) else { return };
    let sound = synced(1200);
    let there: Vec<u64> = (1..=1200).filter(|&number| number != 700).collect();
    spoil(sound.path(), &line(700));
    let log = disk.path().join("log");
    let anew = || {
        let _ = fs::remove_dir_all(&log);
        let _ = fs::remove_file(disk.path().join("ballast"));
        // XFS gives the room of what was removed free some time later.
        let begin = std::time::Instant::now();
        while free(&disk.path()) < 3 << 20 {
            assert!(begin.elapsed() < std::time::Duration::from_secs(30), "the room does not come back");
            disk.sync();
        }
        fs::create_dir(&log).unwrap();
        for (path, bytes) in files(sound.path()) {
            fs::write(log.join(path.file_name().unwrap()), bytes).unwrap();
        }
        disk.sync();
        files(&log)
    };
    // As much is left.
    let mut made = 0;
    for left in [200, 300, 500, 1100, 1200, 1230, 1260, 1300, 1400].map(|kib| kib << 10) {
        let before = anew();
        fs::write(disk.path().join("ballast"), vec![0; free(&disk.path()) - left]).unwrap();
        disk.sync();
        let ran = run(&log, "repair DIR --apply");
        match ran.code {
            3 => assert_eq!(numbers(&log), there, "{left}"),
            code => assert!(code == 4 && files(&log) == before, "{left}: {code}, {}{}", ran.text(), ran.err),
        }
        made += u64::from(ran.code == 3);
    }
    assert!((1..9).contains(&made), "{made}");
    // Ended at each step, and the disk is full then.
    for at in 1.. {
        let before = anew();
        if ended_at(&log, "repair DIR --apply", at).is_some() {
            assert!(at > 10);
            break;
        }
        let guard = fs::read_to_string(log.join("repair-under-way.seg")).unwrap_or_default();
        fill(&disk.path());
        if guard.starts_with("moving") {
            let ran = run(&log, "repair DIR --undo");
            assert_eq!(ran.code, 0, "step {at}: {}", ran.err);
            assert!(files(&log) == before, "step {at}");
        } else if guard.starts_with("done") {
            let ran = run(&log, "repair DIR --apply");
            assert_eq!(ran.code, 3, "step {at}: {}", ran.err);
            assert_eq!(numbers(&log), there, "step {at}");
        }
    }
    // The disk gets full at each step.
    for at in 1.. {
        let before = anew();
        let repair = start(&log, "repair DIR --apply").env("MAPWAL_STOP_AT_STEP", at.to_string()).spawn().unwrap();
        let stopped = rustix::process::waitpid(Some(Pid::from_child(&repair)), WaitOptions::UNTRACED).unwrap();
        if !stopped.is_some_and(|(_, status)| status.stopped()) {
            assert!(at > 10);
            break;
        }
        fill(&disk.path());
        kill_process(Pid::from_child(&repair), Signal::CONT).unwrap();
        let ran = Ran::new(repair.wait_with_output().unwrap());
        match ran.code {
            3 => assert_eq!(numbers(&log), there, "step {at}"),
            code => assert!(code == 4 && files(&log) == before, "step {at}: {code}, {}{}", ran.text(), ran.err),
        }
    }
}
