//! Every command on a log in every state: exit code, and what is told, in `docs/states.md`.
//!
//! What the page says is what the program does; a change is written with `SNAPSHOTS=overwrite`, and is to be read then. The
//! promises are checked beside it, so that no page that breaks them is accepted.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use snapbox::{IntoData, assert_data_eq, file};

use crate::heard::{both, check_documents, document, once, told, told_records};
use crate::logs::{copy, scratch};
use crate::program::{ran_with_input, run, start};
use crate::states::{self, Health, Log, State};

/// By name, and by the words around the directory. One that changes a log is the last that a live one is given to.
const COMMANDS: [(&str, &str); 19] = [
    ("dump", "dump DIR"),
    ("dump --from", "dump DIR --from 1190"),
    ("verify", "verify DIR"),
    ("tail", "tail DIR --no-follow"),
    ("tail --durable", "tail DIR --no-follow --durable"),
    ("stat", "stat DIR"),
    ("stat prometheus", "stat DIR --format prometheus"),
    ("segments", "segments DIR"),
    ("meta", "meta DIR"),
    ("pins", "pins DIR"),
    ("pins add", "pins DIR add p 1000"),
    ("pins drop", "pins DIR drop p"),
    ("backup", "backup DIR OUT"),
    ("salvage", "salvage DIR OUT"),
    ("diff", "diff DIR REF"),
    ("repair", "repair DIR"),
    ("repair --apply", "repair DIR --apply"),
    ("append", "append DIR"),
    ("trim", "trim DIR --keep-records 100"),
];

/// The same for machines, and what is used less. They come before those of the first table.
const MORE: [(&str, &str); 11] = [
    ("stat json", "stat DIR --format json"),
    ("verify json", "verify DIR --format json"),
    ("segments json", "segments DIR --format json"),
    ("meta json", "meta DIR --format json"),
    ("pins json", "pins DIR --format json"),
    ("stat --watch", "stat DIR --watch"),
    ("pins advance", "pins DIR advance p 1000"),
    ("backup json", "backup DIR OUT --format json"),
    ("salvage --renumber", "salvage DIR OUT --renumber"),
    ("repair --undo", "repair DIR --undo"),
    ("bench", "bench DIR --seconds 1"),
];

/// The first record that `dump --from` is asked for.
const FROM: u64 = 1190;

/// What is above the table.
const HEAD: &str = "\
# Every command on every state of a log

Written by `tests/cli/matrix.rs`, which runs them. The logs have 1200 records in four segments of 64 KiB, but for some: those with a
torn end have 99. The codes are those of `mapwal --help`: 0 done, 1 torn, or different, 2 damaged, 3 with records lost, 4 not
carried out. Where a command has printed, compared or copied records, their number follows the code.

No command ends with 0 and less than what is there. `append`, `pins`, `trim`, `segments`, `meta` and `stat --format prometheus` are
about the ends of a log: they do not look at all records, and those that write open a log that is damaged in the middle of a
segment. What keeps a log from being opened, `segments`, `meta` and `stat` tell as damage. Where nothing that is left of a log says that records are
missing, no command can; such states are marked with a star.

The second table has the commands for machines, whose documents are those of `docs/mapwal.schema.json` and whose codes are those of the first
table, and those that are used less. `bench` is not run where there is no log: it measures there.

";

/// One command on one state.
struct Cell {
    command: &'static str,
    code: i32,
    /// Records printed or copied.
    records: Option<u64>,
    told: Vec<String>,
}

