//! Help, completions, manual pages and bad command lines.

use std::fs;
use std::path::Path;

use crate::logs::scratch;
use crate::program::run;

const COMMANDS: [&str; 16] = [
    "append",
    "dump",
    "verify",
    "tail",
    "stat",
    "segments",
    "meta",
    "pins",
    "backup",
    "trim",
    "salvage",
    "diff",
    "repair",
    "bench",
    "completions",
    "man",
];

#[test]
fn each_command_has_help_with_an_example() {
    for command in COMMANDS {
        let help = run(Path::new(""), &format!("{command} --help")).done();
        assert!(
            help.text().contains("Example:\n  ") && help.text().contains(&format!("mapwal {command} ")),
            "{command}"
        );
    }
}

#[test]
fn exit_codes_are_in_the_help_and_in_the_manual() {
    let help = run(Path::new(""), "--help").done();
    let manual = run(Path::new(""), "man").done();
    for text in [help.text(), manual.text()] {
        for code in ["0 ", "1 ", "2 ", "3 ", "4 ", "64"] {
            let listed = text.lines().any(|line| line.trim_start().starts_with(code));
            assert!(listed, "{code} is not in\n{text}");
        }
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(Path::new(""), &format!("completions {shell}")).done();
        for command in COMMANDS {
            assert!(script.text().contains(command), "{command} in {shell}");
        }
    }
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let directory = scratch();
    run(directory.path(), "man DIR").done();
    for command in COMMANDS {
        let page = fs::read_to_string(directory.path().join(format!("mapwal-{command}.1"))).unwrap();
        assert!(page.contains(".TH"), "{page}");
    }
    let missing = run(&directory.path().join("missing"), "man DIR");
    assert_eq!(missing.code, 4);
}

#[test]
fn a_bad_command_line_is_no_damage() {
    for command in ["", "verify", "dump", "frobnicate DIR", "append DIR --sync sometimes", "append DIR --threads 0"] {
        let ran = run(Path::new("log"), command);
        assert_eq!((ran.code, ran.text()), (64, ""), "{command}");
        assert!(ran.err.starts_with("mapwal: bad command line: "), "{command}: {}", ran.err);
    }
}
