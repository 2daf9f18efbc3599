//! `docs/guide.md`: each of its commands is run, in its order, and what it names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::logs::{damaged, scratch, synced};
use crate::program::{PROGRAM, run};

/// Says that the log in the block of commands that follows is another one.
const DAMAGED: &str = "<!-- the log is damaged -->";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The blocks of commands, with what is written before each.
fn blocks(guide: &str) -> Vec<(&str, &str)> {
    let mut parts = guide.split("```");
    let mut blocks = Vec::new();
    while let (Some(before), Some(block)) = (parts.next(), parts.next()) {
        blocks.extend(block.strip_prefix("sh\n").map(|commands| (before, commands)));
    }
    blocks
}

/// Runs a line as it is, but for where its directories are; with the exit code that it names.
fn run_line(line: &str, root: &Path) {
    let (command, code) = line.split_once(" # exit code ").unwrap_or((line, "0"));
    let mut here = command.to_owned();
    for directory in ["/var/lib/app", "/var/lib/node_exporter", "/mnt/backup", "/mnt/new"] {
        here = here.replace(directory, &format!("{}{directory}", root.display()));
    }
    let path = format!("{}:{}", Path::new(PROGRAM).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let ran = Command::new("sh").args(["-c", &here]).env("PATH", path).output().unwrap();
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(code.parse().unwrap()), "{line}: {err}");
    assert!(code != "0" || err.is_empty(), "{line}: {err}");
}

#[test]
fn the_commands_of_the_guide_do_what_it_says() {
    let (guide, root) = (read("docs/guide.md"), scratch());
    for directory in ["var/lib/app", "var/lib/node_exporter", "mnt/backup", "mnt/new"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    let log = root.path().join("var/lib/app/log");
    let blocks = blocks(&guide);
    assert!(blocks.len() >= 10);
    for (before, commands) in blocks {
        if before.trim_end().ends_with(DAMAGED) {
            fs::remove_dir_all(&log).unwrap();
            fs::rename(damaged(600).keep(), &log).unwrap();
        }
        commands.lines().for_each(|line| run_line(line, root.path()));
    }
}

/// What is between backticks.
fn quoted(guide: &str) -> impl Iterator<Item = &str> {
    let outside_of_blocks = guide.split("```").step_by(2);
    outside_of_blocks.flat_map(|text| text.split('`').skip(1).step_by(2))
}

#[test]
fn commands_in_the_text_are_commands_of_the_program() {
    let guide = read("docs/guide.md");
    let commands: Vec<&str> = quoted(&guide).filter_map(|text| text.strip_prefix("mapwal ")).collect();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        // What is wrong with the command line is told before the help is.
        let ran = run(Path::new("log"), &format!("{command} --help"));
        assert_eq!(ran.code, 0, "{command}: {}", ran.err);
    }
}

/// The names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("mapwal_")).map(str::to_owned).collect()
}

#[test]
fn the_metrics_of_the_guide_are_those_that_are_told() {
    let guide = metrics_in(&read("docs/guide.md"));
    let log = synced(100);
    run(log.path(), "pins DIR add a 1 --limit 1MiB").done();
    let printed = run(log.path(), "stat DIR --format prometheus").done();
    let samples = printed.lines().into_iter().filter(|line| !line.starts_with('#'));
    let mut told: BTreeSet<String> = samples.flat_map(|line| metrics_in(line.split('{').next().unwrap())).collect();
    assert!(told.remove("mapwal_sync_seconds_count"), "it belongs to the one without the ending");
    // `tests/it/write/metered.rs` compares these with what a recorder gets.
    let documented = read("src/log/mod.rs");
    let (_, documented) = documented.split_once("/// # Metrics\n").unwrap();
    told.extend(metrics_in(documented.split("/// # Example").next().unwrap()));
    assert_eq!(guide, told);
}

#[test]
fn the_rules_for_alerts_are_about_metrics_that_are_told() {
    let (rules, guide) = (read("docs/mapwal.rules.yml"), metrics_in(&read("docs/guide.md")));
    let alerts: Vec<&str> = rules.split("      - alert: ").skip(1).collect();
    assert!(alerts.len() >= 8, "{}", alerts.len());
    for alert in alerts {
        let value = |key: &str| {
            let mut lines = alert.lines().filter_map(|line| line.trim_start().strip_prefix(key));
            lines.next().map(str::trim).unwrap_or_default()
        };
        // Of a histogram.
        let named = metrics_in(&value("expr:").replace("_bucket[", "["));
        assert!(named.is_subset(&guide), "{named:?}");
        assert!(!named.is_empty() || value("expr:").contains("node_textfile_mtime_seconds"), "{alert}");
        assert!(value("annotations:").starts_with("{summary: \"") && value("annotations:").ends_with("\"}"), "{alert}");
    }
}

#[test]
fn every_kind_of_damage_is_in_the_guide() {
    let (guide, damage) = (read("docs/guide.md"), read("src/error/damage.rs"));
    let (_, kinds) = damage.split_once("pub enum Damage {").unwrap();
    let messages: Vec<&str> = kinds.split("#[error(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(messages.len() > 15, "{messages:?}");
    for message in messages {
        let mut told = String::new();
        for part in message.split('{') {
            told.push_str(part.split_once('}').map_or(part, |(_, after)| after));
            told.push('…');
        }
        let told = told.trim_end_matches('…');
        let told = if message.ends_with('}') { format!("{told}…") } else { told.to_owned() };
        assert!(quoted(&guide).any(|text| text == told), "{told} is not in the guide");
    }
}

#[test]
fn a_command_that_fails_is_noticed() {
    let root = scratch();
    let fails = |line: &str| std::panic::catch_unwind(|| run_line(line, root.path())).is_err();
    assert!(!fails("mapwal verify /var/lib/app/log 2> /dev/null # exit code 4"));
    assert!(fails("mapwal verify /var/lib/app/log"));
    assert!(fails("mapwal --version # exit code 1"));
    assert_eq!(blocks("a\n```sh\nb\n```\n```text\nc\n```\nd ```sh\ne\n```"), [("a\n", "b\n"), ("\nd ", "e\n")]);
}
