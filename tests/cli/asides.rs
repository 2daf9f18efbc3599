//! What commands say beside what they do, so that nobody has to guess.

use std::fs;
use std::os::unix::process::CommandExt;

use crate::logs::{closed, copy, live, scratch, segments, write_at};
use crate::program::{Ran, Running, ran_with_input, run, start};
use crate::repaired::{ended_at, files};
use crate::states;

#[test]
fn no_record_is_named_that_never_was() {
    let log = closed(0);
    let ran = run(log.path(), "stat DIR").done();
    assert!(ran.text().contains("durable    no record yet, says the last writer\n"), "{}", ran.text());
}

#[test]
fn a_pin_that_passes_its_limit_at_once_is_told() {
    let log = closed(1200);
    let ran = run(log.path(), "pins DIR add p 1 --limit 1").done();
    assert_eq!(
        ran.text(),
        "p keeps records from 1 on, up to 1 B; it holds back 256.00 KiB already, which is more: the next trim may take them\n"
    );
    let ran = run(log.path(), "pins DIR add q 1 --limit 1MiB").done();
    assert_eq!(ran.text(), "q keeps records from 1 on, up to 1.00 MiB\n");
}

#[test]
fn a_repair_that_saves_nothing_names_no_file_that_is_not_there() {
    let log = closed(10);
    write_at(&segments(log.path())[0], 16, b"damaged");
    let before = files(log.path());
    let ran = run(log.path(), "repair DIR --apply");
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("nothing to save: no record passes its checks; the log is as it was: "), "{}", ran.err);
    assert!(!ran.err.contains("repair-"), "{}", ran.err);
    assert_eq!(files(log.path()), before);
}

/// A damaged log, and a repair that was killed before it changed anything.
fn begun(at: u64) -> tempfile::TempDir {
    let log = copy(crate::logs::damaged(900).path());
    assert!(ended_at(log.path(), "repair DIR --apply", at).is_none());
    assert!(log.path().join("repair-1").is_dir() && !log.path().join("repair-under-way.seg").exists(), "{at}");
    log
}

#[test]
fn what_a_repair_has_left_that_was_killed_early_is_named_and_removed() {
    for at in 1..=3 {
        let log = begun(at);
        let removed =
            format!("{} is removed, which a repair had begun to make\n", log.path().join("repair-1").display());
        let ran = run(log.path(), "repair DIR");
        assert_eq!(ran.code, 2);
        assert!(log.path().join("repair-1").is_dir(), "a look removes nothing");
        assert_eq!(run(log.path(), "repair DIR --undo").done().text(), removed);
        assert!(!log.path().join("repair-1").exists());
        assert_eq!(run(log.path(), "repair DIR --undo").code, 4);
        let log = begun(at);
        let ran = run(log.path(), "repair DIR --apply");
        assert!(ran.code == 3 && ran.text().contains("is removed, which a repair had begun"), "{}", ran.text());
        // What is set aside is not taken for that.
        assert!(segments(&log.path().join("repair-1")).len() > 1);
        assert_eq!(run(log.path(), "repair DIR --undo").code, 4);
        assert!(segments(&log.path().join("repair-1")).len() > 1);
        let ran = run(log.path(), "stat DIR").done();
        assert!(ran.text().contains("repair-1  set aside by a repair, and not needed by the log\n"), "{}", ran.text());
        // Nor is what somebody has put there.
        let mine = log.path().join("repair-7");
        fs::create_dir(&mine).unwrap();
        fs::write(mine.join("notes"), "mine").unwrap();
        assert_eq!(run(log.path(), "repair DIR --undo").code, 4);
        assert!(mine.join("notes").exists());
    }
    let log = closed(10);
    fs::create_dir_all(log.path().join("repair-1/work")).unwrap();
    let ran = run(log.path(), "stat DIR").done();
    assert!(
        ran.text().contains("repair-1  left by a repair that was killed: `mapwal repair --undo` removes it\n"),
        "{}",
        ran.text()
    );
}