#[test]
fn every_command_does_what_the_page_says_on_every_state() {
    let states = states::all();
    let reference = reference(&states);
    let rows = rows(&states, reference);
    let broken_in = |(state, row): (&State, &Vec<Cell>)| -> Vec<String> {
        row.iter().filter_map(|cell| broken(state, cell)).chain(untold(state, row)).chain(unlike(state, row)).collect()
    };
    let broken: Vec<String> = states.iter().zip(&rows).flat_map(broken_in).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    match states::unmade(&states) {
        unmade if unmade.is_empty() => assert_data_eq!(page(&states, &rows), file!["../../docs/states.md"].raw()),
        // Where this process may not mount anything, the rest of the page is compared.
        unmade => {
            let expected = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/states.md")).unwrap();
            assert_data_eq!(page(&states, &rows), without(&expected, &unmade).raw());
        }
    }
    for (name, log) in states.into_iter().map(|state| (state.name, state.log)) {
        if let Log::Live(_, mut writer, follower) = log {
            writer.say("still there");
            assert_eq!(writer.line().as_deref(), Some("1201"), "{name}: the writer has not been disturbed");
            if let Some(mut follower) = follower {
                let last = std::iter::from_fn(|| follower.line()).find(|line| line.starts_with("1201\t"));
                assert!(last.is_some(), "{name}: nor has the follower");
            }
        }
    }
}

/// The log that others are compared with.
fn reference(states: &[State]) -> &Path {
    let closed = states.iter().find(|state| state.name == "closed").unwrap();
    let Log::Copied(log) = &closed.log else { panic!("it is copied") };
    // Others compare theirs with it.
    states::let_read(log.path());
    log.path()
}

/// A page without these states.
fn without(page: &str, unmade: &[&str]) -> String {
    let (table, told) = page.split_once("\n## What is told\n").unwrap();
    let is_of = |line: &str, name: &&str| line.starts_with(&format!("| {name} |"));
    let rows: Vec<&str> = table.lines().filter(|line| !unmade.iter().any(|name| is_of(line, name))).collect();
    let sections =
        told.split("\n### ").filter(|section| !unmade.iter().any(|name| section.starts_with(&format!("{name}\n"))));
    format!("{}\n\n## What is told\n{}", rows.join("\n"), sections.collect::<Vec<_>>().join("\n### "))
}

/// A promise that the command does not keep: none ends with 0 and less than what is there, or of a log that has lost something.
fn broken(state: &State, cell: &Cell) -> Option<String> {
    let (command, code, records, health) = (cell.command, cell.code, cell.records, state.health);
    let from = if command == "dump --from" { FROM } else { 0 };
    let there = state.there.iter().filter(|&&number| number >= from).count() as u64;
    let wanted = (FROM..=states::RECORDS).count() as u64;
    // Nothing was durable of what a torn end leaves.
    let there = if command == "tail --durable" && state.name.starts_with("torn ") { 0 } else { there };
    // Parts of a batch are saved as well, and a torn end is no damage.
    let is_part_saved = command.starts_with("salvage") && state.name == "torn batch";
    let there = there + if is_part_saved { 2 } else { 0 };
    let copies = ["backup", "backup json", "salvage", "salvage --renumber", "repair --apply"].contains(&command);
    let reads = [
        "dump",
        "dump --from",
        "tail",
        "tail --durable",
        "stat",
        "stat json",
        "stat --watch",
        "verify",
        "verify json",
        "diff",
    ]
    .contains(&command)
        || copies;
    let has_all = health != Health::Damaged || records == Some(if from > 0 { wanted } else { states::RECORDS });
    let is_served = match command {
        "verify" | "verify json" => code <= 1,
        // A record that is not even the next one is none to begin with.
        "dump --from" => code == 0 || state.there.last().is_none_or(|&last| last + 1 < FROM),
        // Without a control page nobody says what is durable.
        "tail --durable" => [0, 4].contains(&code),
        // There is nothing to copy.
        "backup" | "backup json" | "salvage" | "salvage --renumber" => code == 0 || there == 0,
        // It differs from the one that it is compared with.
        "diff" => code <= 1,
        // Nothing that cannot be written, or is, can be repaired; nor need it be.
        "repair --apply" => code == 0 || code == 4,
        _ => code == 0,
    };
    let is_saved = match command {
        "salvage" | "salvage --renumber" => records == Some(there),
        // One that is being written is left alone.
        "repair --apply" => records.map_or(health == Health::Well, |records| records == there),
        _ => true,
    };
    let why = if reads && code == 0 && health != Health::None && records != Some(there) {
        format!("{records:?} records of {there}")
    } else if reads && code == 0 && !has_all {
        "nothing is said of what is lost".to_owned()
    } else if reads && health == Health::Well && !is_served {
        "refused".to_owned()
    } else if command.starts_with("verify") && health == Health::Damaged && ![2, 4].contains(&code) {
        "what is lost is no damage".to_owned()
    } else if there > 0 && !is_saved {
        format!("{records:?} records saved of {there}")
    } else if ![0, 1].contains(&code) && cell.told.is_empty() && !(command.ends_with(" json") && code == 2) {
        "nothing is told".to_owned()
    } else {
        return None;
    };
    Some(format!("{command} of {}: {code}: {why}: {}", state.name, cell.told.join("; ")))
}

