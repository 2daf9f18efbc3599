//! `verify`: what it says of each segment, and of each damage.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::logs::{closed, copy, damaged, line, live, scratch, segments, spoil, torn, write_at};
use crate::program::{Ran, run, run_with_input, start};

/// Number, state and records of each segment, as printed.
fn table(text: &str) -> Vec<(u64, String, String)> {
    let rows = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.take_while(|words| words[0].parse::<u64>().is_ok());
    rows.map(|words| (words[0].parse().unwrap(), words[1].to_owned(), words[3].to_owned())).collect()
}

#[test]
fn a_sound_log_has_sealed_segments_and_an_active_one() {
    for options in ["", " --deep"] {
        let log = closed(900);
        let ran = run(log.path(), &format!("verify DIR{options}")).done();
        let states: Vec<String> = table(ran.text()).into_iter().map(|(_, state, _)| state).collect();
        assert_eq!(states, ["sealed", "sealed", "active"], "{}", ran.text());
        assert_eq!(ran.lines().last(), Some(&"sound: 900 records in 3 segments, closed"));
    }
}

#[test]
fn how_much_was_compared_with_the_device_is_told() {
    let log = closed(900);
    let ran = run(log.path(), "verify DIR --deep").done();
    let compared = ran.lines().into_iter().rev().nth(1).unwrap();
    assert!(compared.starts_with("compared with the device: "), "{}", ran.text());
    let of = |log: &Path, options: &str| -> [serde_json::Value; 2] {
        let ran = run(log, &format!("verify DIR --format json {options}")).done();
        let document: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
        crate::documents::check_document(&document);
        ["compared_segments", "compared_bytes"].map(|name| document[name].clone())
    };
    assert_eq!(of(log.path(), ""), [serde_json::Value::Null, serde_json::Value::Null]);
    let [segments, bytes] = of(log.path(), "--deep");
    // Where the file system does not let the device be read, that is told.
    if segments == 0 && !Path::new("/dev/shm").is_dir() {
        assert_eq!((compared, bytes), ("compared with the device: 0 B, in 0 of 3 segments", 0.into()));
        return;
    }
    assert!(segments == 3 && bytes.as_u64().unwrap() > 128 << 10, "{segments} {bytes}");
    assert!(compared.ends_with(", in 3 of 3 segments"), "{compared}");
    // Of a live log, those that are full and durable.
    let directory = scratch();
    let _writer = live(directory.path(), 600);
    assert_eq!(of(directory.path(), "--deep")[0], 1);
}

#[test]
fn a_live_log_is_sound_and_its_writer_is_named() {
    let directory = scratch();
    let writer = live(directory.path(), 600);
    for options in ["", " --deep"] {
        let ran = run(directory.path(), &format!("verify DIR{options}")).done();
        let ending = format!("process {} is writing", writer.child.id());
        assert!(ran.lines().last().unwrap().ends_with(&ending), "{}", ran.text());
    }
}

