//! A pin that cannot be written, since the disk of the log is full: what is archived is what makes room.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, Archiver, ArchiverOptions, Error, Status};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use tempfile::TempDir;

use crate::held::take_away;
use crate::hooked::{Call, Hooked};
use crate::rolled_back::{put_back, told};
use crate::support::{PIN, fill, fill_and_seal, keys, open, options, reader, scratch};

/// A file system of a test's own, unmounted when this is dropped.
struct Disk(TempDir);

impl Disk {
    /// `None`, said on standard error, where this process may mount none.
    fn mount() -> Option<Self> {
        let disk = Self(scratch());
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(disk.0.path());
        if command.status().is_ok_and(|status| status.success()) {
            return Some(disk);
        }
        eprintln!("skipped: nothing can be mounted here");
        None
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    /// No byte is free then, and what the pin was before is gone.
    fn fill(&self) {
        fs::remove_file(self.log().join("pins").join(format!("{PIN}.tmp"))).unwrap();
        self.fill_up();
    }

    fn fill_up(&self) {
        let mut ballast = fs::File::options().create(true).append(true).open(self.ballast()).unwrap();
        ballast.write_all(&vec![1; 16 << 20]).unwrap_err();
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

fn each_time() -> ArchiverOptions {
    options().check_interval(Some(Duration::ZERO))
}

fn by(log: &Arc<Log>, store: &Arc<InMemory>, options: ArchiverOptions) -> Archiver {
    Archiver::of_log(Arc::clone(log), Archive::new(Arc::clone(store) as _, "a"), options).unwrap()
}

async fn caught_up(archiver: &Archiver) -> mapwal_archive::Result<Status> {
    let caught_up = tokio::time::timeout(Duration::from_secs(20), archiver.catch_up()).await;
    caught_up.unwrap_or_else(|_| panic!("it waits: {:?}", archiver.status()))
}

/// Archived up to record 301, in epoch 1.
async fn archived(dir: &Path) -> (Arc<InMemory>, Arc<Log>) {
    let (store, log) = (Arc::new(InMemory::new()), open(dir));
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
    }
    by(&log, &store, each_time()).catch_up().await.unwrap();
    (store, log)
}

/// With an error instead, an archiver that waited for room kept the log from having any.
#[tokio::test]
async fn segments_and_parts_are_archived_though_the_pin_cannot_be_moved() {
    for is_restarted in [false, true] {
        let Some(disk) = Disk::mount() else { return };
        let (store, log) = archived(&disk.log()).await;
        let mut archiver = by(&log, &store, each_time());
        archiver.catch_up().await.unwrap();
        for last in [400, 500, 600] {
            fill_and_seal(&log, 1, last);
        }
        fill(&log, 1, 650);
        log.sync().unwrap();
        disk.fill();
        if is_restarted {
            drop(archiver);
            archiver = by(&log, &store, each_time());
        }
        for _ in 0..2 {
            let status = caught_up(&archiver).await.unwrap();
            assert_eq!((status.archived_lsn, status.lag_records, status.failures), (Lsn(651), 0, 0));
            let error = status.pin_error.expect("it is told");
            assert!(error.contains("no space"), "{error}");
            assert_eq!(status.last_error, Some(error));
            assert_eq!(log.pins()[0].lsn, Lsn(301), "it stays where it was");
        }
        disk.make_room();
        let status = caught_up(&archiver).await.unwrap();
        assert_eq!((status.last_error, status.pin_error), (None, None));
        assert_eq!((status.sealed_lsn, log.pins()[0].lsn), (Lsn(601), Lsn(601)));
    }
}

/// The pin would have to go back.
#[tokio::test]
async fn what_is_missing_of_the_archive_is_told_though_the_pin_cannot_be_moved() {
    for is_at_work in [false, true] {
        let Some(disk) = Disk::mount() else { return };
        let (store, log) = archived(&disk.log()).await;
        let archiver = by(&log, &store, each_time());
        archiver.catch_up().await.unwrap();
        fill_and_seal(&log, 1, 400);
        disk.fill();
        let archiver = if is_at_work {
            archiver
        } else {
            drop(archiver);
            by(&log, &store, each_time())
        };
        // A segment is uploaded again.
        let first = keys(&*store).await.into_iter().find(|key| key.as_ref().contains(".seg")).unwrap();
        store.delete(&first).await.unwrap();
        let status = caught_up(&archiver).await.unwrap();
        assert_eq!((status.archived_lsn, status.uploaded_again, status.missing.len()), (Lsn(401), 1, 0));
        // Nothing is there.
        let removed = take_away(&store, "a/").await;
        if is_at_work {
            let error = told(&archiver).await;
            assert!(error.contains("the archive that was here is gone"), "{error}");
        } else {
            let refused = caught_up(&by_another(archiver, &log, &store)).await.unwrap_err();
            assert!(matches!(refused, Error::OtherArchive { epoch: 1, .. }), "{refused}");
        }
        put_back(&store, removed).await;
    }
}

fn by_another(archiver: Archiver, log: &Arc<Log>, store: &Arc<InMemory>) -> Archiver {
    drop(archiver);
    by(log, store, each_time())
}

/// By the first write to the store the disk is full.
fn by_one_that_fills(disk: &Arc<Disk>, log: &Arc<Log>, store: &Arc<InMemory>) -> Archiver {
    let (once, filling) = (std::sync::Once::new(), Arc::clone(disk));
    let hooked = Hooked::new(store, move |call, _| {
        if let Call::Put(_) = call {
            once.call_once(|| filling.fill());
        }
    });
    Archiver::of_log(Arc::clone(log), Archive::new(Arc::new(hooked), "a"), each_time()).unwrap()
}

/// It is known by its token until there is room for its name.
#[tokio::test]
async fn an_epoch_that_the_pin_does_not_name_yet_is_gone_on_with() {
    let Some(disk) = Disk::mount() else { return };
    let (store, log) = (Arc::new(InMemory::new()), open(&disk.log()));
    fill_and_seal(&log, 1, 300);
    let disk = Arc::new(disk);
    let first = by_one_that_fills(&disk, &log, &store);
    let status = caught_up(&first).await.unwrap();
    assert_eq!((status.epoch, status.archived_lsn), (Some(1), Lsn(301)));
    let named = || Archiver::epoch_of(&reader(&disk.log()), PIN).unwrap();
    assert_eq!((named(), log.pins()[0].lsn), (None, Lsn(1)));
    drop(first);
    fill_and_seal(&log, 1, 400);
    // A seal gives back what a segment does not need.
    disk.fill_up();
    let second = by(&log, &store, each_time());
    let status = caught_up(&second).await.unwrap();
    assert_eq!((status.epoch, status.archived_lsn, named()), (Some(1), Lsn(401), None));
    disk.make_room();
    let status = caught_up(&second).await.unwrap();
    assert_eq!((status.last_error, named(), log.pins()[0].lsn), (None, Some(1), Lsn(401)));
}

/// It stays where it is anyway, as long as nothing is sealed.
#[tokio::test]
async fn a_pin_that_does_not_say_yet_whose_it_is_is_told() {
    let Some(disk) = Disk::mount() else { return };
    let (store, log, disk) = (Arc::new(InMemory::new()), open(&disk.log()), Arc::new(disk));
    fill(&log, 1, 50);
    log.sync().unwrap();
    let archiver = by_one_that_fills(&disk, &log, &store);
    for _ in 0..2 {
        let status = caught_up(&archiver).await.unwrap();
        assert_eq!((status.epoch, status.archived_lsn, status.sealed_lsn), (Some(1), Lsn(51), Lsn(1)));
        assert!(status.pin_error.is_some(), "{status:?}");
        assert_eq!(Archiver::epoch_of(&reader(&disk.log()), PIN).unwrap(), None);
    }
    disk.make_room();
    assert_eq!(caught_up(&archiver).await.unwrap().pin_error, None);
    assert_eq!(Archiver::epoch_of(&reader(&disk.log()), PIN).unwrap(), Some(1));
}

/// What is begun under a token that no pin has could not be gone on with.
#[tokio::test]
async fn no_epoch_is_begun_before_the_pin_says_so() {
    let Some(disk) = Disk::mount() else { return };
    let (store, log) = archived(&disk.log()).await;
    disk.fill();
    let before = keys(&*store).await;
    let abandoning = by(&log, &store, each_time().abandon_epoch(Some(1)));
    let error = told(&abandoning).await;
    assert!(error.contains("no space"), "{error}");
    assert_eq!(keys(&*store).await, before);
    disk.make_room();
    assert_eq!(caught_up(&abandoning).await.unwrap().epoch, Some(2));
    // Nor is anything archived without a pin.
    drop(abandoning);
    log.drop_pin(PIN).unwrap();
    disk.fill_up();
    let (store, elsewhere) = (Arc::new(InMemory::new()), options());
    told(&by(&log, &store, elsewhere)).await;
    assert!(keys(&*store).await.is_empty());
}