/// What is damage to a writer, and not to a command that looks at the ends of the log.
fn untold(state: &State, row: &[Cell]) -> Option<String> {
    let code = |command: &str| row.iter().find(|cell| cell.command == command).unwrap().code;
    let looks = ["stat prometheus", "segments", "meta"];
    let silent = looks.into_iter().find(|look| code("append") == 2 && code(look) != 2);
    silent.map(|command| format!("{command} of {}: {}, and a writer finds damage", state.name, code(command)))
}

/// A command for machines that ends in another way than the one for people.
fn unlike(state: &State, row: &[Cell]) -> Option<String> {
    let code = |command: &str| row.iter().find(|cell| cell.command == command).unwrap().code;
    let differs = |&(json, _): &(&'static str, &str)| {
        let text = json.strip_suffix(" json").or_else(|| json.strip_suffix(" --watch"))?;
        (code(json) != code(text)).then(|| format!("{json} of {}: {}, and not {}", state.name, code(json), code(text)))
    };
    MORE.iter().find_map(differs)
}

/// Several states at a time: most of each command is waiting.
fn rows(states: &[State], reference: &Path) -> Vec<Vec<Cell>> {
    let next = AtomicUsize::new(0);
    let rows: Vec<OnceLock<Vec<Cell>>> = states.iter().map(|_| OnceLock::new()).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((state, cells)) = claim(&next, states, &rows) {
                    assert!(cells.set(row(state, reference)).is_ok(), "each is taken once");
                }
            });
        }
    });
    rows.into_iter().map(|row| row.into_inner().unwrap()).collect()
}

/// The next state, and the place for what comes of it.
fn claim<'a, C>(next: &AtomicUsize, states: &'a [State], rows: &'a [C]) -> Option<(&'a State, &'a C)> {
    let at = next.fetch_add(1, Relaxed);
    states.get(at).zip(rows.get(at))
}

fn row(state: &State, reference: &Path) -> Vec<Cell> {
    // It measures where it finds no log.
    let is_log = state.health != Health::None && (state.health != Health::Unnoticed || !state.there.is_empty());
    let all = MORE.iter().filter(|(command, _)| *command != "bench" || is_log).chain(&COMMANDS);
    all.map(|&(command, words)| cell(&state.log, command, words, reference)).collect()
}

