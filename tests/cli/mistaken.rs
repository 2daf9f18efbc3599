//! `salvage` and `repair` where files are not what their names say, and where only looks as if something were lost.
//!
//! And of a control page that cannot be read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::logs::{closed, copy, frames, killed, line, rewrite_header, scratch, segments, synced, write_at};
use crate::program::{Ran, ran_with_input, run, run_with_input, start};
use crate::states;

const RECORDS: u64 = 1200;

fn salvaged(log: &Path) -> Ran {
    let out = scratch();
    run(log, &format!("salvage DIR {}", out.path().join("out").display()))
}

fn file(log: &Path, number: u64) -> PathBuf {
    log.join(format!("{number:020}.seg"))
}

/// A copy of `log` that is changed, without a control page if it is to have none.
fn changed(log: &Path, has_control: bool, change: impl FnOnce(&Path)) -> TempDir {
    let log = copy(log);
    change(log.path());
    if !has_control {
        fs::remove_file(log.path().join("control")).unwrap();
    }
    log
}

/// That lines which begin with `lost` are told by exactly those that end with 3.
fn assert_told(ran: &Ran) {
    let is_told = ran.lines().iter().any(|line| line.starts_with("lost ") || line.starts_with("not one history: "));
    assert_eq!(ran.code, if is_told { 3 } else { 0 }, "{}{}", ran.text(), ran.err);
}

#[test]
fn nothing_of_another_log_is_taken_whatever_its_name() {
    let (sound, other) = (synced(RECORDS), synced(RECORDS));
    for has_control in [true, false] {
        // After the end, and in the place of the last.
        for place in [5, 4] {
            let log = changed(sound.path(), has_control, |log| {
                _ = fs::copy(&segments(other.path())[2], file(log, place)).unwrap();
            });
            let ran = salvaged(log.path());
            assert_told(&ran);
            assert!(ran.err.contains("segment belongs to log"), "{place}: {}", ran.err);
            let saved = if place == 5 { RECORDS } else { 1014 };
            assert!(ran.text().contains(&format!("saved {} records", indicatif_of(saved))), "{place}: {}", ran.text());
            assert_eq!(ran.code, if place == 5 && has_control { 0 } else { 3 }, "{place}: {}", ran.text());
        }
    }
}

/// With a comma between thousands.
fn indicatif_of(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

#[test]
fn an_end_that_another_segment_of_the_log_has_taken_the_place_of_is_listed() {
    let sound = synced(RECORDS);
    for (has_control, lost) in [(true, "lost 1015..1200: 186 records"), (false, "lost what there was from 1015 on")] {
        let log = changed(sound.path(), has_control, |log| _ = fs::copy(file(log, 2), file(log, 4)).unwrap());
        let ran = salvaged(log.path());
        assert!(ran.code == 3 && ran.text().contains(lost), "{}{}", ran.text(), ran.err);
        let ran = run(log.path(), "repair DIR --apply");
        assert!(ran.code == 3 && ran.text().contains(lost), "{}{}", ran.text(), ran.err);
    }
}

#[test]
fn two_histories_of_one_log_are_not_taken_for_one() {
    let lines =
        |name: &str, count: u64| -> String { (0..count).map(|at| format!("{name} {at} {}\n", line(at))).collect() };
    let one = closed(500);
    let other = copy(one.path());
    run_with_input(one.path(), "append DIR", lines("one", 900).as_bytes()).done();
    run_with_input(other.path(), "append DIR", lines("other", 900).as_bytes()).done();
    for has_control in [true, false] {
        let log = changed(one.path(), has_control, |log| {
            for path in &segments(other.path())[2..] {
                fs::copy(path, log.join(path.file_name().unwrap())).unwrap();
            }
        });
        for ran in [salvaged(log.path()), run(log.path(), "repair DIR --apply")] {
            let told = ran.lines().into_iter().find(|line| line.starts_with("not one history: records "));
            assert!(ran.code == 3 && told.is_some(), "{}: {}{}", ran.code, ran.text(), ran.err);
        }
    }
}

#[test]
fn what_is_whole_is_not_called_lost() {
    let (sound, left) = (synced(RECORDS), killed(RECORDS));
    let longer: fn(&Path) = |log| {
        fs::File::options().write(true).open(file(log, 1)).unwrap().set_len(128 << 10).unwrap();
    };
    let longer_last: fn(&Path) = |log| {
        fs::File::options().write(true).open(file(log, 4)).unwrap().set_len(128 << 10).unwrap();
    };
    let stray: fn(&Path) = |log| fs::write(file(log, 9), "").unwrap();
    let renamed: fn(&Path) = |log| fs::rename(file(log, 4), file(log, 7)).unwrap();
    let cases = [
        ("a first file that is longer", sound.path(), longer),
        ("a last file that is longer", sound.path(), longer_last),
        ("a stray file, empty", sound.path(), stray),
        ("a stray file, empty, after a crash", left.path(), stray),
        ("a last segment of another name", sound.path(), renamed),
    ];
    for (what, log, change) in cases {
        let log = changed(log, true, change);
        for ran in [salvaged(log.path()), run(log.path(), "repair DIR --apply")] {
            assert_told(&ran);
            assert_eq!(ran.code, 0, "{what}: {}{}", ran.text(), ran.err);
        }
        assert_eq!(run(log.path(), "dump DIR").done().lines().len() as u64, RECORDS, "{what}");
    }
}

#[test]
fn each_loss_that_salvage_ends_with_3_for_is_listed() {
    let (sound, left) = (synced(RECORDS), killed(RECORDS));
    let spare = |log: &Path| {
        fs::copy(file(log, 4), file(log, 5)).unwrap();
        write_at(&file(log, 5), 4096, &vec![0; (64 << 10) - 4096]);
        rewrite_header(&file(log, 5), |header| header[24] = 5);
        write_at(&file(log, 5), 20, &[99]);
    };
    let changes: [&dyn Fn(&Path); 5] = [
        &spare,
        &|log| fs::write(file(log, 9), "").unwrap(),
        &|log| fs::rename(file(log, 4), file(log, 7)).unwrap(),
        &|log| write_at(&file(log, 4), 20, &[99]),
        &|log| write_at(&file(log, 4), *frames(&file(log, 4)).last().unwrap() + 30, &[99]),
    ];
    for log in [sound.path(), left.path()] {
        for (change, has_control) in changes.iter().flat_map(|change| [(change, true), (change, false)]) {
            let log = changed(log, has_control, |log| {
                _ = fs::remove_file(file(log, 5));
                change(log);
            });
            assert_told(&salvaged(log.path()));
        }
    }
}

#[test]
fn a_control_page_that_cannot_be_read_is_an_error_and_not_taken_for_none() {
    if !states::has_other_user() {
        return;
    }
    let log = synced(RECORDS);
    states::let_read(log.path());
    fs::set_permissions(log.path().join("control"), fs::Permissions::from_mode(0o600)).unwrap();
    for command in ["verify DIR", "dump DIR", "tail DIR --no-follow", "stat DIR", "segments DIR", "meta DIR"] {
        let mut program = start(log.path(), command);
        program.uid(states::OTHER_USER).gid(states::OTHER_USER);
        let ran = ran_with_input(&mut program, b"");
        assert!(ran.code == 4 && ran.err.contains("/control"), "{command}: {}: {}{}", ran.code, ran.text(), ran.err);
    }
}
