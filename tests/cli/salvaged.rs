//! `salvage`: what is saved, what is listed, and what is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Options};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;

use crate::logs::{closed, copy, line, scratch, segments, spoil, torn, write_at};
use crate::mounted::Mounted;
use crate::program::{Ran, Running, run, run_with_input, start};

fn salvage(log: &Path, out: &Path, options: &str) -> Ran {
    let before = contents(log);
    let ran = run(log, &format!("salvage DIR {} {options}", out.display()));
    assert!(contents(log) == before, "the damaged log is not touched");
    ran
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    // A writer of this process may be waking followers still, by a count on the control page.
    let files = entries.filter(|entry| entry.path().is_file() && entry.file_name() != "control");
    files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Number and payload of each record.
fn records(log: &Path) -> Vec<(u64, String)> {
    let dumped = run(log, "dump DIR").done();
    let fields = dumped.lines().into_iter().map(|line| line.split('\t').collect::<Vec<_>>());
    fields.map(|fields| (fields[0].parse().unwrap(), fields[3].to_owned())).collect()
}

fn expected(numbers: impl Iterator<Item = u64>) -> Vec<(u64, String)> {
    numbers.map(|number| (number, line(number))).collect()
}

#[test]
fn a_sound_log_is_copied() {
    let (log, out) = (closed(600), scratch());
    let ran = salvage(log.path(), out.path(), "").done();
    assert_eq!(ran.text(), "saved 600 records\n");
    assert_eq!(records(out.path()), expected(1..=600));
    run(out.path(), "verify DIR").done();
}

#[test]
fn what_is_damaged_is_listed_and_the_rest_keeps_its_numbers() {
    let (log, out) = (closed(600), scratch());
    for number in [1, 5, 6, 7, 300, 600] {
        spoil(log.path(), &line(number));
    }
    let ran = salvage(log.path(), out.path(), "");
    let lost = "lost 1..1: 1 record\nlost 5..7: 3 records\nlost 300..300: 1 record\n";
    // The last one is missed because the close after it says that it was there.
    assert_eq!((ran.code, ran.text()), (3, &*format!("{lost}lost 600..600: 1 record\nsaved 594 records\n")));
    let left = (1..=600).filter(|number| ![1, 5, 6, 7, 300, 600].contains(number));
    assert_eq!(records(out.path()), expected(left));
    run(out.path(), "verify DIR").done();
}

#[test]
fn records_are_numbered_anew_if_that_is_asked_for() {
    let (log, out) = (closed(600), scratch());
    for number in [5, 6, 300] {
        spoil(log.path(), &line(number));
    }
    let ran = salvage(log.path(), out.path(), "--renumber");
    let maps = [
        "old 1..4 is new 1..4",
        "lost 5..6: 2 records",
        "lost 300..300: 1 record",
        "old 7..299 is new 5..297",
        "old 301..600 is new 298..597",
        "saved 597 records",
    ];
    let mut told = ran.lines();
    told.sort_unstable();
    let mut wanted = maps.to_vec();
    wanted.sort_unstable();
    assert_eq!((ran.code, told), (3, wanted));
    let payloads: Vec<String> = records(out.path()).into_iter().map(|(_, payload)| payload).collect();
    let left = (1..=600).filter(|number| ![5, 6, 300].contains(number));
    assert_eq!(payloads, left.map(line).collect::<Vec<_>>());
}

#[test]
fn a_lost_segment_and_a_lost_header_are_gaps() {
    let (log, out) = (closed(1500), scratch());
    let of = |path: &Path| records(path).into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    let files = segments(log.path());
    assert!(files.len() >= 4);
    let [second, third] = [of(&files[1]), of(&files[2])];
    fs::remove_file(&files[1]).unwrap();
    write_at(&files[2], 0, &[0; 4096]);
    let ran = salvage(log.path(), out.path(), "");
    assert_eq!(ran.code, 3);
    let (first, last) = (second[0], third.last().unwrap());
    assert!(ran.text().starts_with(&format!("lost {first}..{last}: ")), "{}", ran.text());
    assert_eq!(records(out.path()), expected((1..=1500).filter(|number| !(first..=*last).contains(number))));
}

#[test]
fn a_lost_beginning_is_listed() {
    let of = |path: &Path| records(path).into_iter().map(|(number, _)| number).collect::<Vec<_>>();
    for (is_missing, is_trimmed) in [(true, false), (false, false), (true, true)] {
        let (log, out) = (closed(1500), scratch());
        if is_trimmed {
            run(log.path(), "trim DIR --before 400").done();
        }
        let files = segments(log.path());
        let last = *of(&files[0]).last().unwrap();
        if is_missing {
            fs::remove_file(&files[0]).unwrap();
        } else {
            write_at(&files[0], 0, &[0; 4096]);
        }
        let ran = salvage(log.path(), out.path(), "");
        let lost = match is_trimmed {
            true => format!("lost all up to {last}: nothing tells how many records"),
            false => format!("lost 1..{last}: {last} records"),
        };
        let saved = format!(
            "saved {} records",
            if 1500 - last < 1000 { (1500 - last).to_string() } else { format!("1,{:03}", 500 - last) }
        );
        assert_eq!((ran.code, ran.lines()), (3, vec![&*lost, &*saved]));
        assert_eq!(records(out.path()), expected(last + 1..=1500));
    }
}

#[test]
fn a_copy_that_is_not_finished_is_no_log() {
    let Some(disk) = Mounted::of_size(256 << 10) else { return };
    let (log, out) = (closed(1500), disk.path().join("out"));
    let ran = run(log.path(), &format!("salvage DIR {}", out.display()));
    assert!(ran.code == 4 && ran.err.contains("disk full"), "{}", ran.err);
    assert!(!out.exists());
    // As one leaves it that was killed.
    let out = scratch();
    salvage(log.path(), &out.path().join("salvage.part"), "").done();
    let ran = run(out.path(), "verify DIR");
    assert!(ran.code == 4 && ran.err.contains(": a salvage was not finished; delete"), "{}", ran.err);
    assert_eq!(salvage(log.path(), out.path(), "").code, 4, "somebody may be making it");
    assert!(!segments(&out.path().join("salvage.part")).is_empty());
}

#[test]
fn garbage_and_zeros_all_over_a_segment_leave_what_they_do_not_hit() {
    let (log, out) = (closed(900), scratch());
    let mut random = fastrand::Rng::with_seed(7);
    for path in segments(log.path()) {
        for _ in 0..10 {
            let bytes: Vec<u8> = (0..random.usize(1..2000)).map(|_| random.u8(..)).collect();
            write_at(&path, random.usize(4096..60_000), if random.bool() { &bytes } else { &[0; 500] });
        }
    }
    assert_eq!(salvage(log.path(), out.path(), "").code, 3);
    let saved = records(out.path());
    assert!(saved.len() > 300, "{}", saved.len());
    for (number, payload) in saved {
        assert_eq!(payload, line(number));
    }
    run(out.path(), "verify DIR").done();
}

#[test]
fn a_torn_end_is_no_gap() {
    let (log, out) = (torn(50), scratch());
    assert_eq!(salvage(log.path(), out.path(), "").done().text(), "saved 49 records\n");
    assert_eq!(records(out.path()), expected(1..=49));
}

#[test]
fn truncated_records_stay_truncated_and_metadata_is_kept() {
    let (log, out) = (scratch(), scratch());
    let options = Options::new().segment_size_bytes(64 << 10);
    // SAFETY: the directories are in memory, and nothing but mapwal writes to them.
    let writer = unsafe { Log::open(log.path(), &options) }.unwrap();
    (1..=20).for_each(|number| drop(writer.append(0, format!("old {number}").as_bytes()).unwrap().0.to_string()));
    writer.put_meta(3, b"vote").unwrap();
    writer.sync().unwrap();
    writer.truncate_after(Lsn(10)).unwrap();
    assert_eq!(writer.append(0, b"new 11").unwrap(), Lsn(11));
    writer.close().unwrap();
    salvage(log.path(), out.path(), "").done();
    let saved = records(out.path());
    assert_eq!(saved.len(), 11);
    assert_eq!(saved[10], (11, "new 11".to_owned()));
    // SAFETY: as above.
    let copy = unsafe { Log::open(out.path(), &options) }.unwrap();
    assert_eq!(copy.meta(3).as_deref(), Some(&b"vote"[..]));
}

#[test]
fn a_directory_that_is_not_empty_is_no_place_for_a_copy() {
    let log = closed(10);
    let ran = salvage(log.path(), log.path(), "");
    assert_eq!(ran.code, 4);
    assert!(ran.err.contains("the directory is not empty"), "{}", ran.err);
}

#[test]
fn a_log_of_which_nothing_is_left_is_told_so() {
    let (log, out) = (closed(10), scratch());
    write_at(&segments(log.path())[0], 4096, &vec![0xff; 61_440]);
    let ran = salvage(log.path(), &out.path().join("copy"), "");
    assert_eq!(ran.code, 4);
    assert!(ran.err.contains("nothing to save: no record passes its checks"), "{}", ran.err);
    assert!(!out.path().join("copy").exists());
}

#[test]
fn a_segment_of_another_log_is_no_part_of_the_copy() {
    let (log, other, out) = (closed(1500), closed(1500), scratch());
    let files = segments(log.path());
    let alien = segments(other.path());
    let (last, lost) = (files.len() - 1, records(&files[files.len() - 1]).len());
    fs::copy(&alien[last], &files[last]).unwrap();
    let ran = salvage(log.path(), out.path(), "");
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("belongs to log"), "{}", ran.err);
    assert_eq!(records(out.path()), expected(1..=1500 - u64::try_from(lost).unwrap()));
}

