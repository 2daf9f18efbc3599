//! A writer is killed again and again, at any moment: what it has printed is in the log.

use std::fs;
use std::time::Duration;

use crate::logs::scratch;
use crate::program::{Running, run};

const KILLS: u64 = 100;
/// More than are appended before the kill.
const LINES: u64 = 20_000;
const SEED: u64 = 0x6b69_6c6c;

#[test]
fn every_number_that_was_printed_before_a_kill_is_in_the_log_with_its_bytes() {
    let log = scratch();
    let input = scratch();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut kept = 0;
    for round in 0..KILLS {
        let line = |number: usize| format!("{round}-{number}-{}", "x".repeat(number % 200));
        let file = input.path().join("lines");
        fs::write(&file, (0..LINES as usize).map(|number| line(number) + "\n").collect::<String>()).unwrap();
        let command = format!("append DIR {} --sync each --segment-size 64KiB", file.display());
        let mut writer = Running::start(log.path(), &command);
        let mut printed: Vec<u64> = Vec::new();
        // Some are killed before they have printed anything, and some rotate first.
        let wanted = if random.u8(..).is_multiple_of(4) { 0 } else { random.usize(1..1200) };
        while printed.len() < wanted {
            printed.push(writer.line().unwrap().parse().unwrap());
        }
        std::thread::sleep(Duration::from_micros(random.u64(..4000)));
        writer.child.kill().unwrap();
        // What it had handed to the pipe was printed.
        while let Some(line) = writer.line() {
            printed.push(line.parse().unwrap());
        }
        assert!(printed.len() < LINES as usize, "it was killed before its end");
        let Some(&first) = printed.first() else { continue };
        assert!(first > kept, "round {round}: record {first} had been printed before");
        kept = *printed.last().unwrap();
        let dumped = run(log.path(), &format!("dump DIR --from {first} --to {kept}")).done();
        let expected: Vec<String> = printed
            .iter()
            .enumerate()
            .map(|(number, lsn)| format!("{lsn}\t0\t{}\t{}", line(number).len(), line(number)))
            .collect();
        assert_eq!(dumped.lines(), expected, "round {round} of seed {SEED}");
    }
    assert!(kept > 0);
    // The last kill may have torn a record that was not printed.
    let verified = run(log.path(), "verify DIR");
    assert!(matches!(verified.code, 0 | 1), "{}", verified.text());
}