fn cell(log: &Log, command: &'static str, words: &str, reference: &Path) -> Cell {
    let out = scratch();
    let words = words.replace("OUT", out.path().to_str().unwrap()).replace("REF", reference.to_str().unwrap());
    let on = |directory: &Path| {
        if command == "pins drop" || command == "pins advance" {
            // Whether that works is shown beside.
            run(directory, "pins DIR add p 1");
        }
        let mut program = start(directory, &words);
        if let Log::OfAnother(_, is_readable) = log {
            program.uid(states::OTHER_USER).gid(states::OTHER_USER);
            std::os::unix::fs::chown(out.path(), Some(states::OTHER_USER), None).unwrap();
            if *is_readable {
                states::let_read(directory);
            }
        }
        let ran = if command == "stat --watch" { once(&mut program) } else { ran_with_input(&mut program, b"more\n") };
        if command == "pins advance" {
            run(directory, "pins DIR drop p");
        }
        check_documents(command, &ran);
        let records = match (command, ran.code) {
            ("dump" | "dump --from" | "tail" | "tail --durable", _) => Some(ran.lines().len() as u64),
            ("verify", 0 | 1) => told_records(ran.text().lines().last()),
            ("verify json", 0 | 1) | ("stat json", 0) => document(&ran)["records"].as_u64(),
            ("stat" | "stat --watch", 0) => told_records(ran.text().lines().nth(3)),
            ("diff", 0 | 1) => both(ran.text()),
            ("repair --apply", 0 | 2 | 3) => Some(run(directory, "dump DIR"))
                .filter(|dumped| dumped.code == 0)
                .map(|dumped| dumped.lines().len() as u64),
            ("backup" | "backup json" | "salvage" | "salvage --renumber", 0 | 3) => {
                Some(run(out.path(), "dump DIR").done().lines().len() as u64)
            }
            // One that is complete.
            ("backup" | "backup json", 2) => Some(run(out.path(), "dump DIR"))
                .filter(|dumped| dumped.code == 0)
                .map(|dumped| dumped.lines().len() as u64),
            _ => None,
        };
        let mut told = told(command, &ran, directory, (out.path(), reference));
        if command == "trim" && matches!(log, Log::Live(..)) {
            // How much of it is freed depends on how far the follower has read.
            told.iter_mut().for_each(|line| line.truncate(line.find(',').unwrap_or(line.len())));
        }
        Cell { command, code: ran.code, records, told }
    };
    match log {
        Log::Copied(log) => on(copy(log.path()).path()),
        Log::Live(log, ..) => on(log.path()),
        Log::Mounted(_, mounted) => on(mounted.path()),
        Log::OfAnother(log, is_readable) => on(states::of_another(log.path(), *is_readable).path()),
        Log::Full(log) => on(states::on_full_disk(log.path()).path()),
        Log::Missing => on(&scratch().path().join("log")),
        Log::File(parent) => on(&copy(parent.path()).path().join("log")),
    }
}

fn page(states: &[State], rows: &[Vec<Cell>]) -> String {
    let mut page = HEAD.to_owned();
    for table in [&COMMANDS[..], &MORE[..]] {
        let names: Vec<&str> = table.iter().map(|&(name, _)| name).collect();
        writeln!(page, "| | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len())).unwrap();
        for (state, row) in states.iter().zip(rows) {
            let star = if state.health == Health::Unnoticed { " \\*" } else { "" };
            let cell =
                |name: &&str| row.iter().find(|cell| cell.command == *name).map_or("–".to_owned(), Cell::to_string);
            let cells: Vec<String> = names.iter().map(cell).collect();
            writeln!(page, "| {}{star} | {} |", state.name, cells.join(" | ")).unwrap();
        }
        page.push('\n');
    }
    page.pop();
    page.push_str("\n## What is told\n");
    for (state, row) in states.iter().zip(rows) {
        writeln!(page, "\n### {}\n\n```text", state.name).unwrap();
        for (commands, told) in grouped(row) {
            writeln!(page, "{}:\n    {}", commands.join(", "), told.join("\n    ")).unwrap();
        }
        page.push_str("```\n");
    }
    page
}

/// What is told, and the commands that tell it.
fn grouped(row: &[Cell]) -> Vec<(Vec<&str>, &[String])> {
    let mut groups: Vec<(Vec<&str>, &[String])> = Vec::new();
    for cell in row.iter().filter(|cell| !cell.told.is_empty()) {
        match groups.iter_mut().find(|(_, told)| *told == cell.told) {
            Some((commands, _)) => commands.push(cell.command),
            None => groups.push((vec![cell.command], &cell.told)),
        }
    }
    groups
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.records {
            Some(records) => write!(f, "{}: {records}", self.code),
            None => write!(f, "{}", self.code),
        }
    }
}
