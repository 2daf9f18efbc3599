//! `diff`: where two logs part.
//!
//! Planted, and noticed: tags not compared; a hole taken for the end of a log; a difference forgotten when no process reads the
//! output.

use std::path::Path;
use std::process::Stdio;

use crate::logs::{closed, copy, damaged, line, live, scratch, spoil};
use crate::program::{Ran, Running, run, run_with_input, start};

fn diff(a: &Path, b: &Path, options: &str) -> Ran {
    run(a, &format!("diff DIR {} {options}", b.display()))
}

/// The code, and what is printed, without the paths.
fn told(a: &Path, b: &Path, options: &str) -> (i32, String) {
    let ran = diff(a, b, options);
    assert_eq!(ran.err, "");
    (ran.code, ran.text().replace(a.to_str().unwrap(), "A").replace(b.to_str().unwrap(), "B"))
}

#[test]
fn a_log_and_its_backup_are_the_same() {
    let (log, out) = (closed(600), scratch());
    run(log.path(), &format!("backup DIR {}", out.path().display())).done();
    let same = "the logs are the same: 600 records in both, 0 differ, 0 and 0 only in one\n";
    assert_eq!(told(log.path(), out.path(), ""), (0, same.to_owned()));
    assert_eq!(told(log.path(), log.path(), ""), (0, same.to_owned()));
}

#[test]
fn what_one_has_trimmed_or_not_yet_is_told_and_does_not_count_where_only_the_overlap_does() {
    let log = closed(600);
    let later = copy(log.path());
    let trimmed = run(later.path(), "trim DIR --keep-records 100").done();
    let first: u64 = trimmed.text().trim().rsplit(' ').next().unwrap().parse().unwrap();
    let (gone, kept) = (first - 1, 601 - first);
    run_with_input(later.path(), "append DIR", b"more\nand more\n").done();
    let told_of = format!(
        "1..{gone}: {gone} records only in A: B begins with {first}\n601..602: 2 records only in B: A ends with 600\n\
        one log has more than the other: {kept} records in both, 0 differ, {gone} and 2 only in one\n"
    );
    assert_eq!(told(log.path(), later.path(), ""), (1, told_of.clone()));
    let told_of = told_of.replace("one log has more than the other", "the logs are the same");
    assert_eq!(told(log.path(), later.path(), "--overlap"), (0, told_of));
    let empty = closed(0);
    let (code, text) = told(log.path(), empty.path(), "");
    assert_eq!((code, text.lines().next()), (1, Some("1..600: 600 records only in A: B has none")));
}

#[test]
fn the_first_record_that_differs_is_named() {
    let (one, other) = (scratch(), scratch());
    let append = |path: &Path, tag: u16, text: &str| {
        run_with_input(path, &format!("append DIR --tag {tag} --segment-size 64KiB"), text.as_bytes()).done();
    };
    append(one.path(), 1, "a\nb\nsame\n");
    append(other.path(), 1, "a\nbc\nsame\n");
    append(one.path(), 1, "tagged\n");
    append(other.path(), 2, "tagged\n");
    let expected = "2..2: 1 record differ: 2 is tag 1, 1 bytes and tag 1, 2 bytes\n\
        4..4: 1 record differ: 4 is tag 1, 6 bytes and tag 2, 6 bytes\n\
        the logs part at record 2: 2 records in both, 2 differ, 0 and 0 only in one\n"
        .replace("1 record differ", "1 record differs");
    for options in ["", "--overlap"] {
        assert_eq!(told(one.path(), other.path(), options), (1, expected.clone()));
    }
}

#[test]
fn a_number_without_a_record_is_a_difference_and_no_end() {
    let (log, out) = (closed(60), scratch());
    let spoiled = copy(log.path());
    spoil(spoiled.path(), &line(5));
    assert_eq!(run(spoiled.path(), &format!("salvage DIR {}", out.path().display())).code, 3);
    let expected = "5..5: 1 record only in A: B has none there\n\
        the logs part at record 5: 59 records in both, 0 differ, 1 and 0 only in one\n";
    assert_eq!(told(log.path(), out.path(), "--overlap"), (1, expected.to_owned()));
}

#[test]
fn what_cannot_be_told_is_trouble() {
    let (log, spoiled, none) = (closed(60), damaged(60), scratch());
    assert_eq!(diff(log.path(), spoiled.path(), "").code, 2);
    assert_eq!(diff(none.path(), log.path(), "").code, 4);
    assert_eq!(run(log.path(), "diff DIR").code, 64);
}

#[test]
fn a_log_that_is_written_is_compared_as_it_is_at_one_moment() {
    let (log, out) = (scratch(), scratch());
    let mut writer: Running = live(log.path(), 300);
    run(log.path(), &format!("backup DIR {}", out.path().display())).done();
    writer.say("more");
    assert_eq!(writer.line().as_deref(), Some("301"));
    let (code, text) = told(log.path(), out.path(), "");
    assert_eq!((code, text.lines().next()), (1, Some("301..301: 1 record only in A: B ends with 300")));
    assert_eq!(told(log.path(), out.path(), "--overlap").0, 0);
}

#[test]
fn the_code_tells_though_no_process_reads_the_rest() {
    let (log, empty) = (closed(60), closed(0));
    let (reader, pipe) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = start(log.path(), &format!("diff DIR {}", empty.path().display()));
    let status = command.stdout(Stdio::from(pipe)).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn logs_that_have_nothing_in_common_are_not_the_same() {
    let (log, empty) = (closed(60), closed(0));
    let (code, text) = told(log.path(), empty.path(), "--overlap");
    assert_eq!(code, 1);
    assert!(text.contains("the logs have no record in common: 0 records in both"), "{text}");
}