#[test]
fn pins_that_cannot_be_listed_are_told_by_a_salvage() {
    if !states::has_other_user() {
        return;
    }
    let (log, out) = (closed(900), scratch());
    run(log.path(), "pins DIR add p 5").done();
    // The files of the log may be read, and that of the pin not.
    states::let_read(log.path());
    std::os::unix::fs::chown(out.path(), Some(states::OTHER_USER), None).unwrap();
    let mut program = start(log.path(), &format!("salvage DIR {}", out.path().display()));
    let ran = ran_with_input(program.uid(states::OTHER_USER).gid(states::OTHER_USER), b"");
    assert_eq!(ran.code, 4, "{}", ran.text());
    assert!(ran.err.contains("permission denied; all else is copied, and there may be pins"), "{}", ran.err);
    assert_eq!(run(out.path(), "dump DIR").done().lines().len(), 900);
}

#[test]
fn a_range_outside_of_what_is_there_prints_nothing_and_is_an_error() {
    let log = closed(1200);
    run(log.path(), "trim DIR --keep-records 100").done();
    let second = run(log.path(), "segments DIR").done();
    let first: u64 = run(log.path(), "dump DIR").done().lines()[0].split('\t').next().unwrap().parse().unwrap();
    assert!(first > 1, "{}", second.text());
    let path = segments(log.path()).remove(0);
    let of_file = |words: &str| run(&path, &format!("dump DIR {words}"));
    let of_log = |words: &str| run(log.path(), &format!("dump DIR {words}"));
    let lines = |ran: &Ran| (ran.code, ran.lines().len());
    let early = first - 1;
    for words in
        [format!("--from {early}"), format!("--to {early}"), format!("--from {early} --to {first}"), "--to 0".into()]
    {
        for ran in [of_file(&words), of_log(&words)] {
            assert_eq!(lines(&ran), (4, 0), "{words}: {}", ran.err);
        }
    }
    for ran in [of_file("--from 1202"), of_log("--from 1202")] {
        assert_eq!(lines(&ran), (4, 0), "{}", ran.err);
    }
    for words in [format!("--from {first} --to {first}"), format!("--to {first}")] {
        for ran in [of_file(&words), of_log(&words)] {
            assert_eq!(lines(&ran), (0, 1), "{words}: {}", ran.err);
        }
    }
    for ran in [of_file("--from 1200 --to 5000"), of_log("--from 1200 --to 5000")] {
        assert_eq!(lines(&ran), (0, 1), "{}", ran.err);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_processes_that_read_a_log_are_named() {
    let directory = scratch();
    let mut writer = live(directory.path(), 1200);
    assert!(!run(directory.path(), "stat DIR").done().text().contains("\nreader "), "nobody reads");
    let mut follower = Running::start(directory.path(), "tail DIR --from 1200");
    assert!(follower.line().unwrap().starts_with("1200\t"));
    let first = |at: usize| -> u64 {
        let listed: serde_json::Value =
            serde_json::from_str(run(directory.path(), "segments DIR --format json").done().text()).unwrap();
        listed["segments"][at]["first_lsn"].as_u64().unwrap()
    };
    let ran = run(directory.path(), "stat DIR").done();
    let named = format!("\nreader     process {}, mapwal: 1 file, from record {} on\n", follower.child.id(), first(3));
    assert!(ran.text().contains(&named), "{named}{}", ran.text());
    let stat: serde_json::Value =
        serde_json::from_str(run(directory.path(), "stat DIR --format json").done().text()).unwrap();
    crate::documents::check_document(&stat);
    assert_eq!(stat["readers"][0]["pid"], follower.child.id());
    assert_eq!(stat["readers"].as_array().unwrap().len(), 1, "neither this command nor the writer");
    writer.say("more");
    assert_eq!(writer.line().as_deref(), Some("1201"));
}

#[test]
fn a_look_at_what_a_repair_would_do_keeps_no_writer_out() {
    let log = crate::logs::damaged(900);
    // It waits at the first line that it prints, after all has been looked at.
    let (mut reader, writer) = crate::salvaged::full_pipe();
    let mut program = start(log.path(), "repair DIR");
    let mut repair = program.stdout(writer).spawn().unwrap();
    drop(program);
    let mut damage = std::io::BufReader::new(repair.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut damage, &mut String::new()).unwrap();
    let ran = crate::program::run_with_input(log.path(), "append DIR", b"more\n");
    let mut told = String::new();
    std::io::Read::read_to_string(&mut reader, &mut told).unwrap();
    assert_eq!(repair.wait().unwrap().code(), Some(2), "{told}");
    assert_eq!((ran.code, ran.text()), (0, "901\n"), "{}", ran.err);
}
