//! `mapwal bench`: figures of the user's own disk, and nothing left on it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::logs::scratch;
use crate::program::{Running, run};

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn each_row_of_a_log_has_its_limits_beside_it_and_nothing_is_left() {
    let disk = scratch();
    let ran = run(disk.path(), "bench DIR --seconds 1 --format json").done();
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!(report["version"], 1);
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
fn an_interrupted_bench_says_so_and_leaves_nothing() {
    let disk = scratch();
    let mut bench = Running::start(disk.path(), "bench DIR --seconds 600");
    let begin = Instant::now();
    while is_empty(disk.path()) {
        assert!(begin.elapsed() < Duration::from_secs(60), "it has not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    bench.interrupt();
    assert_eq!(bench.line(), None, "half of the figures are none");
    assert_eq!(bench.child.wait().unwrap().code(), Some(4));
    assert!(is_empty(disk.path()));
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let disk = scratch();
    let missing = disk.path().join("missing");
    assert_eq!(run(&missing, "bench DIR --seconds 1").code, 4);
    assert!(!missing.exists());
}
