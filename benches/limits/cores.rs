//! What appends do on more processors than there are here: a model, fed with two figures that are measured.
//!
//! A record is reserved by a compare-and-swap on one word that all appenders share, then copied and summed by its own thread alone. So
//! appenders are the customers of a closed queueing network of one server, the word: each one comes back after the time of the
//! rest of an append. Its throughput is computed by mean value analysis (Reiser and Lavenberg, 1980).

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mapwal::Options;

use crate::bench::Bench;
use crate::directory::ready_log;
use crate::report::Row;
use crate::samples::Samples;

const PAYLOAD_LEN: usize = 128;
const RECORDS: usize = 300_000;
const SWAPS: u64 = 4_000_000;
/// Records of a batch, which is reserved at once.
const BATCH: usize = 16;

pub(crate) fn run(bench: &mut Bench) {
    let name = "append 128 B, by the model of one shared word";
    if !bench.wants(name) {
        return;
    }
    let (mut alone, mut swap) = (Samples::default(), Samples::default());
    for _ in 0..bench.rounds() {
        alone.push(append_ns(bench));
        swap.push(swap_ns(bench.amount(SWAPS as usize) as u64));
    }
    let (append, word) = (alone.median(), swap.median());
    bench.push(Row::new(format!("{name}, an append alone"), "ns", alone));
    bench.push(Row::new(format!("{name}, a swap by two threads in turn"), "ns", swap));
    for threads in [2, 4, 8, 16, 64] {
        for (batch, what) in [(1, "appends"), (BATCH, "batches of 16")] {
            let rest = batch as f64 * append;
            let rate = batch as f64 * throughput(threads, word, rest) * 1e3;
            let mut rates = Samples::default();
            rates.push(rate);
            bench.push(Row::new(format!("{name}, {threads} threads, {what}"), "M/s", rates));
        }
    }
}

/// Nanoseconds of an append by one thread, to which the word is always at hand.
fn append_ns(bench: &Bench) -> f64 {
    let (log, _directory) = ready_log(bench.directory(), &Options::new());
    let payload = [0x5a; PAYLOAD_LEN];
    let count = bench.amount(RECORDS);
    let began = Instant::now();
    for _ in 0..count {
        log.append(1, black_box(&payload)).expect("there is room");
    }
    began.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// Nanoseconds from one successful swap of a word to the next, when two threads take turns: the cache line moves each time.
fn swap_ns(count: u64) -> f64 {
    let (word, barrier) = (AtomicU64::new(0), Barrier::new(2));
    let take_turns = |parity: u64| {
        barrier.wait();
        let began = Instant::now();
        for turn in (parity..count).step_by(2) {
            while word.compare_exchange_weak(turn, turn + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                std::hint::spin_loop();
            }
        }
        began.elapsed()
    };
    let took = std::thread::scope(|scope| {
        let other = scope.spawn(|| take_turns(1));
        take_turns(0).max(other.join().expect("it does not panic"))
    });
    took.as_secs_f64() * 1e9 / count as f64
}

/// Visits to the server in a nanosecond, by `customers` that are served for `service` and come back after `rest`.
fn throughput(customers: u32, service: f64, rest: f64) -> f64 {
    let (mut rate, mut queue) = (0.0, 0.0);
    for present in 1..=customers {
        let stay = service * (1.0 + queue);
        rate = f64::from(present) / (stay + rest);
        queue = rate * stay;
    }
    rate
}
