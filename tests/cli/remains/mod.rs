//! What `salvage`, `repair` and `verify` say of logs with one to three damages each, drawn by a seed, against what is known to be there.
//!
//! The promises are those of "What is there, and what is missing" in `docs/design/salvage.md`. What there was is read before the damage; what of it
//! is sound is found by comparing bytes with those from before, so nothing of the program decides it. `MAPWAL_CASES` has more cases tried,
//! `MAPWAL_SEED` begins with another one.

mod left;
mod original;
mod spoil;

use std::collections::BTreeSet;

use fastrand::Rng;
use mapwal::LogReader;
use tempfile::TempDir;

use crate::logs::{copy, scratch, segments};
use crate::program::{Ran, run};
use left::{Left, Listed};
use original::{Original, Records, originals, records};
use spoil::{spoil, spoil_as};

/// Cases that are tried without being asked for more.
const CASES: u64 = 100;

/// What is wrong with what is made of a damaged log.
fn judge(original: &Original, log: &TempDir) -> Vec<String> {
    let mut wrong = Vec::new();
    if segments(log.path()).is_empty() {
        return wrong;
    }
    let left = Left::find(original, log.path());
    let verified = run(log.path(), "verify DIR");
    let out = scratch();
    let salvaged = run(log.path(), &format!("salvage DIR {}", out.path().display()));
    let listed = Listed::of(&salvaged);
    let mut check = |is_right: bool, what: String| {
        if !is_right {
            wrong.push(what);
        }
    };
    if salvaged.code == 4 {
        let is_nothing = salvaged.err.contains("nothing to save") || verified.code == 4;
        check(is_nothing && left.sound.is_empty(), format!("salvage: {}", salvaged.err));
        return wrong;
    }
    let saved = records(out.path());
    check_copy(original, &left, (&saved, &listed), &mut check);
    check(salvaged.code == if listed.is_empty() { 0 } else { 3 }, format!("salvage ends with {}", salvaged.code));
    let missing: Vec<u64> = original.records.keys().copied().filter(|number| !saved.contains_key(number)).collect();
    check(verified.code != 0 || listed.is_empty(), "verify says 0, salvage lists losses".to_owned());
    let told: Vec<u64> = missing.iter().copied().filter(|&number| left.is_told(number)).collect();
    check(verified.code != 0 || told.is_empty(), format!("verify says 0, and {} are missing", some(&told)));
    let before = crate::repaired::files(log.path());
    // SAFETY: the directory is one of this test.
    let reader = unsafe { LogReader::open(log.path()) };
    let opened = reader.and_then(|reader| reader.snapshot()).map(|found| found.next_lsn());
    let repaired = run(log.path(), "repair DIR --apply");
    if repaired.text().contains("nothing to repair") || repaired.err.contains("nothing to repair") {
        check(repaired.code == if verified.code == 2 { 2 } else { 0 }, format!("repair ends with {}", repaired.code));
        check(crate::repaired::files(log.path()) == before, "repair has changed what it says is sound".to_owned());
        // What the next open drops although it passes its checks is told by both.
        let dropped = opened.map_or(0, |next| saved.range(next.0..).count());
        let is_told = |ran: &Ran| dropped == 0 || ran.text().replace(',', "").contains(&format!("{dropped} record"));
        check(is_told(&verified) && is_told(&repaired), format!("{dropped} records that are sound are dropped unsaid"));
    } else {
        check(
            repaired.code == salvaged.code,
            format!("repair ends with {}, salvage with {}: {}", repaired.code, salvaged.code, repaired.err),
        );
        if [0, 3].contains(&repaired.code) {
            let left = records(log.path());
            check(left == saved, format!("repair leaves other records than salvage: {}", differing(&left, &saved)));
            check(
                Listed::of(&repaired) == listed,
                format!("repair lists {:?}, salvage {listed:?}", Listed::of(&repaired)),
            );
            check(run(log.path(), "verify DIR").code == 0, "what was repaired is not sound".to_owned());
        }
    }
    wrong
}

