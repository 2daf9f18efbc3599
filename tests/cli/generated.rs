//! Help, completions, manual pages and bad command lines.

use std::fs;
use std::path::Path;

use crate::logs::scratch;
use crate::program::run;

pub(crate) const COMMANDS: [&str; 16] = [
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
fn no_manual_page_is_written_among_the_files_of_a_log() {
    let log = crate::logs::closed(10);
    for place in [log.path(), &log.path().join("pins")] {
        fs::create_dir_all(place).unwrap();
        let before = fs::read_dir(place).unwrap().count();
        let ran = run(place, "man DIR");
        assert_eq!((ran.code, ran.err.contains("refused: there is a log in ")), (4, true), "{}", ran.err);
        assert_eq!(fs::read_dir(place).unwrap().count(), before);
    }
}

/// The commands, as the program itself lists them.
fn listed() -> Vec<String> {
    let help = run(Path::new(""), "--help").done();
    let (_, list) = help.text().split_once("Commands:\n").unwrap();
    let names = list.split("\n\n").next().unwrap().lines().filter(|line| !line.starts_with("   "));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).filter(|name| name != "help").collect()
}

/// The long options of a command, or of a change of pins, as its help has them.
fn options(command: &str) -> Vec<String> {
    let help = run(Path::new("x"), &format!("{command} --help")).done();
    let words = help.text().lines().filter_map(|line| {
        let (indent, option) = (line.len() - line.trim_start().len(), line.trim_start());
        let option = option.strip_prefix("-h, ").or_else(|| option.strip_prefix("-V, ")).unwrap_or(option);
        (indent <= 8 && option.starts_with("--")).then(|| option.split([' ', '=']).next().unwrap().to_owned())
    });
    words.collect()
}

#[test]
fn manual_pages_and_completions_have_every_command_and_every_option() {
    let directory = scratch();
    run(directory.path(), "man DIR").done();
    let mut commands = listed();
    assert_eq!(commands.len(), COMMANDS.len(), "{commands:?}");
    commands.extend(["pins DIR add", "pins DIR advance", "pins DIR drop"].map(str::to_owned));
    let scripts: Vec<String> = ["bash", "zsh", "fish"]
        .map(|shell| run(Path::new(""), &format!("completions {shell}")).done().text().to_owned())
        .to_vec();
    let mut all = 0;
    for command in &commands {
        let page = directory.path().join(format!("mapwal-{}.1", command.replace(" DIR ", "-")));
        let page = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let page = page.replace("\\-", "-");
        for option in options(command) {
            all += 1;
            // As the head of a paragraph, and not only in an example.
            assert!(page.contains(&format!("\\fB{option}\\fR")), "{option} is not in the manual page of {command}");
            for script in &scripts {
                // In fish without the dashes.
                let has = script.contains(&option) || script.contains(&format!("-l {}", &option[2..]));
                assert!(has, "{option} of {command} is not completed");
            }
        }
    }
    assert!(all > 60, "{all}");
}

#[test]
fn a_bad_command_line_is_no_damage() {
    for command in ["", "verify", "dump", "frobnicate DIR", "append DIR --sync sometimes", "append DIR --threads 0"] {
        let ran = run(Path::new("log"), command);
        assert_eq!((ran.code, ran.text()), (64, ""), "{command}");
        assert!(ran.err.starts_with("mapwal: bad command line: "), "{command}: {}", ran.err);
    }
}

#[test]
fn without_a_command_it_is_said_that_one_is_missing() {
    let ran = run(Path::new(""), "");
    let told = "mapwal: bad command line: a command is missing, such as verify: see mapwal --help\n";
    assert_eq!((ran.code, &*ran.err), (64, told));
}
