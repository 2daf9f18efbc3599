//! `append`: what is printed, when, and what is then in the log.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use mapwal::Options;
use mapwal::wal::{Wal, WalOptions};

use crate::logs::{closed, lines, scratch};
use crate::mounted::Mounted;
use crate::program::{Ran, Running, ran_with_input, run, run_with_input, start};
use crate::wait;

#[test]
fn each_line_becomes_a_record_and_each_number_is_printed() {
    for sync in ["each", "group", "none"] {
        let log = scratch();
        let command = format!("append DIR --sync {sync}");
        let ran = run_with_input(log.path(), &command, b"one\n\ttwo\\\n\nlast").done();
        assert_eq!(ran.text(), "1\n2\n3\n4\n", "{sync}");
        let dumped = run(log.path(), "dump DIR").done();
        assert_eq!(dumped.text(), "1\t0\t3\tone\n2\t0\t5\t\\ttwo\\\\\n3\t0\t0\t\n4\t0\t4\tlast\n", "{sync}");
    }
}

#[test]
fn a_number_is_printed_while_the_input_goes_on() {
    for sync in ["each", "group", "none"] {
        let log = scratch();
        let mut writer = Running::start(log.path(), &format!("append DIR --sync {sync}"));
        for number in 1..=20 {
            writer.say("line");
            assert_eq!(writer.line(), Some(number.to_string()), "{sync}");
        }
    }
}

#[test]
fn many_threads_append_each_line_once() {
    for sync in ["each", "group", "none"] {
        let log = scratch();
        let command = format!("append DIR --sync {sync} --threads 4 --segment-size 64KiB");
        let ran = run_with_input(log.path(), &command, lines(1000).as_bytes()).done();
        let numbers: BTreeSet<u64> = ran.lines().iter().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers, (1..=1000).collect(), "{sync}");
        let dumped = run(log.path(), "dump DIR").done();
        let payloads: BTreeSet<&str> = dumped.lines().iter().map(|line| line.split('\t').nth(3).unwrap()).collect();
        assert_eq!(payloads, lines(1000).lines().collect(), "{sync}");
    }
}

#[test]
fn records_may_have_lengths_before_them_and_any_bytes() {
    let log = scratch();
    let payloads: [&[u8]; 3] = [b"a\nb", b"", &[0, 255, 10]];
    let prefixed = |payload: &&[u8]| [&u32::to_le_bytes(payload.len() as u32)[..], payload].concat();
    let input: Vec<u8> = payloads.iter().flat_map(prefixed).collect();
    let ran = run_with_input(log.path(), "append DIR --length-prefixed", &input).done();
    assert_eq!(ran.text(), "1\n2\n3\n");
    assert_eq!(run(log.path(), "dump DIR --format raw").done().out, payloads.concat());

    let cut = run_with_input(log.path(), "append DIR --length-prefixed", &input[..input.len() - 1]);
    assert_eq!((cut.code, cut.text()), (4, "4\n5\n"));
    let stopped = "it stopped at record 3 of the input, byte 11: standard input";
    assert_eq!(cut.err, format!("mapwal: cannot read: the input ends inside of a record; {stopped}\n"));
    // In the length itself, and one that no record can have.
    for (last, told) in
        [(&[1, 0][..], "the input ends inside of a record"), (&[255; 8], "a length of 4294967295 bytes")]
    {
        let ran = run_with_input(log.path(), "append DIR --length-prefixed", &[&input[..7], last].concat());
        assert_eq!((ran.code, ran.lines().len()), (4, 1), "{}", ran.err);
        assert!(ran.err.contains(told) && ran.err.contains("record 2 of the input, byte 7"), "{}", ran.err);
    }
}

#[test]
fn a_file_is_appended_and_a_missing_one_is_named() {
    let log = scratch();
    let file = log.path().with_extension("lines");
    fs::write(&file, "one\ntwo\n").unwrap();
    let command = format!("append DIR {}", file.display());
    assert_eq!(run(log.path(), &command).done().text(), "1\n2\n");
    fs::remove_file(&file).unwrap();
    let missing = run(log.path(), &command);
    let told = format!("mapwal: cannot read: no such file or directory: {}\n", file.display());
    assert_eq!((missing.code, missing.err), (4, told));
}

#[test]
fn a_record_that_is_too_long_is_refused_and_those_before_it_are_kept() {
    let log = scratch();
    let input = format!("short\n{}\nafter\n", "x".repeat(70_000));
    let ran = run_with_input(log.path(), "append DIR --segment-size 64KiB", input.as_bytes());
    assert_eq!((ran.code, ran.text()), (4, "1\n"));
    let told = "the line is longer than the largest record of 57168 bytes; it stopped at record 2 of the input, byte 6";
    assert_eq!(ran.err, format!("mapwal: cannot read: {told}: standard input\n"));
    assert_eq!(run(log.path(), "dump DIR").done().text(), "1\t0\t5\tshort\n");
}

