//! Bytes of a small log are flipped, one at a time. `support::damaged` has the rule for what must come of it.
//!
//! Every byte of the headers and frames is flipped, once in one bit and once in all. The empty rest of the segments is
//! swept with a stride that comes to every place in a word: it takes many minutes to open a log for each of its bytes.
//! Inspections take one place in five.

#![allow(clippy::redundant_closure_for_method_calls, reason = "a method of a borrowed bench is not general enough")]

use crate::support::damaged::{Bench, Change, Specimen};

/// Threads that share a sweep.
const WORKERS: usize = 2;
/// Bytes from one flip to the next where no frame is.
const STRIDE: usize = 13;

/// Runs `check` on flips all over both segments, at one in `every` places.
fn sweep(specimen: &Specimen, every: usize, check: impl Fn(&Bench<'_>, &Change) + Sync) {
    let places: Vec<(u64, usize)> =
        [1, 2].into_iter().flat_map(|segment| places(specimen, segment)).step_by(every).collect();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (places, check) = (&places, &check);
            scope.spawn(move || {
                let bench = Bench::new(specimen);
                for &(segment, offset) in places.iter().skip(worker).step_by(WORKERS) {
                    for mask in [1 << (offset / 8 % 8), 0xff] {
                        let bytes = vec![specimen.segment(segment)[offset] ^ mask];
                        check(&bench, &Change { segment, range: offset..offset + 1, bytes });
                    }
                }
            });
        }
    });
}

fn places(specimen: &Specimen, segment: u64) -> impl Iterator<Item = (u64, usize)> {
    let (end, len) = (specimen.end_of(segment), specimen.segment(segment).len());
    (0..end).chain((end..len).step_by(STRIDE)).map(move |offset| (segment, offset))
}

#[test]
fn a_flipped_byte_of_a_closed_log_is_damage_or_changes_nothing() {
    sweep(&Specimen::closed(), 1, |bench, change| bench.check_log(change));
}

#[test]
fn a_flipped_byte_of_a_dropped_log_is_damage_or_a_torn_end() {
    sweep(&Specimen::dropped(), 1, |bench, change| bench.check_log(change));
}

#[test]
fn a_reader_finds_a_flipped_byte_of_a_closed_log() {
    sweep(&Specimen::closed(), 1, |bench, change| bench.check_reader(change));
}

#[test]
fn a_reader_finds_a_flipped_byte_of_a_dropped_log() {
    sweep(&Specimen::dropped(), 1, |bench, change| bench.check_reader(change));
}

#[test]
fn an_inspection_judges_a_flipped_byte_of_a_closed_log_as_opening_does() {
    sweep(&Specimen::closed(), 5, |bench, change| bench.check_inspection(change));
}

#[test]
fn an_inspection_judges_a_flipped_byte_of_a_dropped_log_as_opening_does() {
    sweep(&Specimen::dropped(), 5, |bench, change| bench.check_inspection(change));
}

#[test]
fn a_follower_finds_a_flipped_byte_or_ends_in_front_of_it() {
    sweep(&Specimen::dropped(), 1, |bench, change| bench.check_follower(change));
}

#[test]
fn a_flipped_byte_of_a_log_of_transactions_is_damage_or_a_torn_end() {
    sweep(&Specimen::of_transactions(), 1, |bench, change| bench.check_wal(change));
}
