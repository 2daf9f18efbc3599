//! What is printed for people fits the width that there is.

use crate::logs::closed;
use crate::program::{Ran, run, start};

/// As on a terminal of `columns`.
fn narrow(directory: &std::path::Path, command: &str, columns: usize) -> Ran {
    Ran::new(start(directory, command).env("COLUMNS", columns.to_string()).output().unwrap()).done()
}

/// The words of a text. A path has none that change.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn stat_and_segments_fit_the_terminal_and_leave_nothing_out() {
    let log = closed(1200);
    run(log.path(), "pins DIR add archive 500 --no-limit --owner the-archive-of-the-company").done();
    for command in ["stat DIR", "segments DIR", "pins DIR", "verify DIR"] {
        let wide = run(log.path(), command).done();
        for columns in [40, 60, 80] {
            let ran = narrow(log.path(), command, columns);
            let path = log.path().display().to_string();
            for line in ran.lines().into_iter().filter(|line| !line.contains(&path)) {
                assert!(line.chars().count() <= columns, "{command}, {columns}: {line}\n{}", ran.text());
            }
            let mut all = words(ran.text());
            for word in words(wide.text()) {
                assert!(all.contains(&word), "{command}, {columns}: {word} in\n{}", ran.text());
            }
            all.dedup();
            assert_eq!(
                ran.text().lines().any(|line| line.ends_with(' ')),
                wide.text().lines().any(|l| l.ends_with(' '))
            );
        }
        // Wide enough, or nobody who looks: as it is laid out.
        assert_eq!(narrow(log.path(), command, 200).text(), wide.text(), "{command}");
    }
}

#[test]
fn a_segment_is_a_paragraph_where_the_table_does_not_fit() {
    let log = closed(1200);
    let ran = narrow(log.path(), "segments DIR", 40);
    let paragraphs: Vec<Vec<&str>> = ran.text().split("\n\n").map(|part| part.lines().collect()).collect();
    assert_eq!(paragraphs.len(), run(log.path(), "segments DIR").done().lines().len() - 1, "{}", ran.text());
    for paragraph in paragraphs {
        let names: Vec<&str> = paragraph.iter().map(|line| line[..8].trim_end()).collect();
        assert_eq!(names, ["SEGMENT", "STATE", "LSN", "SIZE", "END", "AFTER", "CHECKSUM", "KEPT BY"], "{}", ran.text());
    }
}
