//! Commands beside a writer that trims all the time: none fails because the log begins later than a moment ago.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mapwal::{Log, Lsn, Options};

use crate::logs::{closed, scratch};
use crate::program::{Ran, run};

/// Runs `commands` again and again, beside a log whose segments live for a few milliseconds each.
fn beside_a_trimming_writer(mut commands: impl FnMut(&Path)) {
    let dir = scratch();
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(64 << 10)) }.unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let lsn = log.append(1, &[7; 900]).unwrap();
                if lsn.0.is_multiple_of(20) {
                    log.trim_before(Lsn(lsn.0.saturating_sub(600).max(1))).unwrap();
                    // No command reads what is there for less than the time that it takes to open it.
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        });
        // Ends the writer also when a command fails.
        let _ends = Ends(&is_over);
        while log.first_lsn() == Lsn(1) {
            std::thread::yield_now();
        }
        let began = Instant::now();
        let mut rounds = 0;
        while rounds < 15 || began.elapsed() < Duration::from_secs(3) {
            commands(dir.path());
            rounds += 1;
        }
    });
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The numbers of the records that were printed, in a row.
fn printed(ran: &Ran) -> Vec<u64> {
    let number = |line: &&str| line.split('\t').next().unwrap().parse().unwrap();
    let numbers: Vec<u64> = ran.lines().iter().map(number).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap");
    numbers
}

#[test]
fn stat_tells_how_a_log_is_that_is_trimmed() {
    beside_a_trimming_writer(|log| drop(run(log, "stat DIR").done()));
}

#[test]
fn salvage_copies_what_is_trimmed_meanwhile() {
    beside_a_trimming_writer(|log| {
        let out = scratch();
        let ran = run(log, &format!("salvage DIR {}", out.path().display())).done();
        assert!(!ran.text().contains("lost"), "{}", ran.text());
        assert!(!printed(&run(out.path(), "dump DIR").done()).is_empty());
    });
}

#[test]
fn what_dump_prints_of_a_log_that_is_trimmed_has_no_gap() {
    beside_a_trimming_writer(|log| {
        let ran = run(log, "dump DIR");
        assert!(!printed(&ran).is_empty(), "{}", ran.err);
        assert!(ran.code == 0 || ran.code == 4 && ran.err.contains("has been trimmed"), "{}: {}", ran.code, ran.err);
    });
}

#[test]
fn a_pin_of_the_oldest_record_or_of_the_next_one_loses_no_race() {
    beside_a_trimming_writer(|log| {
        for from in ["oldest", "now"] {
            let ran = run(log, &format!("pins DIR add mine {from}")).done();
            let kept: u64 = ran.text().split(' ').nth(4).unwrap().parse().unwrap();
            let ran = run(log, &format!("dump DIR --from {kept} --to {kept}")).done();
            assert!(from == "now" || printed(&ran) == [kept], "{kept}");
            run(log, "pins DIR drop mine").done();
        }
    });
    let log = closed(600);
    assert!(run(log.path(), "pins DIR add first oldest").done().text().starts_with("first keeps records from 1 on"));
    assert!(run(log.path(), "pins DIR add next now").done().text().starts_with("next keeps records from 601 on"));
}

/// How many records of the writer's a full segment holds.
fn records_of_a_segment() -> u64 {
    let dir = scratch();
    // SAFETY: the directory is one of this test.
    let log = unsafe { Log::open(dir.path(), &Options::new().segment_size_bytes(64 << 10)) }.unwrap();
    for _ in 0..100 {
        log.append(1, &[7; 900]).unwrap();
    }
    log.close().unwrap();
    let listed: serde_json::Value =
        serde_json::from_str(run(dir.path(), "segments DIR --format json").done().text()).unwrap();
    listed["segments"][0]["next_lsn"].as_u64().unwrap() - 1
}

#[test]
fn what_stat_tells_of_a_log_that_is_trimmed_is_of_one_moment() {
    let full = records_of_a_segment();
    beside_a_trimming_writer(|log| {
        let ran = run(log, "stat DIR --format json").done();
        let stat: serde_json::Value = serde_json::from_str(ran.text()).unwrap();
        let sum = |list: &serde_json::Value, of: &str| -> u64 {
            list.as_array().unwrap().iter().map(|each| each[of].as_u64().unwrap()).sum()
        };
        let there = stat["next_lsn"].as_u64().unwrap() - stat["first_lsn"].as_u64().unwrap();
        assert_eq!(sum(&stat["record_sizes"], "records"), there, "{stat}");
        assert_eq!(stat["payload_bytes"], there * 900, "{stat}");
        // All segments but the newest are full.
        let segments = stat["segments"].as_u64().unwrap();
        assert!((full * (segments - 1)..=full * segments).contains(&there), "{full} in each: {stat}");
        assert_eq!(stat["disk_bytes"], sum(&stat["size"]["parts"], "bytes"), "{stat}");
    });
}