#[test]
fn an_end_that_nothing_tells_the_length_of_is_listed_as_well() {
    for (options, is_cut) in [("", true), ("--archive", true), ("", false)] {
        let (log, out) = (closed(1500), scratch());
        fs::remove_file(log.path().join("control")).unwrap();
        let files = segments(log.path());
        let last = &files[files.len() - 1];
        if is_cut {
            fs::File::options().write(true).open(last).unwrap().set_len(5000).unwrap();
        } else {
            write_at(last, 20, &[99]);
        }
        let ran = salvage(log.path(), out.path(), options);
        assert_eq!(ran.code, 3, "{}", ran.err);
        let next = run(out.path(), "dump DIR").done().lines().len() + 1;
        let listed = format!(
            "lost what there was from {next} on: nothing tells how many records; what is appended next gets their numbers again"
        );
        assert!(ran.lines().contains(&&*listed), "{options}, {is_cut}: {}{}", ran.text(), ran.err);
        assert_eq!(run_with_input(out.path(), "append DIR", b"more\n").done().text(), format!("{next}\n"));
    }
    // Where all is there, nothing of the kind is said.
    let (log, out) = (closed(1500), scratch());
    assert_eq!(salvage(log.path(), out.path(), "").done().text(), "saved 1,500 records\n");
}