#[test]
fn what_the_log_refuses_is_told_with_the_record_of_the_input() {
    let Some(log) = Mounted::of_size(1 << 20) else {
        eprintln!("SKIPPED: nothing can be mounted here");
        return;
    };
    let input = "x".repeat(999) + "\n";
    for sync in ["each", "group", "none"] {
        let directory = log.path().join(sync);
        let command = format!("append DIR --segment-size 64KiB --sync {sync}");
        let ran = run_with_input(&directory, &command, input.repeat(3000).as_bytes());
        assert_eq!(ran.code, 4, "{}", ran.err);
        // The one after the last that was appended.
        let number = run(&directory, "dump DIR").done().lines().len() + 1;
        let stopped = format!("; it stopped at record {number} of the input, byte {}: ", (number - 1) * 1000);
        assert!(ran.err.starts_with("mapwal: disk full: ") && ran.err.contains(&stopped), "{number}: {}", ran.err);
        fs::remove_dir_all(&directory).unwrap();
    }
}

#[test]
fn an_input_is_appended_whole_when_no_process_reads_the_numbers() {
    for sync in ["each", "group", "none"] {
        let log = scratch();
        let mut child = start(log.path(), &format!("append DIR --sync {sync}")).stdin(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        // Each of them once what came before has met the closed pipe, or not: they are appended in any case.
        let said = child.stdin.take().unwrap().write_all(lines(2000).as_bytes());
        let ran = Ran::new(child.wait_with_output().unwrap()).done();
        assert!(said.is_ok() && ran.out.is_empty(), "{sync}: {said:?}");
        assert_eq!(run(log.path(), "dump DIR").done().lines().len(), 2000, "{sync}");
    }
}

#[test]
fn the_first_record_that_was_not_done_is_named_whatever_threads_have_come_to() {
    for sync in ["each", "group", "none"] {
        // No number can be printed.
        let log = scratch();
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut program = start(log.path(), &format!("append DIR --threads 8 --sync {sync}"));
        let ran = ran_with_input(program.stdout(full), lines(300).as_bytes());
        let told = "no space left on device; it stopped at record 1 of the input, byte 0: standard output\n";
        assert_eq!((ran.code, ran.err), (4, format!("mapwal: cannot write: {told}")), "{sync}");
    }
}

#[test]
fn a_log_of_transactions_takes_no_tag_that_its_recovery_would_refuse() {
    let log = scratch();
    let options = WalOptions::new().log(Options::new().segment_size_bytes(64 << 10));
    // SAFETY: the directory is one of this test.
    let open = || unsafe { Wal::open(log.path(), &options) };
    let wal = open().unwrap();
    wal.begin().unwrap().commit().unwrap().applied();
    wal.close().unwrap();
    for tag in [0, 0x7fff] {
        let ran = run_with_input(log.path(), &format!("append DIR --tag {tag}"), b"one\n");
        assert_eq!((ran.code, ran.text()), (4, ""), "{tag}");
        assert!(ran.err.contains("this is a log of transactions") && ran.err.contains("--force"), "{}", ran.err);
    }
    run_with_input(log.path(), "append DIR --tag 32768", b"one\n").done();
    open().unwrap().close().unwrap();
    run_with_input(log.path(), "append DIR --force", b"one\n").done();
    assert!(open().is_err(), "what is refused would be harmless");
}

#[test]
fn a_log_goes_on_with_its_size_of_segments() {
    let log = closed(10);
    run_with_input(log.path(), "append DIR", lines(2000).as_bytes()).done();
    let sizes: BTreeSet<u64> =
        crate::logs::segments(log.path()).iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    assert_eq!(sizes, BTreeSet::from([64 << 10]));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let log = closed(2000);
    for command in ["dump DIR", "dump DIR --format json", "tail DIR --from start", "verify DIR", "man"] {
        let mut child = start(log.path(), command).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), &*err), (Some(0), ""), "{command}");
    }
}

#[test]
fn an_input_that_is_not_there_makes_no_log() {
    let parent = scratch();
    let log = parent.path().join("log");
    for input in [parent.path().join("missing"), parent.path().to_owned()] {
        let ran = run(&log, &format!("append DIR {}", input.display()));
        assert_eq!(ran.code, 4);
        assert!(ran.err.starts_with("mapwal: cannot read: "), "{}", ran.err);
        assert!(!log.exists());
    }
}

#[test]
fn a_record_that_fails_ends_it_also_while_no_more_input_comes() {
    for options in ["", "--threads 3", "--length-prefixed", "--sync each --threads 2"] {
        let log = scratch();
        let mut program = start(log.path(), &format!("append DIR --segment-size 64KiB {options}"));
        // Its number cannot be printed.
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut append = program.stdout(full).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = append.stdin.take().unwrap();
        input.write_all(if options == "--length-prefixed" { b"\x03\0\0\0one" } else { b"one\n" }).unwrap();
        // Its input stays open, and nothing follows.
        wait::until("it ends", || append.try_wait().unwrap().is_some());
        let ran = Ran::new(append.wait_with_output().unwrap());
        assert_eq!(
            (ran.code, ran.err.contains("; it stopped at record 1 of the input, byte 0: ")),
            (4, true),
            "{}",
            ran.err
        );
        drop(input);
    }
}
