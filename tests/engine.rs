//! The example engine survives its kills, and its broken versions do not: `docs/design/engine-example.md`.

#[path = "../examples/engine/dirty_pages.rs"]
mod dirty_pages;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use dirty_pages::DirtyPages;
use mapwal::Lsn;
use mapwal::wal::{DirtyPage, PageId};

/// The example, which `cargo test` builds before it runs any test, unless it is told which targets to test.
fn engine() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let directory = test.parent().and_then(Path::parent).expect("tests are two directories below their profile's");
    let engine = directory.join("examples/engine").with_extension(std::env::consts::EXE_EXTENSION);
    // Not passed over: a test that did nothing would look like one that found nothing.
    assert!(engine.exists(), "no {}: run `cargo build --example engine` before", engine.display());
    engine
}

/// Whether the experiment succeeds, and what it prints.
fn run(options: &[&str]) -> (bool, String) {
    let output = Command::new(engine()).args(options).output().expect("the example starts");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).expect("text"))
}

fn assert_survives(options: &[&str]) {
    let (is_success, printed) = run(options);
    assert!(is_success, "{printed}");
    assert!(printed.lines().any(|line| line == "lost 0, resurrected 0"), "{printed}");
    let acknowledged = printed.lines().find_map(|line| line.strip_suffix(" commits were acknowledged"));
    let count = acknowledged.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count > 0), "{printed}");
}

/// The experiment ends at the first restart that shows another state than was acknowledged: another failure than an
/// engine that stops.
fn assert_is_caught(how: &str, expected: impl Fn(u64, u64) -> bool) {
    let (is_success, printed) = run(&["--kills", "8", "--break", how]);
    assert!(!is_success, "{printed}");
    let result = printed.lines().find_map(|line| line.strip_prefix("lost ")?.split_once(", resurrected "));
    let (lost, resurrected) = result.unwrap_or_else(|| panic!("no result: {printed}"));
    let count = |digits: &str| digits.parse().expect("a number");
    assert!(expected(count(lost), count(resurrected)), "{printed}");
}

#[test]
fn acknowledged_commits_and_nothing_else_survive_kills() {
    assert_survives(&["--kills", "6", "--seed", "1"]);
}

#[test]
fn acknowledged_commits_and_nothing_else_survive_the_loss_of_all_that_was_not_durable() {
    assert_survives(&["--kills", "6", "--seed", "3", "--power-loss"]);
}

#[test]
fn another_trace_can_be_given() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    let lines = "lsn,xid,resource_manager,record_type,record_length,relation,block\n\
                 0/10,1,heap,insert,60,9,0\n0/20,2,heap,insert,60,9,0\n0/30,1,heap,update,60,9,0\n\
                 0/40,0,xlog,checkpoint_online,100,,\n0/50,1,transaction,commit,34,,\n\
                 0/60,2,heap,delete,60,9,1\n0/70,2,transaction,abort,34,,\n0/80,0,gist,vacuum,50,9,3\n";
    file.write_all(lines.as_bytes()).expect("written");
    assert_survives(&["--kills", "2", "--trace", file.path().to_str().expect("a name in UTF-8")]);
}

#[test]
fn an_engine_without_undo_is_caught() {
    assert_is_caught("no-undo", |lost, resurrected| lost + resurrected > 0);
}

#[test]
fn a_redo_that_leaves_out_a_record_is_caught() {
    assert_is_caught("skip-redo", |lost, resurrected| lost + resurrected > 0);
}

#[test]
fn a_commit_that_is_acknowledged_before_it_is_durable_is_caught() {
    assert_is_caught("unsynced-commit", |lost, _| lost > 0);
}

fn entry(page: u64, lsn: u64) -> DirtyPage {
    DirtyPage::new(PageId(page), Some(Lsn(lsn)))
}

#[test]
fn a_page_is_clean_when_it_was_written_before_a_sync() {
    let mut pages = DirtyPages::default();
    pages.changed(7, Lsn(10));
    pages.changed(7, Lsn(11));
    assert!(pages.is_unwritten(7));
    assert_eq!(pages.list(), [entry(7, 10)]);
    pages.written(7);
    assert!(!pages.is_unwritten(7));
    assert_eq!(pages.list(), [entry(7, 10)], "a write alone may be lost");
    pages.sync_begins();
    pages.sync_ended();
    assert_eq!(pages.list(), []);
}

#[test]
fn a_page_that_is_written_while_a_sync_runs_stays_dirty() {
    let mut pages = DirtyPages::default();
    pages.changed(7, Lsn(10));
    pages.sync_begins();
    pages.written(7);
    pages.sync_ended();
    assert_eq!(pages.list(), [entry(7, 10)]);
    pages.sync_begins();
    pages.sync_ended();
    assert_eq!(pages.list(), []);
}

#[test]
fn a_page_that_is_changed_after_its_write_is_dirty_from_that_change_on() {
    let mut pages = DirtyPages::default();
    pages.changed(7, Lsn(10));
    pages.written(7);
    pages.sync_begins();
    pages.changed(7, Lsn(20));
    pages.sync_ended();
    assert_eq!(pages.list(), [entry(7, 20)]);
    assert_eq!(pages.unwritten_before(Lsn(20)), Vec::<u64>::new());
    assert_eq!(pages.unwritten_before(Lsn(21)), [7]);
}
