//! What people and other archivers do wrong: it is noticed, named, and destroys nothing.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mapwal::Lsn;
use mapwal_archive::{Archive, Archiver, ArchiverOptions, Error, ObjectDamage, PruneGaps, RestoreTo};
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::logs::{append_up_to, check, open};
use crate::tools::{archive, archiver, restore, wait_for};

const LAST: u64 = 900;

/// An archive of a log with the records 1 to [`LAST`].
struct Scene {
    scratch: tempfile::TempDir,
    store: Arc<InMemory>,
    archive: Archive,
}

impl Scene {
    async fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let store = Arc::new(InMemory::new());
        let archive = archive(Arc::clone(&store) as Arc<dyn ObjectStore>);
        let log = Arc::new(open(&scratch.path().join("log")));
        append_up_to(&log, 1, LAST);
        log.sync().unwrap();
        archiver(&log, &archive).catch_up().await.unwrap();
        log.close().unwrap();
        Self { scratch, store, archive }
    }

    fn directory(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join(name)
    }

    /// The keys of all sealed segments.
    async fn segments(&self) -> Vec<(Key, Lsn, Lsn)> {
        let epochs = self.archive.list().await.unwrap().epochs;
        let segments = epochs.iter().flat_map(|epoch| &epoch.segments);
        segments.map(|segment| (segment.key.clone(), segment.first_lsn, segment.next_lsn)).collect()
    }

    async fn bytes(&self, key: &Key) -> Bytes {
        self.store.get(key).await.unwrap().bytes().await.unwrap()
    }

    async fn replace(&self, key: &Key, bytes: impl Into<Bytes>) {
        self.store.put(key, PutPayload::from(bytes.into())).await.unwrap();
    }

    /// Restoring and verifying say that `key` is damaged, and nothing that opens as a log is left.
    async fn is_damaged(&self, key: &Key) -> ObjectDamage {
        let report = self.archive.verify(None, &mut |_| {}).await.unwrap();
        assert!(!report.is_sound());
        assert_eq!(report.damaged.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), [key.as_ref()]);
        let directory = self.directory("not-restored");
        let restored = restore(&self.archive, &directory, RestoreTo::Latest).await;
        assert!(
            matches!(&restored, Err(Error::Damaged { key: named, .. }) if *named == key.to_string()),
            "{restored:?}"
        );
        assert!(!holds_log(&directory));
        report.damaged[0].1.clone()
    }
}

/// Whether there is what may be opened as a log.
fn holds_log(directory: &Path) -> bool {
    // SAFETY: only this test has the directory, and nothing writes to it.
    unsafe { mapwal::LogReader::open(directory) }.is_ok()
}

#[test]
fn an_object_that_was_replaced_is_damage() {
    wait_for(async {
        let scene = Scene::new().await;
        let (key, ..) = scene.segments().await.swap_remove(2);
        let mut bytes = scene.bytes(&key).await.to_vec();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        scene.replace(&key, bytes).await;
        assert!(matches!(scene.is_damaged(&key).await, ObjectDamage::Checksum { .. }));
    });
}

#[test]
fn an_object_that_was_shortened_is_damage() {
    wait_for(async {
        let scene = Scene::new().await;
        let (key, ..) = scene.segments().await.swap_remove(3);
        let bytes = scene.bytes(&key).await;
        scene.replace(&key, bytes.slice(..bytes.len() - 1)).await;
        scene.is_damaged(&key).await;
    });
}

