//! A writer, with and without an archiver beside it in its process.

use std::sync::Arc;
use std::time::Instant;

use mapwal::Log;
use mapwal_archive::{Archive, Archiver, ArchiverOptions};

use crate::measure::{Scale, median, open, payload};
use crate::store::{Kind, Place, on_disk};

/// Appends that are timed together.
const BURST: usize = 1024;
/// Bursts between two syncs.
const BURSTS_PER_SYNC: usize = 16;

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
    compare(name, scale, |log| {
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
    let (mut alone, mut archived) = (Vec::new(), Vec::new());
    for round in 0..=scale.rounds {
        for is_archived in [false, true] {
            let scratch = on_disk();
            let log = open(scratch.path(), scale);
            let archive = Archive::new(Arc::clone(&place.store), format!("{name}-{round}"));
            // A runtime of its own: its threads end with it.
            let runtime = is_archived.then(|| {
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("it works")
            });
            if let Some(runtime) = &runtime {
                let options = ArchiverOptions::new().poll_interval(std::time::Duration::from_millis(10));
                let archiver = Archiver::of_log(Arc::clone(&log), archive.clone(), options).expect("it works");
                runtime.spawn(async move { archiver.run().await.map(|_| ()) });
            }
            let nanoseconds = time(&log);
            drop(runtime);
            if is_archived {
                let clearing = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it works");
                clearing.block_on(place.clear(archive.prefix()));
            }
            if round > 0 {
                if is_archived { &mut archived } else { &mut alone }.push(nanoseconds);
            }
        }
    }
    let (alone, archived) = (median(alone), median(archived));
    println!("{name:<16} {alone:>9.0} ns {archived:>9.0} ns {:>7.2} {:>7}", alone / archived, "0.95");
}