#[test]
fn nothing_of_another_log_is_copied_whichever_segment_is_one_of_it() {
    let (log, other) = (closed(2400), closed(2400));
    let files = segments(log.path());
    for (at, file) in files.iter().enumerate() {
        let (mixed, out) = (copy(log.path()), scratch());
        let held = records(file);
        fs::copy(&segments(other.path())[at], &segments(mixed.path())[at]).unwrap();
        let ran = salvage(mixed.path(), out.path(), "");
        assert_eq!((ran.code, ran.text().contains("lost ")), (3, true), "{at}: {}", ran.text());
        let saved = run(out.path(), "dump DIR").done();
        assert_eq!(saved.lines().len(), 2400 - held.len(), "{at}: {}", ran.text());
        assert_eq!(run(mixed.path(), "repair DIR --apply").code, 3);
        assert_eq!(run(mixed.path(), "dump DIR").done().lines(), saved.lines());
    }
}

#[test]
fn a_file_of_another_length_has_lost_nothing_by_that() {
    let log = closed(1500);
    let count = segments(log.path()).len();
    for (at, change) in [(0, 4096), (0, -1), (1, 4096), (1, -1), (count - 1, 4096)] {
        let (changed, out) = (copy(log.path()), scratch());
        let file = fs::File::options().write(true).open(&segments(changed.path())[at]).unwrap();
        file.set_len((file.metadata().unwrap().len() as i64 + change) as u64).unwrap();
        let ran = salvage(changed.path(), out.path(), "");
        assert_eq!((ran.code, ran.text()), (0, "saved 1,500 records\n"), "{at}, {change}: {}", ran.err);
    }
}