/// Sound by itself, under a name that is not its own.
#[test]
fn a_segment_in_the_place_of_another_is_damage() {
    wait_for(async {
        let scene = Scene::new().await;
        let segments = scene.segments().await;
        let (other, place) = (&segments[1].0, &segments[2].0);
        let bytes = scene.bytes(other).await;
        let stem = &place.as_ref()[.."-0123456789-01234567.seg".len().abs_diff(place.as_ref().len())];
        let forged = format!("{stem}-{:010}-{:08x}.seg", bytes.len(), crc32fast::hash(&bytes));
        scene.store.delete(place).await.unwrap();
        scene.replace(&Key::from(forged.as_str()), bytes).await;
        let directory = scene.directory("not-restored");
        let restored = restore(&scene.archive, &directory, RestoreTo::Latest).await;
        assert!(matches!(&restored, Err(Error::Damaged { key, .. }) if *key == forged), "{restored:?}");
        assert!(!holds_log(&directory));
    });
}

/// Nothing is restored beyond the gap, and what is before it can be.
#[test]
fn a_segment_that_is_missing_in_the_middle_is_named_and_never_skipped() {
    wait_for(async {
        let scene = Scene::new().await;
        let (key, first, next) = scene.segments().await.swap_remove(4);
        scene.store.delete(&key).await.unwrap();
        let directory = scene.directory("restored");
        for to in [RestoreTo::Latest, RestoreTo::Lsn(first), RestoreTo::Lsn(Lsn(LAST))] {
            let restored = restore(&scene.archive, &directory, to).await;
            let Err(Error::Gap { missing, .. }) = &restored else { panic!("{restored:?}") };
            assert_eq!(*missing, first..next);
            assert!(!holds_log(&directory));
        }
        assert!(!scene.archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        let before = first.0 - 1;
        restore(&scene.archive, &directory, RestoreTo::Lsn(Lsn(before))).await.unwrap();
        check(&directory, 1, before, |_| 1);
    });
}

#[test]
fn a_directory_with_something_in_it_is_left_alone() {
    wait_for(async {
        let scene = Scene::new().await;
        let directory = scene.directory("full");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("a"), "precious").unwrap();
        let restored = restore(&scene.archive, &directory, RestoreTo::Latest).await;
        assert!(matches!(restored, Err(Error::NotEmpty { .. })), "{restored:?}");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        let log = scene.directory("log");
        let restored = restore(&scene.archive, &log, RestoreTo::Latest).await;
        assert!(matches!(restored, Err(Error::NotEmpty { .. })), "{restored:?}");
        check(&log, 1, LAST, |_| 1);
    });
}

