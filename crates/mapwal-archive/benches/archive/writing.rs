//! A writer, with and without an archiver beside it in its process.
//!
//! Each round measures both, one after the other, and each round the other one first: so neither gains by what the one before has
//! left to the disk. Each has a log of its own, which has been written to for a while before the time is taken: what a new log makes
//! ready takes the disk, and an archiver is slow to begin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mapwal::Log;
use mapwal_archive::{Archive, Archiver, ArchiverOptions};
use tokio::runtime::{Builder, Runtime};

use crate::measure::{Scale, median, open, payload};
use crate::store::{Kind, Place, on_disk};

/// Appends that are timed together.
const BURST: usize = 1024;
/// Bursts between two syncs.
const BURSTS_PER_SYNC: usize = 16;
/// More often than by default, so that the archiver is at work while commits are measured.
const PART_INTERVAL: Duration = Duration::from_millis(100);
/// Small, so that commits fill several.
const COMMITTED_SEGMENT_SIZE: u64 = 256 << 10;

/// Nanoseconds of an append, as the median of bursts.
pub(crate) fn append(name: &str, scale: Scale) {
    compare(name, scale, |log| {
        let payload = payload();
        let bursts = (scale.bytes() / 256) as usize / BURST;
        let mut times = Vec::new();
        for burst in 0..bursts {
            let began = Instant::now();
            for _ in 0..BURST {
                log.append(1, &payload).expect("it works");
            }
            times.push(began.elapsed().as_nanos() as f64 / BURST as f64);
            if burst % BURSTS_PER_SYNC == 0 {
                log.sync().expect("it works");
            }
        }
        median(times)
    });
}

/// Nanoseconds until an append is durable.
pub(crate) fn commit(name: &str, scale: Scale) {
    compare(name, Scale { segment_size: COMMITTED_SEGMENT_SIZE, ..scale }, |log| {
        let payload = payload();
        let commit = |_| {
            let began = Instant::now();
            log.append(1, &payload).expect("it works");
            log.sync().expect("it works");
            began.elapsed().as_nanos() as f64
        };
        median((0..scale.commits).map(commit).collect())
    });
}

fn compare(name: &str, scale: Scale, time: impl Fn(&Log) -> f64) {
    let place = Place::new(Kind::Tmpfs);
    let mut rounds = Vec::new();
    for round in 0..=scale.rounds {
        let one = |is_archived: bool| {
            let archive = Archive::new(Arc::clone(&place.store), format!("{name}-{round}"));
            let nanoseconds = measure(scale, is_archived.then_some(&archive), &time);
            runtime().block_on(place.clear(archive.prefix()));
            nanoseconds
        };
        let (alone, archived) = if round % 2 == 0 {
            let alone = one(false);
            (alone, one(true))
        } else {
            let archived = one(true);
            (one(false), archived)
        };
        if round > 0 {
            rounds.push((alone, archived));
        }
    }
    show(name, &rounds);
}

/// A log that is archived there, or not at all.
fn measure(scale: Scale, archive: Option<&Archive>, time: &impl Fn(&Log) -> f64) -> f64 {
    let scratch = on_disk();
    let log = open(scratch.path(), scale);
    // A runtime of its own: its thread, and the archiver in it, end with it.
    let archiving = archive.map(|archive| {
        let runtime = runtime();
        let options = ArchiverOptions::new().part_interval(Some(PART_INTERVAL));
        let archiver = Archiver::of_log(Arc::clone(&log), archive.clone(), options).expect("it works");
        runtime.spawn(async move { archiver.run().await.map(|_| ()) });
        runtime
    });
    time(&log);
    // What rounds before have left to be written.
    rustix::fs::sync();
    let nanoseconds = time(&log);
    drop(archiving);
    nanoseconds
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("it works")
}

/// One line of the table; the ratio is the median of those of the rounds, and beside it is how far they are apart.
fn show(name: &str, rounds: &[(f64, f64)]) {
    let of = |value: fn(&(f64, f64)) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let mut ratios = of(|(alone, archived)| alone / archived);
    ratios.sort_by(f64::total_cmp);
    let (alone, archived) = (median(of(|round| round.0)), median(of(|round| round.1)));
    let (least, most) = (ratios[0], ratios[ratios.len() - 1]);
    let ratio = median(ratios);
    println!("{name:<16} {alone:>9.0} ns {archived:>9.0} ns {ratio:>7.2} {:>7}  ({least:.2} to {most:.2})", "0.95");
}