#[test]
fn a_copy_is_made_neither_inside_a_log_nor_where_a_link_leads_nowhere() {
    let (log, other, place) = (closed(10), closed(10), scratch());
    let link = place.path().join("link");
    std::os::unix::fs::symlink(place.path().join("nowhere"), &link).unwrap();
    // One that a repair which was killed has left.
    let guarded = copy(log.path());
    fs::write(guarded.path().join("repair-under-way.seg"), "moving repair-1 1 1").unwrap();
    for (out, why) in [
        (log.path().join("copy"), "inside the log"),
        (other.path().join("copy"), "inside another log"),
        (other.path().join("new/copy"), "inside another log"),
        (guarded.path().join("copy"), "inside another log"),
        (link, "a link to what is not there"),
    ] {
        for command in ["salvage", "backup"] {
            let ran = run(log.path(), &format!("{command} DIR {}", out.display()));
            assert_eq!((ran.code, ran.err.contains(why)), (4, true), "{command}: {}", ran.err);
            assert!(!out.exists());
        }
    }
    assert!(!other.path().join("new").exists());
}

#[test]
fn an_end_of_many_segments_is_listed_though_few_are_left() {
    let log = scratch();
    let many: String = (0..30_000).map(|number| format!("{number}\n")).collect();
    run_with_input(log.path(), "append DIR --segment-size 64KiB", many.as_bytes()).done();
    let files = segments(log.path());
    assert!(files.len() > 12);
    files[1..].iter().for_each(|path| fs::remove_file(path).unwrap());
    let (left, out) = (copy(log.path()), scratch());
    let ran = salvage(left.path(), out.path(), "");
    let saved = run(out.path(), "dump DIR").done().lines().len();
    let lost = format!("lost {}..30000: ", saved + 1);
    assert_eq!((ran.code, ran.text().contains(&lost)), (3, true), "{}", ran.text());
    for has_page in [true, false] {
        let left = copy(log.path());
        if !has_page {
            fs::remove_file(left.path().join("control")).unwrap();
        }
        let lost = if has_page { lost.clone() } else { format!("lost what there was from {} on", saved + 1) };
        let ran = run(left.path(), "repair DIR --apply");
        assert_eq!((ran.code, ran.text().contains(&lost)), (3, true), "{}{}", ran.text(), ran.err);
    }
}

#[test]
fn a_salvage_that_is_interrupted_leaves_nothing() {
    let (dir, out) = (scratch(), scratch());
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(8 << 20)) }.unwrap();
    for _ in 0..100_000 {
        log.append(0, &[1; 600]).unwrap();
    }
    log.close().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let begin = Instant::now();
        loop {
            let mut salvage = Running::start(dir.path(), &format!("salvage DIR {}", out.path().display()));
            while salvage.child.try_wait().unwrap().is_none() {
                if out.path().join("salvage.part").exists() {
                    salvage.signal(signal);
                    break;
                }
            }
            let code = salvage.child.wait().unwrap().code();
            if code != Some(0) {
                assert_eq!(code, Some(4));
                assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
                break;
            }
            // The signal came too late.
            assert!(begin.elapsed() < Duration::from_secs(30), "it does not stop");
            fs::remove_dir_all(out.path()).unwrap();
        }
    }
}

/// A pipe that takes nothing until it is read.
pub(crate) fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

#[test]
fn what_is_trimmed_before_it_is_copied_is_not_called_lost() {
    let (dir, out) = (scratch(), scratch());
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(64 << 10)) }.unwrap();
    for number in 0..800 {
        log.append(0, format!("record {:03}", number + 1).as_bytes()).unwrap();
        if number % 10 == 9 {
            log.rotate().unwrap();
        }
    }
    log.close().unwrap();
    spoil(dir.path(), "record 005");
    // It waits at the first line that it prints, in the first segment.
    let (mut reader, writer) = full_pipe();
    let mut program = start(dir.path(), &format!("salvage DIR {}", out.path().display()));
    let mut salvage = program.stdout(writer).spawn().unwrap();
    drop(program);
    crate::wait::until("it copies", || out.path().join("salvage.part").exists());
    run(dir.path(), "trim DIR --before 741").done();
    let mut told = String::new();
    reader.read_to_string(&mut told).unwrap();
    assert_eq!(salvage.wait().unwrap().code(), Some(3));
    assert_eq!(told.trim_start(), "lost 5..5: 1 record\ntrimmed 651..740: 90 records\nsaved 709 records\n");
}
