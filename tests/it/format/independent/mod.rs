//! `contrib/read_mapwal.py` shares nothing with the library but the page on the format. Logs in every state are changed at random;
//! both must say the same of each: which records there are, and whether the log is sound, torn, damaged or none to be read.

mod mutations;
mod python;
mod specimens;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mapwal::Error;
use mapwal::inspect::{Inspection, VerifyOptions};
use parking_lot::Mutex;

use crate::support::read_only;
use crate::support::scratch::scratch;
use python::{Answer, Python};
use specimens::Files;

const LOGS: usize = 1_000;
const WORKERS: usize = 2;
const SEED: u64 = 0x5eed;
/// Disagreements shown.
const SHOWN: usize = 40;

#[test]
fn another_reader_agrees_about_mutated_logs() {
    if !Python::is_there() {
        eprintln!("SKIPPED: there is no python3");
        return;
    }
    let specimens = specimens::all();
    let logs = std::env::var("MUTATED_LOGS").map_or(LOGS, |logs| logs.parse().expect("a number"));
    let (disagreements, verdicts) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::<String, usize>::new()));
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (specimens, disagreements, verdicts) = (&specimens, &disagreements, &verdicts);
            scope.spawn(move || {
                let (dir, mut python) = (scratch(), Python::start());
                for case in (worker..logs).step_by(WORKERS) {
                    let mut random = fastrand::Rng::with_seed(SEED + case as u64);
                    let specimen = &specimens[case % specimens.len()];
                    let mut files = specimen.files.clone();
                    // The first of each kind are left as they are.
                    let done = if case < specimens.len() {
                        Vec::new()
                    } else {
                        mutations::apply(&mut random, &mut files, specimen)
                    };
                    lay_out(dir.path(), &files);
                    let (ours, mut theirs) = (library(dir.path()), python.ask(dir.path()));
                    theirs.digest = theirs.digest.filter(|_| ours.digest.is_some());
                    *verdicts.lock().entry(ours.verdict.clone()).or_default() += 1;
                    if ours != theirs {
                        let kept = keep(case, &files);
                        let text =
                            format!("{}, {} {done:?}: {ours:?}, python: {theirs:?}", kept.display(), specimen.name);
                        disagreements.lock().push(text);
                    }
                }
            });
        }
    });
    let (disagreements, verdicts) = (disagreements.into_inner(), verdicts.into_inner());
    eprintln!("{logs} logs: {verdicts:?}");
    let shown: Vec<&String> = disagreements.iter().take(SHOWN).collect();
    assert!(disagreements.is_empty(), "{} of {logs} logs, among them {shown:#?}", disagreements.len());
    assert!(logs < LOGS || verdicts.values().all(|&count| count > logs / 100) && verdicts.len() >= 4, "{verdicts:?}");
}

/// Keeps the files of a log on which the two disagree.
fn keep(case: usize, files: &Files) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("mapwal-disagreement-{case}"));
    fs::create_dir_all(&directory).unwrap();
    lay_out(&directory, files);
    directory
}

fn lay_out(directory: &Path, files: &Files) {
    for entry in fs::read_dir(directory).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes).unwrap();
    }
}

/// What the library says.
fn library(directory: &Path) -> Answer {
    let refused = Answer { verdict: "refused".to_owned(), records: 0, digest: None };
    let inspection = match Inspection::open(directory) {
        Err(Error::Io { source, .. }) => panic!("{source}"),
        Err(Error::Corrupt(_)) => return Answer { verdict: "damaged".to_owned(), ..refused },
        Err(_) => return refused,
        Ok(inspection) => inspection,
    };
    let report = match inspection.verify(VerifyOptions::default(), &mut |_| {}) {
        Err(error) => return Answer { verdict: format!("no verdict: {error}"), ..refused },
        Ok(report) => report,
    };
    let records = report.records();
    if !report.damage.is_empty() {
        return Answer { verdict: "damaged".to_owned(), records, digest: None };
    }
    let verdict = match (report.torn_bytes(), report.closed) {
        (0, true) => "sound, closed",
        (0, false) => "sound",
        (_, true) => "torn, closed",
        (_, false) => "torn",
    };
    Answer { verdict: verdict.to_owned(), records, digest: digest(directory).ok() }
}

/// Of the records that a reader hands out. It refuses a torn end at which a link contradicts the segment before.
fn digest(directory: &Path) -> mapwal::Result<u32> {
    let mut sum = crc32fast::Hasher::new();
    let snapshot = read_only(directory).and_then(|reader| reader.snapshot())?;
    for record in &snapshot {
        let record = record?;
        sum.update(&record.lsn().0.to_le_bytes());
        sum.update(&record.tag().to_le_bytes());
        sum.update(&u32::try_from(record.payload().len()).unwrap().to_le_bytes());
        sum.update(record.payload());
    }
    Ok(sum.finalize())
}
