//! What a command has told, without what differs each time.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::documents::check_document;
use crate::program::Ran;

/// What a program prints first that goes on until it is told to end.
pub(crate) fn once(program: &mut Command) -> Ran {
    let mut child = program.spawn().unwrap();
    let mut first = Vec::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    // What was told is whole: it is written at once.
    let is_told = |text: &[u8]| text.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"payload "));
    while !is_told(&first) && output.read_until(b'\n', &mut first).unwrap() > 0 {}
    // It may have ended by itself.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT);
    output.read_to_end(&mut first).unwrap();
    let ended = child.wait_with_output().unwrap();
    Ran::new(Output { stdout: first, ..ended })
}

/// What is printed for machines.
pub(crate) fn document(ran: &Ran) -> Value {
    serde_json::from_str(ran.text()).unwrap_or(Value::Null)
}

/// There is one document, of the kind that the schema has, wherever there is something to be said of a log.
pub(crate) fn check_documents(command: &str, ran: &Ran) {
    if let Some(name) = command.strip_suffix(" json") {
        match ran.lines()[..] {
            [] => assert_eq!(ran.code, 4, "{command}: {}", ran.err),
            [line] => {
                let document: Value = serde_json::from_str(line).unwrap();
                check_document(&document);
                let damage = document["damage"].as_array().map_or(0, Vec::len);
                assert_eq!(ran.code == 2, damage > 0, "{command}: {line}");
                assert!(
                    document["kind"] == name || ran.code == 2 && document["kind"] == "damaged",
                    "{command}: {line}"
                );
            }
            _ => panic!("{command}: {}", ran.text()),
        }
    }
}

/// The number of records that a line for people speaks of.
pub(crate) fn told_records(line: Option<&str>) -> Option<u64> {
    let words: Vec<&str> = line?.split_whitespace().collect();
    let at = words.iter().position(|word| word.starts_with("record"))?;
    let number = if at == 0 { words[1] } else { words[at - 1] };
    number.replace(',', "").parse().ok()
}

/// The number of records that two logs have in common.
pub(crate) fn both(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let at = words.windows(3).position(|words| words[0].starts_with("record") && words[1..] == ["in", "both,"])?;
    words[at - 1].replace(',', "").parse().ok()
}

/// What people are told, without what differs each time.
pub(crate) fn told(command: &str, ran: &Ran, log: &Path, (out, reference): (&Path, &Path)) -> Vec<String> {
    let printed = match command {
        "dump" | "dump --from" | "tail" | "tail --durable" | "append" | "pins" | "stat prometheus" => Vec::new(),
        _ if command.ends_with(" json") => Vec::new(),
        // A writer that is killed may leave the file of its next segment before that is one.
        "segments" => {
            ran.lines().into_iter().filter(|line| !line.starts_with(' ') && !line.contains(" kept for ")).collect()
        }
        "verify" | "meta" => ran.lines().into_iter().filter(|line| !line.starts_with(' ')).collect(),
        "stat" | "stat --watch" => {
            ran.lines().into_iter().filter(|line| line.starts_with("records") || line.starts_with("durable")).collect()
        }
        "pins add" => Vec::new(),
        _ => ran.lines(),
    };
    let lines = ran.err.lines().chain(printed);
    lines
        .map(|line| line.replace(out.to_str().unwrap(), "OUT").replace(reference.to_str().unwrap(), "REF"))
        .map(|line| stable(&line.replace(log.to_str().unwrap(), "LOG")))
        .collect()
}

/// Without identities, checksums and numbers of processes.
pub(crate) fn stable(line: &str) -> String {
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for at in 0..words.len() {
        let word = &words[at];
        let digits = word.trim_start_matches("0x").trim_end_matches([',', ';', ':']);
        let is_hex = word.starts_with("0x") || digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
        // Spares are prepared when their thread comes to it.
        let is_count =
            words.get(at + 1).is_some_and(|next| next.starts_with("segment")) && at > 0 && words[at - 1] == "in";
        let is_process = at > 0 && words[at - 1] == "process" && digits.chars().all(|c| c.is_ascii_digit());
        if is_hex || is_process || is_count {
            words[at] = word.replace(digits, "…").replace("0x", "");
        }
        if is_count {
            words[at + 1] = words[at + 1].replace("segments", "segment").replace("segment", "segments");
        }
    }
    words.join(" ").trim_end().to_owned()
}