#[test]
fn a_log_that_is_written_without_a_pause_is_never_found_damaged() {
    const TIMES: usize = 8;
    let directory = scratch();
    drop(live(directory.path(), 1));
    let command = "append DIR --segment-size 64KiB --threads 2";
    let mut writer = start(directory.path(), command).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = writer.stdin.take().unwrap();
    std::thread::scope(|scope| {
        let lines = "a line that is appended\n".repeat(100);
        // Until nobody reads them any more.
        scope.spawn(move || {
            while input.write_all(lines.as_bytes()).is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let ran: Vec<_> = (0..TIMES).map(|_| run(directory.path(), "verify DIR")).collect();
        assert_eq!(writer.try_wait().unwrap(), None, "it writes all the time");
        writer.kill().unwrap();
        writer.wait().unwrap();
        for ran in ran {
            assert_eq!((ran.code, &*ran.err), (0, ""), "{}", ran.text());
        }
    });
}

/// Whether the program `pid` waits between two looks at the log in `directory`, which has `len` bytes: it has read all of it, and
/// has nothing of it open.
fn is_between_looks(pid: u32, directory: &Path, len: u64) -> bool {
    let Ok(io) = fs::read_to_string(format!("/proc/{pid}/io")) else { return false };
    let read: u64 = io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap_or(0);
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut open = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
    read > len && !open.any(|path| path.starts_with(directory))
}

/// Runs `verify` on a log that a process has open and does not write to. `between` is called between each two looks, with their
/// number.
fn verify_with(directory: &Path, mut between: impl FnMut(usize)) -> Ran {
    let len = segments(directory).iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>() / 2;
    let mut child = start(directory, "verify DIR").spawn().unwrap();
    let (mut looks, mut is_between) = (0, false);
    while child.try_wait().unwrap().is_none() {
        let was_between = std::mem::replace(&mut is_between, is_between_looks(child.id(), directory, len));
        if is_between && !was_between {
            looks += 1;
            between(looks);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ran::new(child.wait_with_output().unwrap())
}

/// Verifies until the log is found sound. On a machine that is busy, this process may come to what it does between two looks only
/// when that time is over.
fn until_sound(mut verify: impl FnMut() -> Ran) -> Ran {
    let begin = Instant::now();
    loop {
        let ran = verify();
        if ran.code == 0 {
            return ran;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", ran.text());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn what_looks_damaged_beside_a_writer_is_looked_at_again() {
    let directory = scratch();
    let _writer = live(directory.path(), 900);
    let ran = until_sound(|| {
        let (path, frame) = spoil(directory.path(), &line(5));
        let at = frame + 24;
        let mend = || write_at(&path, at, &[line(5).as_bytes()[0]]);
        let ran = verify_with(directory.path(), |looks| {
            if looks == 1 {
                mend();
            }
        });
        mend();
        ran
    });
    assert!(ran.lines().last().unwrap().starts_with("sound: 900 records"), "{}", ran.text());
}

#[test]
#[cfg(target_os = "linux")]
fn what_moves_from_look_to_look_beside_a_writer_is_no_damage_and_what_stays_is() {
    let directory = scratch();
    let _writer = live(directory.path(), 900);
    let (path, frame) = spoil(directory.path(), &line(5));
    let mut spoilt = frame + 24;
    let flip = |at: usize| write_at(&path, at, &[fs::read(&path).unwrap()[at] ^ 1]);
    let mut moves = 0;
    until_sound(|| {
        verify_with(directory.path(), |_| {
            flip(spoilt);
            // The payload of the record after it, or of this one again.
            spoilt =
                if spoilt == frame + 24 { frame + 24 + line(5).len().next_multiple_of(8) + 24 } else { frame + 24 };
            flip(spoilt);
            moves += 1;
        })
    });
    assert!(moves > 0);
    let ran = run(directory.path(), "verify DIR");
    assert_eq!(ran.code, 2, "{}", ran.text());
    assert!(ran.text().contains("damaged in 1 place"), "{}", ran.text());
}

#[test]
fn a_torn_end_is_measured_and_is_no_damage() {
    let log = torn(100);
    let ran = run(log.path(), "verify DIR");
    assert_eq!((ran.code, &*ran.err), (1, ""));
    let torn: Vec<_> = table(ran.text()).into_iter().filter(|(_, state, _)| state == "torn").collect();
    assert_eq!(torn.iter().map(|(_, _, records)| &**records).collect::<Vec<_>>(), ["99"], "{}", ran.text());
    assert!(ran.lines().last().unwrap().starts_with("torn end of "), "{}", ran.text());
    let appended = run_with_input(log.path(), "append DIR", b"");
    assert!(appended.code == 0 && appended.err.starts_with("mapwal: torn end dropped: 128 bytes "), "{}", appended.err);
    run(log.path(), "verify DIR").done();
}

#[test]
fn damage_is_named_with_file_offset_record_and_witness() {
    let log = closed(900);
    let (path, offset) = spoil(log.path(), &line(5));
    let ran = run(log.path(), "verify DIR");
    assert_eq!((ran.code, &*ran.err), (2, ""));
    let found = ran.lines().into_iter().find(|line| line.starts_with(path.to_str().unwrap())).unwrap();
    assert!(found.contains(&format!(": offset {offset}, record 5: checksum is 0x")), "{found}");
    assert!(
        found.contains("it was acknowledged: the frame at offset ") && found.contains(" of segment 3 says"),
        "{found}"
    );
    assert_eq!(ran.lines().last(), Some(&"damaged in 1 place: 899 records in 3 segments, closed"));
}

#[test]
fn all_damage_is_found_and_not_only_the_first() {
    let log = closed(900);
    let places: Vec<_> = [5, 6, 100, 400, 899].map(|number| spoil(log.path(), &line(number))).into();
    write_at(&segments(log.path())[1], 60, &[1]);
    let ran = run(log.path(), "verify DIR");
    let told = |number: u64| ran.text().contains(&format!("record {number}: "));
    // Record 6 follows record 5 directly: there is one place for both. Segment 2 cannot be read at all.
    assert!(told(5) && !told(6) && told(100) && told(899), "{}", ran.text());
    assert!(ran.text().contains("offset 4092: checksum is 0x") && ran.text().contains("no crash leaves this"));
    assert_eq!(places.len(), 5);
}

#[test]
fn damage_at_the_end_of_what_was_synced_is_told_by_the_control_page() {
    let directory = scratch();
    drop(live(directory.path(), 50));
    let (path, offset) = spoil(directory.path(), &line(50));
    let ran = run(directory.path(), "verify DIR");
    assert_eq!(ran.code, 2, "{}", ran.text());
    let start = format!("{}: offset {offset}, record 50: ", path.display());
    let found = ran.lines().into_iter().find(|line| line.starts_with(&start)).unwrap();
    assert!(found.contains("the control page says that the log was durable up to record 50"), "{found}");
    // Without the page nothing is left that says so.
    fs::remove_file(directory.path().join("control")).unwrap();
    assert_eq!(run(directory.path(), "verify DIR").code, 1);
}

#[test]
fn a_missing_segment_is_damage() {
    let log = closed(900);
    for missing in [0, 1] {
        let copy = copy(log.path());
        fs::remove_file(&segments(copy.path())[missing]).unwrap();
        let ran = run(copy.path(), "verify DIR");
        assert_eq!(ran.code, 2, "{}", ran.text());
        let name = format!("{:020}.seg: offset 0", missing + 1);
        assert!(ran.text().contains(&name) && ran.text().contains("segment is missing"), "{}", ran.text());
    }
}

#[test]
fn verify_agrees_with_opening_that_a_log_is_damaged() {
    let log = damaged(100);
    // Else it opens as a log that was closed, and what it holds is looked at when it is read.
    fs::remove_file(log.path().join("control")).unwrap();
    assert_eq!(run(log.path(), "verify DIR").code, 2);
    assert_eq!(run_with_input(log.path(), "append DIR", b"").code, 2);
}

#[test]
fn a_pin_without_a_limit_shows_that_the_first_segments_are_missing() {
    for (options, code) in [("--no-limit", 2), ("--limit 1GiB", 0)] {
        let log = closed(1500);
        run(log.path(), &format!("pins DIR add replica 5 {options}")).done();
        assert_eq!(run(log.path(), "verify DIR").code, 0);
        fs::remove_file(log.path().join("control")).unwrap();
        fs::remove_file(&segments(log.path())[0]).unwrap();
        let ran = run(log.path(), "verify DIR");
        // A trim may have passed one that has a limit.
        assert_eq!(ran.code, code, "{options}: {}", ran.text());
        let told = "pins/replica: offset 0, record 5: it keeps records that are missing; the log begins with ";
        assert_eq!(ran.text().contains(told), code == 2, "{}", ran.text());
    }
}

#[test]
fn nothing_is_drawn_where_nobody_sees_it() {
    let ran = run(closed(600).path(), "verify DIR").done();
    assert!(!ran.out.contains(&0x1b), "no colours in a pipe");
}

#[test]
#[cfg(target_os = "linux")]
fn a_writer_in_another_container_is_seen() {
    use crate::program::{PROGRAM, Ran};
    use std::process::Command;

    let directory = scratch();
    let writer = live(directory.path(), 600);
    let inside =
        |words: &[&str]| Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "--"]).args(words).output();
    if !inside(&["true"]).is_ok_and(|ran| ran.status.success()) {
        eprintln!("SKIPPED: no process namespaces here");
        return;
    }
    let ran = Ran::new(inside(&[PROGRAM, "verify", directory.path().to_str().unwrap()]).unwrap()).done();
    let ending = format!("process {} is writing", writer.child.id());
    assert!(ran.lines().last().unwrap().ends_with(&ending), "{}", ran.text());
}

#[test]
fn each_of_several_last_segments_that_are_missing_is_accounted_for() {
    let log = closed(2400);
    let files = segments(log.path());
    let (last, first_gone) = (files.len() as u64, files.len() as u64 - 2);
    for path in &files[first_gone as usize - 1..] {
        fs::remove_file(path).unwrap();
    }
    let at = |number: u64| format!("{}/{number:020}.seg: offset 0", log.path().display());
    let ran = run(log.path(), "verify DIR");
    assert_eq!(ran.code, 2);
    let referrer = first_gone - 1;
    let told = [
        format!("{}, record ", at(first_gone)),
        format!("segment is missing; {referrer} refers to it; "),
        format!(
            "{}: segment is missing, and any after segment {referrer}; it was acknowledged: the control page says",
            at(last)
        ),
        "damaged in 2 places".to_owned(),
    ];
    assert!(told.iter().all(|told| ran.text().contains(told)), "{told:?}: {}", ran.text());
    assert!(!ran.text().contains("frame is missing"), "the segment before is whole: {}", ran.text());
    let ran = run(log.path(), "repair DIR");
    assert!(
        ran.text().contains(&format!("{referrer} segments up to number {referrer} stay as they are")),
        "{}",
        ran.text()
    );
}