/// Archived again, a log that was restored to an earlier record is another history: both can be restored.
#[test]
fn a_log_that_was_restored_to_an_earlier_record_begins_a_new_epoch() {
    wait_for(async {
        let scene = Scene::new().await;
        let before = scene.segments().await;
        let (_, first, next) = before[5];
        let at = (first.0 + next.0) / 2;
        let directory = scene.directory("restored");
        restore(&scene.archive, &directory, RestoreTo::Lsn(Lsn(at))).await.unwrap();
        let log = Arc::new(open(&directory));
        append_up_to(&log, 2, LAST + 300);
        log.sync().unwrap();
        archiver(&log, &scene.archive).catch_up().await.unwrap();
        drop(log);

        let epochs = scene.archive.list().await.unwrap().epochs;
        assert_eq!(epochs.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((epochs[1].parent, epochs[1].fault.is_none()), (Some(1), true));
        let after = scene.segments().await;
        assert!(before.iter().all(|segment| after.contains(segment)), "nothing of the first history is gone");
        assert!(scene.archive.verify(None, &mut |_| {}).await.unwrap().is_sound());

        let newest = scene.directory("newest");
        restore(&scene.archive, &newest, RestoreTo::Latest).await.unwrap();
        check(&newest, 1, LAST + 300, |lsn| if lsn.0 <= at { 1 } else { 2 });
        let (oldest, options) = (scene.directory("oldest"), mapwal_archive::RestoreOptions::new().epoch(Some(1)));
        scene.archive.restore(&oldest, RestoreTo::Latest, &options, &mut |_| {}).await.unwrap();
        check(&oldest, 1, LAST, |_| 1);
    });
}

/// The first goes on, and nothing is uploaded twice.
#[test]
fn a_second_archiver_of_the_same_log_is_refused() {
    wait_for(async {
        let scene = Scene::new().await;
        let log = Arc::new(open(&scene.directory("log")));
        let first = archiver(&log, &scene.archive);
        first.catch_up().await.unwrap();
        let second = Archiver::of_log(Arc::clone(&log), scene.archive.clone(), ArchiverOptions::new());
        let refused = match second {
            Err(error) => error,
            Ok(second) => second.catch_up().await.unwrap_err(),
        };
        assert!(matches!(refused, Error::Busy { .. }), "{refused:?}");
        append_up_to(&log, 1, LAST + 200);
        log.sync().unwrap();
        first.catch_up().await.unwrap();
        assert_eq!(scene.archive.list().await.unwrap().epochs[0].next_lsn, Lsn(LAST + 201));
    });
}

/// Two histories that come of copies of the directory: an archiver that is late ends, and neither overwrites anything.
#[test]
fn of_two_archivers_of_copies_of_a_log_one_ends() {
    wait_for(async {
        let scene = Scene::new().await;
        let (original, copy) = (scene.directory("log"), scene.directory("copy"));
        copy_log(&original, &copy);
        let logs = [Arc::new(open(&original)), Arc::new(open(&copy))];
        let archivers = [archiver(&logs[0], &scene.archive), archiver(&logs[1], &scene.archive)];
        let before = scene.segments().await;
        // Both take the epoch, the second one last.
        archivers[0].catch_up().await.unwrap();
        archivers[1].catch_up().await.unwrap();
        append_up_to(&logs[0], 2, LAST + 200);
        logs[0].sync().unwrap();
        let ended = archivers[0].catch_up().await;
        assert!(matches!(ended, Err(Error::Superseded { epoch: 1, .. })), "{ended:?}");
        append_up_to(&logs[1], 3, LAST + 300);
        logs[1].sync().unwrap();
        // What the first one had uploaded before it found out is in the way, or is not.
        let went_on = archivers[1].catch_up().await;
        assert!(matches!(went_on, Ok(_) | Err(Error::Conflict { .. })), "{went_on:?}");
        let after = scene.segments().await;
        assert!(before.iter().all(|segment| after.contains(segment)), "something was replaced");
        is_no_mixture(&scene).await;
    });
}

fn copy_log(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_log(&path, &copy);
        } else if path.is_file() {
            // What wakes readers is no file.
            fs::copy(&path, copy).unwrap();
        }
    }
}

/// Each epoch that can be restored is one history: after the common records, those of one life.
async fn is_no_mixture(scene: &Scene) {
    for epoch in scene.archive.list().await.unwrap().epochs {
        let restored = scene.directory(&format!("epoch-{}", epoch.epoch));
        let options = mapwal_archive::RestoreOptions::new().epoch(Some(epoch.epoch));
        if scene.archive.restore(&restored, RestoreTo::Latest, &options, &mut |_| {}).await.is_err() {
            continue;
        }
        let log = open(&restored);
        let last = log.next_lsn().0 - 1;
        let life_of = |payload: &[u8]| u64::from_le_bytes(payload[..8].try_into().unwrap());
        let life = log.get(Lsn(LAST + 1)).unwrap().map_or(1, |record| life_of(record.payload()));
        drop(log);
        check(&restored, 1, last, |lsn| if lsn.0 <= LAST { 1 } else { life });
    }
}

