//! Each word of the control page that proves something, with a bit of it changed, beside a log that is whole and one whose last record is
//! damaged: no command ends with success and less than what was there.

use std::fs;
use std::path::Path;

use crate::logs::{closed, copy, killed, line, segments, spoil, write_at};
use crate::program::run;

const RECORDS: u64 = 20;
/// Magic bytes and identity; version, active segment and oldest; both watermarks; and the close.
const WORDS: [usize; 23] = [0, 1, 2, 5, 7, 9, 80, 81, 82, 83, 84, 85, 86, 88, 89, 90, 91, 92, 93, 94, 96, 97, 98];

/// Not the word that tells which segment is the oldest: without that, nothing tells that one is missing.
const WORDS_BESIDE_OLDEST: [usize; 9] = [0, 1, 2, 5, 7, 80, 86, 92, 96];

#[test]
fn a_flipped_bit_beside_a_lost_beginning_changes_the_answer_of_no_command() {
    let log = closed(1200);
    fs::remove_file(&segments(log.path())[0]).unwrap();
    let out = crate::logs::scratch();
    let salvage = format!("salvage DIR {}", out.path().join("salvaged").display());
    let backup = format!("backup DIR {}", out.path().join("backup").display());
    let commands = [
        "dump DIR",
        "verify DIR",
        "tail DIR --no-follow",
        "stat DIR",
        "segments DIR",
        "repair DIR",
        "repair DIR --apply",
    ];
    let commands = commands.into_iter().chain(["trim DIR --before 5", "append DIR", &salvage, &backup]);
    for command in commands {
        let code = |log: &Path| {
            let _ = fs::remove_dir_all(out.path().join("salvaged"));
            let _ = fs::remove_dir_all(out.path().join("backup"));
            run(copy(log).path(), command).code
        };
        let expected = code(log.path());
        assert_ne!(expected, 0, "{command}");
        for word in WORDS_BESIDE_OLDEST {
            let spoiled = copy(log.path());
            let at = 8 * word + 4;
            let byte = fs::read(spoiled.path().join("control")).unwrap()[at];
            write_at(&spoiled.path().join("control"), at, &[byte ^ 4]);
            assert_eq!(code(spoiled.path()), expected, "{command}, word {word}");
        }
    }
}

/// Runs each command, on a copy of its own, and checks with which code it ends, and with how many records if that is 0.
fn check(log: &Path, commands: &[(&str, &[i32])], what: &str) {
    for (command, codes) in commands {
        let log = copy(log);
        let ran = run(log.path(), command);
        assert!(codes.contains(&ran.code), "{command}, {what}: {} {}{}", ran.code, ran.text(), ran.err);
        let prints = command.starts_with("dump") || command.starts_with("tail");
        assert!(!prints || ran.code != 0 || ran.lines().len() == RECORDS as usize, "{command}, {what}: {}", ran.text());
    }
}

#[test]
fn a_flipped_bit_of_the_control_page_makes_no_command_lose_a_record_in_silence() {
    let whole = killed(RECORDS);
    let spoiled = copy(whole.path());
    spoil(spoiled.path(), &line(RECORDS));
    let out = crate::logs::scratch();
    let salvage = format!("salvage DIR {}", out.path().join("out").display());
    let page = fs::read(whole.path().join("control")).unwrap();
    for word in WORDS {
        for bit in [word % 32, 32 + word % 32] {
            let at = 8 * word + bit / 8;
            let flipped = page[at] ^ 1 << (bit % 8);
            for log in [&whole, &spoiled] {
                write_at(&log.path().join("control"), at, &[flipped]);
            }
            let what = format!("bit {bit} of word {word}");
            check(
                spoiled.path(),
                &[
                    ("dump DIR", &[2]),
                    ("dump DIR --from 5", &[2]),
                    ("verify DIR", &[2]),
                    ("tail DIR --no-follow", &[2]),
                    ("tail DIR --no-follow --durable", &[2]),
                    ("stat DIR", &[2]),
                    ("repair DIR", &[2]),
                    ("trim DIR --before 5", &[2]),
                    ("append DIR", &[2]),
                    (&salvage, &[3]),
                ],
                &what,
            );
            let _ = fs::remove_dir_all(out.path().join("out"));
            check(
                whole.path(),
                &[
                    ("dump DIR", &[0]),
                    ("verify DIR", &[2]),
                    ("tail DIR --no-follow", &[0]),
                    ("tail DIR --no-follow --durable", &[2]),
                    ("repair DIR --apply", &[2]),
                    ("trim DIR --before 5", &[0]),
                    ("append DIR", &[0]),
                    (&salvage, &[0]),
                ],
                &what,
            );
            let _ = fs::remove_dir_all(out.path().join("out"));
            for log in [&whole, &spoiled] {
                write_at(&log.path().join("control"), at, &[page[at]]);
            }
        }
    }
}
