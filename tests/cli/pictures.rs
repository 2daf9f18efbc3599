//! The pictures of the guide, drawn from what the program prints: `SNAPSHOTS=overwrite` draws them anew.
//!
//! What differs from run to run is not compared: identities, checksums, times, and what threads have done.

use std::fs;
use std::path::Path;

use anstyle_svg::Term;

use crate::logs::{damaged, scratch, synced};
use crate::program::{PROGRAM, plain, run};

/// Compares a picture with what the program prints of the log in `log` of `directory`, or draws it.
fn check(name: &str, directory: &Path, command: &str) {
    let mut program = plain(PROGRAM);
    program.args(command.split_whitespace()).current_dir(directory).env("CLICOLOR_FORCE", "1");
    let ran = program.output().unwrap();
    assert!(ran.stderr.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = format!("$ mapwal {command}\n{}", String::from_utf8(ran.stdout).unwrap());
    let drawn = Term::new().render_svg(&text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(name);
    if std::env::var_os("SNAPSHOTS").is_some_and(|how| how == "overwrite") {
        fs::write(&path, &drawn).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(stable(&drawn), stable(&there), "draw it anew: SNAPSHOTS=overwrite cargo test --test cli -- pictures::");
}

/// Without identities and checksums, times, widths that come of them, and what the file system has given.
fn stable(svg: &str) -> String {
    let is_volatile = |word: &&str| {
        let word = word.trim_start_matches("0x");
        let is_hex = word.len() >= 8 && word.chars().all(|c| c.is_ascii_hexdigit());
        let is_time = ["ns", "µs", "ms", "s"].iter().any(|unit| {
            word.trim_end_matches(',').strip_suffix(unit).is_some_and(|number| number.parse::<f64>().is_ok())
        });
        is_hex || is_time
    };
    // What the writer's threads have done by its end is a matter of time.
    let differs = |line: &&str| ["<svg", ">syncs ", ">files ", ">room "].iter().any(|start| line.contains(start));
    let lines = svg.lines().filter(|line| !differs(line));
    let words = |line: &str| {
        let line = line.split(" allocated").next().unwrap();
        let words = line.split(|c: char| c.is_whitespace() || c == '<' || c == '>' || c == ',' || c == ';');
        words.map(|word| if is_volatile(&word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
    };
    lines.map(words).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_pictures_of_the_guide_show_what_the_program_prints() {
    let directory = scratch();
    let log = directory.path().join("log");
    fs::rename(synced(1200).keep(), &log).unwrap();
    run(&log, "pins DIR add replica-2 800 --limit 10GiB").done();
    run(&log, "pins DIR add nightly 400 --no-limit").done();
    fs::create_dir_all(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures")).unwrap();
    check("stat.svg", directory.path(), "stat log");
    check("segments.svg", directory.path(), "segments log");
    let spoilt = scratch();
    fs::rename(damaged(900).keep(), spoilt.path().join("log")).unwrap();
    check("verify.svg", spoilt.path(), "verify log");
}

#[test]
fn what_differs_each_time_is_not_compared() {
    assert_eq!(stable("a 0123456789abcdef, 12.5ms"), stable("a fedcba9876543210, 9.7µs"));
    assert_ne!(stable("a 12 b"), stable("a 13 b"));
    assert_ne!(stable("sealed"), stable("damaged"));
}
