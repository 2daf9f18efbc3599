//! A store that fails in every way that stores do: nothing is lost or doubled, and no success is a wrong one.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use mapwal::Lsn;
use mapwal_archive::{Archive, Archiver, ArchiverOptions, RestoreTo};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::failing::{Failing, Faults};
use crate::logs::{append_up_to, check, open, trim};
use crate::tools::{PREFIX, reach, restore, wait_for};

/// More histories are asked for by this variable.
const SEEDS_VARIABLE: &str = "MAPWAL_ARCHIVE_SEEDS";
const SEEDS: u64 = 25;

#[derive(Debug, Default)]
struct Told {
    failed: u64,
    failed_though_done: u64,
    truncated: u64,
    listed_late: u64,
}

#[test]
fn whatever_the_store_does_what_is_confirmed_is_there() {
    let seeds = std::env::var(SEEDS_VARIABLE).map_or(SEEDS, |seeds| seeds.parse().expect("a number"));
    let mut all = Told::default();
    for seed in 0..seeds {
        eprintln!("seed {seed}");
        wait_for(history(seed, &mut all));
    }
    eprintln!("{all:?}");
    let Told { failed, failed_though_done, truncated, listed_late } = all;
    assert!([failed, failed_though_done, truncated, listed_late].iter().all(|&count| count > seeds), "{all:?}");
}

/// A note is no damaged one because its end has not arrived.
#[test]
fn what_arrives_cut_short_is_asked_for_again_and_no_damage() {
    let scratch = tempfile::tempdir().unwrap();
    let sound = Arc::new(InMemory::new());
    let faults = Faults { truncate_read: 300, ..Faults::default() };
    let store = Arc::new(Failing::new(Arc::clone(&sound) as Arc<dyn ObjectStore>, faults, 7));
    let archive = |store| Archive::new(store, PREFIX);
    wait_for(async {
        let log = Arc::new(open(&scratch.path().join("log")));
        append_up_to(&log, 1, 100);
        log.sync().unwrap();
        let archiver =
            Archiver::of_log(Arc::clone(&log), archive(sound as Arc<dyn ObjectStore>), ArchiverOptions::new());
        archiver.unwrap().catch_up().await.unwrap();
        let archive = archive(Arc::clone(&store) as Arc<dyn ObjectStore>);
        for _ in 0..10 {
            assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        }
    });
    assert!(store.told().truncated > 5);
}

/// Archivers come and go over a failing store; then the log is lost.
async fn history(seed: u64, all: &mut Told) {
    let mut random = fastrand::Rng::with_seed(seed);
    let scratch = tempfile::tempdir().unwrap();
    let (lost, restored) = (scratch.path().join("lost"), scratch.path().join("restored"));
    let sound = Arc::new(InMemory::new());
    let store = Arc::new(Failing::new(Arc::clone(&sound) as Arc<dyn ObjectStore>, Faults::ALL, seed));
    let archive = Archive::new(Arc::clone(&store) as Arc<dyn ObjectStore>, PREFIX);
    let options = ArchiverOptions::new().retry(Duration::from_millis(1), Duration::from_millis(2));
    let options = options.part_interval(Some(Duration::from_millis(1))).poll_interval(Duration::from_millis(1));

    let log = Arc::new(open(&lost));
    for _ in 0..random.u64(2..5) {
        let archiver = Archiver::of_log(Arc::clone(&log), archive.clone(), options.clone()).unwrap();
        for _ in 0..random.u64(1..4) {
            append_up_to(&log, 1, log.next_lsn().0 + random.u64(0..300));
            let durable = log.sync().unwrap();
            if random.bool() {
                archiver.catch_up().await.unwrap();
                let reached = reach(store.told().stored.keys());
                assert!(Lsn(reached) > durable, "said that {durable} is archived, and it is up to {reached}");
            } else {
                // It is dropped where it is.
                let _ = tokio::time::timeout(Duration::from_millis(random.u64(0..20)), archiver.catch_up()).await;
            }
            // An application that archives trims only what a pin lets go.
            if !log.pins().is_empty() {
                trim(&log);
            }
            let reached = reach(store.told().stored.keys());
            assert!(log.first_lsn() <= Lsn(reached), "trimmed before it was archived");
        }
    }
    let archiver = Archiver::of_log(Arc::clone(&log), archive.clone(), options).unwrap();
    archiver.catch_up().await.unwrap();
    let last = log.durable_lsn().0;
    drop((archiver, log));
    fs::remove_dir_all(lost).unwrap();

    for (key, contents) in &store.told().stored {
        let is_note = ["/session.json", "/synced"].iter().any(|name| key.ends_with(name));
        assert!(is_note || contents.len() == 1, "{key} was stored {} times", contents.len());
    }
    // A restore either makes the log, or says that it could not; then it is tried again.
    let mut tries = 0;
    while let Err(error) = restore(&archive, &restored, RestoreTo::Latest).await {
        tries += 1;
        if tries == 30 {
            store.heal();
        }
        assert!(tries < 40, "{error:?}");
    }
    let next = open(&restored).next_lsn().0;
    if tries < 30 {
        // A list that was late may have ended the log earlier: then it is a whole log up to there.
        assert!(next <= last + 1);
    }
    check(&restored, 1, next - 1, |_| 1);
    store.heal();
    fs::remove_dir_all(&restored).unwrap();
    restore(&archive, &restored, RestoreTo::Latest).await.unwrap();
    check(&restored, 1, last, |_| 1);
    assert!(archive.verify(None, &mut |_| {}).await.unwrap().is_sound());

    let told = store.told();
    all.failed += told.failed;
    all.failed_though_done += told.failed_though_done;
    all.truncated += told.truncated;
    all.listed_late += told.listed_late;
}
