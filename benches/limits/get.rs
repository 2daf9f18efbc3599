//! Looking up records at random.

use std::hint::black_box;
use std::time::Instant;

use mapwal::{Lsn, Options};

use crate::bench::Bench;
use crate::directory::{fresh, fresh_log};
use crate::limit::{MappedRecords, write_records};
use crate::report::Row;
use crate::samples::Samples;

const PAYLOAD_LEN: usize = 128;
const LOOKUPS: usize = 2_000_000;
/// Records that are asked for in one call.
const BATCH: usize = 100;
/// How much longer a look-up from the log may take than one from a snapshot, where it waits for memory.
const OF_A_SNAPSHOT: f64 = 1.3;

pub(crate) fn run(bench: &mut Bench) {
    get(bench, "get 128 B, of 1 k in the CPU's cache", 1_000, None);
    let many = bench.amount(2_000_000);
    get(bench, "get 128 B, of 2 M in the page cache", many, Some(4.0));
}

fn get(bench: &mut Bench, name: &str, count: usize, target: Option<f64>) {
    if !bench.wants(name) {
        return;
    }
    let payload = [0x5a; PAYLOAD_LEN];
    let directory = fresh(bench.directory());
    let plain = directory.path().join("plain");
    write_records(&plain, count, &payload);
    let records = MappedRecords::new(&plain, PAYLOAD_LEN);
    let (log, _directory) = fresh_log(bench.directory(), &Options::new());
    for _ in 0..count {
        log.append(1, &payload).expect("there is room");
    }
    let lookups = bench.amount(LOOKUPS);
    let lookup = |index: usize| {
        let record = log.get(Lsn(index as u64 + 1)).expect("the log is whole").expect("nothing was given up");
        ends(record.payload())
    };
    // The first look at a record indexes its segment.
    measure(lookups, count, lookup);
    let snapshot = log.snapshot().expect("the log is whole");
    let borrowed = |index: usize| {
        let record = snapshot.get(Lsn(index as u64 + 1)).expect("the log is whole").expect("nothing was given up");
        ends(record.payload())
    };
    let many = |lsns: &[Lsn]| {
        let records = log.get_many(lsns).expect("the log is whole");
        records.iter().flatten().fold(0, |all, record| all ^ ends(record.payload()))
    };
    let many_borrowed = |lsns: &[Lsn]| {
        let records = snapshot.get_many(lsns).expect("the log is whole");
        records.iter().flatten().fold(0, |all, record| all ^ ends(record.payload()))
    };
    let (mut ours, mut limits, mut views) = (Samples::default(), Samples::default(), Samples::default());
    let (mut batches, mut view_batches) = (Samples::default(), Samples::default());
    let [mut limits_in_turn, mut ours_in_turn, mut views_in_turn] = std::array::from_fn(|_| Samples::default());
    for _ in 0..bench.many_rounds() {
        limits_in_turn.push(measure_in_turn(lookups, count, |index| ends(records.payload(index))));
        ours_in_turn.push(measure_in_turn(lookups, count, lookup));
        views_in_turn.push(measure_in_turn(lookups, count, borrowed));
        limits.push(measure(lookups, count, |index| ends(records.payload(index))));
        ours.push(measure(lookups, count, lookup));
        views.push(measure(lookups, count, borrowed));
        batches.push(measure_batches(lookups, count, many));
        view_batches.push(measure_batches(lookups, count, many_borrowed));
    }
    let one_by_one = [ours.clone(), views.clone()];
    let beside_a_snapshot = Row::new(format!("{name}, beside a snapshot"), "ns", ours.clone());
    let beside_a_snapshot = beside_a_snapshot.limit("a snapshot's", views.clone());
    let rows = [(name.to_owned(), ours), (format!("{name}, from a snapshot"), views)];
    for (name, samples) in rows {
        let row = Row::new(name, "ns", samples).limit("L6", limits.clone());
        bench.push(if let Some(ratio) = target { row.at_most(ratio) } else { row });
    }
    let is_large = target.is_some();
    bench.push(if is_large { beside_a_snapshot.at_most(OF_A_SNAPSHOT) } else { beside_a_snapshot });
    for (whence, samples) in [("", ours_in_turn), (", from a snapshot", views_in_turn)] {
        let name = format!("{name}{whence}, each after the one before");
        bench.push(Row::new(name, "ns", samples).limit("L6 in turn", limits_in_turn.clone()));
    }
    for ((whence, samples), one_by_one) in
        [("", batches), (" from a snapshot", view_batches)].into_iter().zip(one_by_one)
    {
        bench.push(Row::new(format!("{name}, {BATCH} at once{whence}"), "ns", samples).limit("one by one", one_by_one));
    }
}

/// Touches a payload.
fn ends(payload: &[u8]) -> u8 {
    payload.first().copied().unwrap_or(0) ^ payload.last().copied().unwrap_or(0)
}

/// Numbers at random below `count`.
fn indices(count: usize) -> impl Iterator<Item = usize> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    std::iter::repeat_with(move || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // The high half of the product is uniform below `count`.
        ((u128::from(state) * count as u128) >> 64) as usize
    })
}

/// Nanoseconds for each of `lookups` at random below `count`.
fn measure(lookups: usize, count: usize, lookup: impl Fn(usize) -> u8) -> f64 {
    let began = Instant::now();
    indices(count).take(lookups).for_each(|index| _ = black_box(lookup(index)));
    began.elapsed().as_secs_f64() * 1e9 / lookups as f64
}

/// As [`measure`], where each look-up waits for what the one before has found, so that the processor cannot overlap them.
fn measure_in_turn(lookups: usize, count: usize, lookup: impl Fn(usize) -> u8) -> f64 {
    let mut found = 0;
    let began = Instant::now();
    for index in indices(count).take(lookups) {
        // All payloads end as they begin, so that 0 is found, which the compiler does not know.
        found = black_box(lookup(index ^ usize::from(found)));
    }
    began.elapsed().as_secs_f64() * 1e9 / lookups as f64
}

/// As [`measure`], of [`BATCH`] in a call.
fn measure_batches(lookups: usize, count: usize, look: impl Fn(&[Lsn]) -> u8) -> f64 {
    let mut indices = indices(count);
    let batches = lookups.div_ceil(BATCH);
    let began = Instant::now();
    for _ in 0..batches {
        let lsns: [Lsn; BATCH] = std::array::from_fn(|_| Lsn(indices.next().unwrap_or(0) as u64 + 1));
        black_box(look(&lsns));
    }
    began.elapsed().as_secs_f64() * 1e9 / (batches * BATCH) as f64
}