/// Records that were trimmed unarchived are named, and the archive goes on after them.
#[test]
fn a_pin_that_was_lost_by_its_limit_leaves_a_gap_that_is_named() {
    wait_for(async {
        let scratch = tempfile::tempdir().unwrap();
        let archive = archive(Arc::new(InMemory::new()));
        let log = Arc::new(open(&scratch.path().join("log")));
        let options = ArchiverOptions::new().pin_limit_bytes(Some(256 << 10));
        let archiver = || Archiver::of_log(Arc::clone(&log), archive.clone(), options.clone()).unwrap();
        append_up_to(&log, 1, 300);
        log.sync().unwrap();
        archiver().catch_up().await.unwrap();
        // While no archiver is there, more is appended than the pin may hold back.
        append_up_to(&log, 1, 2000);
        log.sync().unwrap();
        log.trim_before(Lsn(1900)).unwrap();
        let kept = log.first_lsn();
        assert!(kept > Lsn(1000), "the limit was not reached");
        let archiver = archiver();
        // It may say first that the pin was lost.
        let mut caught_up = archiver.catch_up().await;
        for _ in 0..3 {
            if caught_up.is_err() {
                caught_up = archiver.catch_up().await;
            }
        }
        caught_up.unwrap();

        let epochs = archive.list().await.unwrap().epochs;
        assert_eq!(epochs.len(), 2);
        let lost = epochs[1].lost.clone().expect("it says what is lost");
        assert_eq!((lost.end, epochs[1].first_lsn), (kept, kept));
        assert!(lost.start <= Lsn(301) && lost.start > Lsn(1));
        let restored = scratch.path().join("restored");
        let report = restore(&archive, &restored, RestoreTo::Latest).await.unwrap();
        assert_eq!((report.first_lsn, report.next_lsn), (kept, Lsn(2001)));
        check(&restored, kept.0, 2000, |_| 1);
    });
}

/// Interrupted at any segment, a restore goes on, and comes to the same.
#[test]
fn an_interrupted_restore_goes_on() {
    wait_for(async {
        let scene = Scene::new().await;
        let directory = scene.directory("restored");
        let segments = scene.segments().await;
        // One after the other fails once: the object is not there at first.
        let one_by_one = mapwal_archive::RestoreOptions::new().parallel(1);
        for (key, ..) in [&segments[0], &segments[3], &segments[6]] {
            let bytes = scene.bytes(key).await;
            scene.replace(key, bytes.slice(..bytes.len() / 2)).await;
            let tried = scene.archive.restore(&directory, RestoreTo::Latest, &one_by_one, &mut |_| {}).await;
            assert!(matches!(&tried, Err(Error::Damaged { key: named, .. }) if *named == key.to_string()), "{tried:?}");
            assert!(!holds_log(&directory));
            scene.replace(key, bytes).await;
        }
        // What is there already is not read again.
        scene.replace(&segments[1].0, Bytes::new()).await;
        let report = restore(&scene.archive, &directory, RestoreTo::Latest).await.unwrap();
        assert_eq!(report.resumed, 6);
        check(&directory, 1, LAST, |_| 1);
    });
}

/// What is kept can be restored, and what is not is gone.
#[test]
fn a_prune_leaves_no_gap() {
    wait_for(async {
        let scene = Scene::new().await;
        let segments = scene.segments().await;
        let (_, first, _) = segments[3];
        let report = scene.archive.prune(Lsn(first.0 + 3), PruneGaps::Refuse).await.unwrap();
        assert_eq!((report.segments, report.first_lsn), (3, first));
        assert_eq!(scene.segments().await, segments[3..]);
        assert!(scene.archive.verify(None, &mut |_| {}).await.unwrap().is_sound());
        let restored = scene.directory("restored");
        restore(&scene.archive, &restored, RestoreTo::Latest).await.unwrap();
        check(&restored, first.0, LAST, |_| 1);
        // All is never dropped: an archiver has to find its place.
        scene.archive.prune(Lsn(LAST + 1), PruneGaps::Refuse).await.unwrap();
        let log = Arc::new(open(&scene.directory("log")));
        append_up_to(&log, 1, LAST + 200);
        log.sync().unwrap();
        archiver(&log, &scene.archive).catch_up().await.unwrap();
        let epochs = scene.archive.list().await.unwrap().epochs;
        assert_eq!((epochs.len(), epochs[0].next_lsn), (1, Lsn(LAST + 201)));
        assert!(epochs[0].fault.is_none());
    });
}
