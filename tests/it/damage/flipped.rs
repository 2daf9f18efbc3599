//! Bytes of a small log are flipped, one at a time. `support::damaged` has the rule for what must come of it.
//!
//! What is flipped, in both segments of each specimen, and checked by opening the log:
//!
//! - each byte of each frame, its padding included, and of the fields of each segment's header: in each of its eight
//!   bits by itself, and in all of them;
//! - of the rest of a segment's header, which is reserved, and of the empty rest of the segment one byte in a stride that
//!   comes to every place in a word: in one of these nine ways, which take turns.
//!
//! What only reads takes one flip in five of these, which comes to each byte once or twice and to each of the nine ways, and so
//! does a log of transactions. Each sweep prints how many flips there were, and what came of them.

#![allow(clippy::redundant_closure_for_method_calls, reason = "a method of a borrowed bench is not general enough")]

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::support::damaged::{Bench, Change, Outcome, Specimen};
use crate::support::stored;

/// Opening takes all flips, the others one in so many, which is no divisor of how many ways there are to flip a byte.
const EVERY: usize = 1;
const ONE_IN: usize = 5;
/// Threads that share a sweep.
const WORKERS: usize = 2;
/// Each bit, and all.
const MASKS: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 0xff];
/// Bytes from one flip to the next where zeros are reserved in a header.
const STRIDE_RESERVED: usize = 5;
/// Bytes from one flip to the next where no frame is.
const STRIDE_EMPTY: usize = 61;

/// How many flips came to what.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    fn count(&mut self, is_proven: bool, outcome: Outcome) {
        let name = match outcome {
            Outcome::Refused if is_proven => "refused, proven",
            Outcome::Refused => "refused",
            Outcome::Torn => "torn",
            Outcome::Whole => "whole",
        };
        *self.0.entry("flips").or_default() += 1;
        *self.0.entry(name).or_default() += 1;
    }

    fn of(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// Flips of segment `number`: place, and mask.
fn flips(specimen: &Specimen, number: u64) -> Vec<(usize, u8)> {
    let (end, len) = (specimen.end_of(number), specimen.segment(number).len());
    let all = (0..stored::FIELDS_END).chain(stored::HEADER_CRC.start..end);
    let reserved = (stored::FIELDS_END..stored::HEADER_CRC.start).step_by(STRIDE_RESERVED);
    let sampled = reserved.chain((end..len).step_by(STRIDE_EMPTY)).zip(MASKS.into_iter().cycle());
    all.flat_map(|offset| MASKS.map(|mask| (offset, mask))).chain(sampled).collect()
}

/// Runs `check` on one in `every` of the flips.
fn sweep(specimen: &Specimen, every: usize, check: impl Fn(&Bench<'_>, &Change) -> Outcome + Sync) -> Tally {
    let flips: Vec<(u64, (usize, u8))> = [1, 2]
        .into_iter()
        .flat_map(|number| flips(specimen, number).into_iter().map(move |flip| (number, flip)))
        .collect();
    let flips: Vec<_> = flips.into_iter().step_by(every).collect();
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (flips, tally, check) = (&flips, &tally, &check);
            scope.spawn(move || {
                let bench = Bench::new(specimen);
                for &(segment, (offset, mask)) in flips.iter().skip(worker).step_by(WORKERS) {
                    let bytes = vec![specimen.segment(segment)[offset] ^ mask];
                    let change = Change { segment, range: offset..offset + 1, bytes };
                    let (outcome, is_proven) = (check(&bench, &change), specimen.is_proven(&change));
                    assert!(outcome == Outcome::Refused || !is_proven, "{change:?}: {outcome:?}");
                    tally.lock().count(is_proven, outcome);
                }
            });
        }
    });
    let tally = tally.into_inner();
    println!("{}: {:?}", std::thread::current().name().unwrap_or("a sweep"), tally.0);
    assert_eq!(tally.of("flips"), flips.len());
    assert!(tally.of("refused, proven") > flips.len() / 4 && tally.of("whole") > 0, "{tally:?}");
    tally
}

/// Sweeps a log of which nothing was left to be lost.
fn sweep_closed(every: usize, check: impl Fn(&Bench<'_>, &Change) -> Outcome + Sync) {
    assert_eq!(sweep(&Specimen::closed(), every, check).of("torn"), 0);
}

/// Sweeps a log with records that were not synced.
fn sweep_dropped(specimen: &Specimen, every: usize, check: impl Fn(&Bench<'_>, &Change) -> Outcome + Sync) {
    assert_ne!(sweep(specimen, every, check).of("torn"), 0);
}

#[test]
fn a_flipped_byte_of_a_closed_log_is_damage_or_changes_nothing() {
    sweep_closed(EVERY, |bench, change| bench.check_log(change));
}

#[test]
fn a_flipped_byte_of_a_dropped_log_is_damage_or_a_torn_end() {
    sweep_dropped(&Specimen::dropped(), EVERY, |bench, change| bench.check_log(change));
}

#[test]
fn a_reader_finds_a_flipped_byte_of_a_closed_log() {
    sweep_closed(ONE_IN, |bench, change| bench.check_reader(change));
}

#[test]
fn a_reader_finds_a_flipped_byte_of_a_dropped_log() {
    sweep_dropped(&Specimen::dropped(), ONE_IN, |bench, change| bench.check_reader(change));
}

#[test]
fn an_inspection_judges_a_flipped_byte_of_a_closed_log_as_opening_does() {
    sweep_closed(ONE_IN, |bench, change| bench.check_inspection(change));
}

#[test]
fn an_inspection_judges_a_flipped_byte_of_a_dropped_log_as_opening_does() {
    sweep_dropped(&Specimen::dropped(), ONE_IN, |bench, change| bench.check_inspection(change));
}

#[test]
fn a_follower_finds_a_flipped_byte_or_ends_before_it() {
    sweep_dropped(&Specimen::dropped(), ONE_IN, |bench, change| bench.check_follower(change));
}

#[test]
fn a_flipped_byte_of_a_log_of_transactions_is_damage_or_a_torn_end() {
    sweep_dropped(&Specimen::of_transactions(), ONE_IN, |bench, change| bench.check_wal(change));
}
