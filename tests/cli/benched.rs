//! `mapwal bench`: figures of the user's own disk, and nothing left on it.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::logs::{closed, damaged, scratch, segments, write_at};
use crate::program::{Running, run};
use crate::wait;

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn each_row_of_a_log_has_its_limits_beside_it_and_nothing_is_left() {
    let disk = scratch();
    let ran = run(disk.path(), "bench DIR --seconds 1 --format json").done();
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    crate::documents::check_document(&report);
    assert_eq!((&report["kind"], &report["version"]), (&"bench".into(), &1.into()));
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|name| row[name].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{row}");
        assert!(row["syncs_per_second"].as_f64().unwrap() > 0.0 && row["bytes_per_second"].as_f64().unwrap() > 0.0);
        let has_limit =
            rows.iter().any(|other| other["kind"] == "overwrite" && other["sync_bytes"] == row["sync_bytes"]);
        assert!(has_limit, "{row}");
    }
    assert!(is_empty(disk.path()));
}

#[test]
fn memory_is_not_taken_for_a_disk() {
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        eprintln!("skipped: there is no /dev/shm");
        return;
    }
    let disk = tempfile::tempdir_in(memory).unwrap();
    let ran = run(disk.path(), "bench DIR --seconds 1").done();
    assert!(ran.text().contains("in memory: nothing on it survives a loss of power"), "{}", ran.text());
}

#[test]
fn a_bench_that_is_ended_early_says_so_and_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let disk = scratch();
        let mut bench = Running::start(disk.path(), "bench DIR --seconds 600");
        wait::until("it begins", || !is_empty(disk.path()));
        bench.signal(signal);
        assert_eq!(bench.line(), None, "half of the figures are none");
        assert_eq!(bench.child.wait().unwrap().code(), Some(4), "{signal:?}");
        assert!(is_empty(disk.path()), "{signal:?}");
    }
}

#[test]
fn nothing_is_measured_among_the_files_of_a_log() {
    let log = closed(10);
    fs::create_dir_all(log.path().join("pins")).unwrap();
    let elsewhere = scratch();
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(log.path(), &link).unwrap();
    let before = fs::read_dir(log.path()).unwrap().count();
    for place in [log.path(), &log.path().join("pins"), &link, &link.join("pins/..")] {
        let ran = run(place, "bench DIR --seconds 1");
        assert_eq!(ran.code, 4, "{}", place.display());
        assert!(ran.err.starts_with("mapwal: refused: there is a log in "), "{}: {}", place.display(), ran.err);
    }
    assert_eq!(fs::read_dir(log.path()).unwrap().count(), before);
    // One that cannot be opened is one as well.
    let spoilt = damaged(600);
    write_at(&segments(spoilt.path())[0], 20, &[1]);
    assert_eq!(run(spoilt.path(), "bench DIR --seconds 1").code, 4);
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let disk = scratch();
    let missing = disk.path().join("missing");
    assert_eq!(run(&missing, "bench DIR --seconds 1").code, 4);
    assert!(!missing.exists());
}
