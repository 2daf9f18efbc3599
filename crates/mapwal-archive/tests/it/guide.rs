//! The commands of the guide, as they are written there.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::logs::reader;

const PROGRAM: &str = env!("CARGO_BIN_EXE_mapwal-archive");

/// The first commands of the guide, without those that install.
fn commands() -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide-archive.md");
    let guide = fs::read_to_string(guide).unwrap();
    let (_, block) = guide.split_once("```sh\n").expect("a block of commands");
    let (block, _) = block.split_once("```").expect("its end");
    let (installs, rest): (Vec<_>, Vec<_>) = block.lines().partition(|line| line.starts_with("cargo install"));
    assert_eq!(installs.len(), 2);
    rest.join("\n")
}

/// The program of the log is another package's: it is there if that one was built before, as `.ci/run` does.
#[test]
fn the_guide_leads_from_nothing_to_a_restored_log() {
    let programs = Path::new(PROGRAM).parent().unwrap();
    if !programs.join("mapwal").exists() {
        eprintln!("skipped: there is no {}", programs.join("mapwal").display());
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let here = scratch.path().to_str().unwrap();
    let commands =
        commands().replace("/tmp/app", &format!("{here}/app")).replace("/tmp/backup", &format!("{here}/backup"));
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("bash");
    // With jobs, as at a terminal.
    shell.args(["-emc", &commands]).env("PATH", format!("{}:{path}", programs.display())).stdin(Stdio::null());
    let ran = shell.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}{err}");
    let listed = out.lines().find(|line| line.contains("1..200000"));
    assert!(listed.is_some(), "{out}{err}");
    let dumped = out.lines().rev().take(2).collect::<Vec<_>>();
    assert!(dumped[0].contains("200000") && dumped[1].contains("199999"), "{out}");
    assert_eq!(reader(&scratch.path().join("app/log")).published_lsn().unwrap().0, 200_000);
}