/// The copy has all that is sound, under its number, and the list all that is not in it.
fn check_copy(
    original: &Original,
    left: &Left,
    (saved, listed): (&Records, &Listed),
    check: &mut impl FnMut(bool, String),
) {
    let is_other = |(number, payload): &(&u64, &Vec<u8>)| {
        let of = |records: &Records| records.get(number).is_some_and(|it| it == *payload);
        !of(&original.records) && !of(&original.dropped)
    };
    let other: Vec<u64> = saved.iter().filter(is_other).map(|(&number, _)| number).collect();
    check(other.is_empty(), format!("{} have other contents", some(&other)));
    let dropped: Vec<u64> =
        left.sound.iter().copied().filter(|number| saved.get(number) != original.records.get(number)).collect();
    check(dropped.is_empty(), format!("{} are sound, and not copied", some(&dropped)));
    let is_missing = |number: &u64| !saved.contains_key(number);
    let unlisted = original.records.keys().copied().filter(|number| is_missing(number) && !listed.has(*number));
    let unlisted: Vec<u64> = unlisted.filter(|&number| left.is_told(number)).collect();
    check(unlisted.is_empty(), format!("{} are missing, and not listed", some(&unlisted)));
    let is_all_there = original.records.keys().all(|number| !is_missing(number));
    let is_false = left.has_control && is_all_there && !listed.is_empty();
    check(!is_false, format!("all is there, and {listed:?}"));
    for &(first, last) in &listed.ranges {
        let false_ones = (first..=last).filter(|number| !original.records.contains_key(number) || !is_missing(number));
        let false_ones: Vec<u64> = false_ones.collect();
        check(false_ones.is_empty(), format!("{} are listed, and not lost", some(&false_ones)));
    }
}

fn differing(left: &Records, right: &Records) -> String {
    let differ = left.keys().chain(right.keys()).filter(|number| left.get(number) != right.get(number));
    some(&differ.copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>())
}

fn some(numbers: &[u64]) -> String {
    format!("{} records, {:?} to {:?},", numbers.len(), numbers.first().unwrap_or(&0), numbers.last().unwrap_or(&0))
}

#[test]
fn nothing_that_is_sound_is_lost_and_nothing_that_is_lost_goes_unsaid() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let (cases, first) = (number("MAPWAL_CASES").unwrap_or(CASES), number("MAPWAL_SEED").unwrap_or(1));
    let originals = originals();
    let mut failed = Vec::new();
    for seed in first..first + cases {
        let original = &originals[seed as usize % originals.len()];
        let (mut random, log) = (Rng::with_seed(seed), copy(original.directory.path()));
        let damages: Vec<String> = (0..random.u8(1..4)).filter_map(|_| spoil(&mut random, log.path())).collect();
        let wrong = judge(original, &log);
        if !wrong.is_empty() {
            failed.push(format!(
                "seed {seed}, {}: {}\n    {}",
                original.name,
                damages.join("; "),
                wrong.join("\n    ")
            ));
        }
    }
    assert!(failed.is_empty(), "{} of {cases} cases:\n{}", failed.len(), failed.join("\n"));
}

/// Damages that have been taken for less than they are. The killed log has segments 4 to 9, and its control page says so.
const CASES_KNOWN: [(&str, &str); 27] = [
    ("killed", "remove control; flip 8 43934 bit 0; cut 9 to 65000"),
    ("killed", "remove control; flip 8 43934 bit 0; extend 9 by 1"),
    ("killed", "remove control; flip 8 43934 bit 0; flip 9 20 bit 0"),
    ("killed", "flip control 46 bit 0; flip 8 43934 bit 0; flip 9 20 bit 0"),
    ("killed", "remove control; flip 8 43934 bit 0; remove 9"),
    ("closed", "flip 1 20 bit 0; flip 2 4120 bit 0"),
    ("closed", "remove 1; flip 2 4100 bit 0"),
    ("closed", "remove 1; flip 2 4135 bit 0"),
    ("closed", "remove 1; extend 2 by 1"),
    ("closed", "remove 1; cut 2 to 65535"),
    ("closed", "remove 1; cut 2 to 60000"),
    ("closed", "cut 1 to 0; flip 2 4120 bit 0"),
    ("closed", "cut 1 to 4096; extend 2 by 1"),
    ("closed", "remove 1; remove 2; extend 3 by 1"),
    ("closed", "copy 4 over 1"),
    ("closed", "copy 4 over 2"),
    ("closed", "swap 1 and 4"),
    ("closed", "swap 1 and 2"),
    ("killed", "copy 9 over 6"),
    ("killed", "copy 9 over 3"),
    ("killed", "remove 9; remove control"),
    ("killed", "remove 9; zero control 0 to 4096"),
    ("closed", "remove 4; remove control; extend 3 by 1"),
    ("killed", "zero control 0 to 4096; flip 10 20 bit 0"),
    ("closed", "remove control; copy 2 over 6"),
    ("closed", "remove 1; flip control 42 bit 0"),
    ("backup", "remove 9; flip control 723 bit 0"),
];

#[test]
fn what_has_been_taken_for_less_than_it_is_is_taken_for_what_it_is() {
    let originals = originals();
    let mut failed = Vec::new();
    for (name, damages) in CASES_KNOWN {
        let original = originals.iter().find(|original| original.name == name).unwrap();
        let log = copy(original.directory.path());
        damages.split("; ").for_each(|damage| spoil_as(damage, log.path()));
        let wrong = judge(original, &log);
        if !wrong.is_empty() {
            failed.push(format!("{name}: {damages}\n    {}", wrong.join("\n    ")));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
