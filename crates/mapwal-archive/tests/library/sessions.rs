//! The note of a session that vanishes, with everything else there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use mapwal::{Log, Lsn};
use mapwal_archive::{Archive, Archiver, Error, PruneGaps, RestoreOptions, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::hooked::{Call, Hooked, remove};
use crate::rolled_back::{archived, checking, lsns, told};
use crate::support::{
    archiver, bytes_of, catch_up, expected, fill_and_seal, keys, open, options, records, restore, restored, scratch,
};

const SESSION: &str = "a/0000000001/session.json";

async fn has_session(store: &InMemory) -> bool {
    store.head(&Key::from(SESSION)).await.is_ok()
}

fn plain(store: &Arc<InMemory>) -> Archive {
    Archive::new(Arc::clone(store) as _, "a")
}

async fn caught_up(archiver: &Archiver) -> mapwal_archive::Result<mapwal_archive::Status> {
    let caught_up = tokio::time::timeout(Duration::from_secs(20), archiver.catch_up()).await;
    caught_up.unwrap_or_else(|_| panic!("{:?}", archiver.last_error()))
}

#[tokio::test]
async fn a_note_of_the_session_that_has_vanished_is_written_again() {
    let dir = scratch();
    let (store, log) = archived(dir.path(), 1).await;
    let checked = options().check_interval(Some(Duration::ZERO));
    for (options, is_idle, last) in
        [(checked.clone(), true, 920), (checked, false, 1000), (options().check_interval(None), false, 1100)]
    {
        let running = Archiver::of_log(Arc::clone(&log), plain(&store), options).unwrap();
        caught_up(&running).await.unwrap();
        store.delete(&SESSION.into()).await.unwrap();
        if !is_idle {
            fill_and_seal(&log, 1, last);
        }
        let status = caught_up(&running).await.unwrap();
        assert!(has_session(&store).await, "up to {last}");
        assert_eq!((status.epoch, status.archived_lsn, status.failures), (Some(1), Lsn(last + 1), 0));
        assert_eq!(restored(&plain(&store), RestoreTo::Latest).await, expected(1, 1..=last));
    }
}

/// A copy of the log's directory is archived as well: one of both ends, and what they have does not mix.
#[tokio::test]
async fn of_two_archivers_one_ends_though_the_note_of_the_session_vanishes() {
    for is_first_first in [true, false] {
        let (dir, copy) = (scratch(), scratch());
        let (store, log) = archived(dir.path(), 1).await;
        let first = checking(&log, &plain(&store));
        caught_up(&first).await.unwrap();
        copy_log(dir.path(), copy.path());
        let other: Arc<Log> = open(copy.path());
        let second = checking(&other, &plain(&store));
        fill_and_seal(&other, 2, 1000);
        caught_up(&second).await.unwrap();
        store.delete(&SESSION.into()).await.unwrap();
        fill_and_seal(&log, 1, 1000);
        fill_and_seal(&other, 2, 1100);
        let (winner, loser) = if is_first_first { (&first, &second) } else { (&second, &first) };
        caught_up(winner).await.unwrap();
        let refused = caught_up(loser).await;
        // It has begun an epoch of its own, where what is there is the other one's.
        let is_apart = matches!(&refused, Err(Error::Superseded { epoch: 1, .. })) || is_first_first && refused.is_ok();
        assert!(is_apart, "{refused:?}");
        assert!(plain(&store).verify(None, &mut |_| {}).await.unwrap().damaged.is_empty());
        let listed = plain(&store).list().await.unwrap();
        assert!(listed.epochs.iter().all(|epoch| epoch.fault.is_none()), "{:?}", listed.faults);
    }
}

pub(crate) fn copy_log(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy_log(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Its note goes first: an archiver confirms nothing more from then on.
#[tokio::test]
async fn no_note_of_a_session_is_written_in_an_epoch_that_is_being_deleted() {
    for is_prune in [true, false] {
        let dir = scratch();
        let (store, log) = archived(dir.path(), 1).await;
        let archive = plain(&store);
        let running = archiver(&log, &archive);
        caught_up(&running).await.unwrap();
        let note = Key::from("a/0000000001/epoch.json");
        let sound = bytes_of(&*store, &note).await;
        if is_prune {
            let (elsewhere, _) = restore(&archive, RestoreTo::Latest).await.unwrap();
            let newer = open(elsewhere.path());
            for last in [1100, 1200] {
                fill_and_seal(&newer, 2, last);
            }
            catch_up(&newer, &archive).await;
            archive.prune(Lsn(1101), PruneGaps::Refuse).await.unwrap();
            assert!(
                keys(&*store).await.iter().all(|key| !key.as_ref().starts_with("a/0000000001/")),
                "it is forgotten"
            );
            // As where the prune was killed before it deleted that.
            store.put(&note, sound.into()).await.unwrap();
        } else {
            store.delete(&SESSION.into()).await.unwrap();
            store.put(&"a/0000000001/forgotten".into(), "forgotten\n".into()).await.unwrap();
        }
        fill_and_seal(&log, 1, 1000);
        let (before, mut running) = (keys(&*store).await, Some(running));
        for when in ["at work", "when it begins"] {
            let refused = caught_up(&running.take().unwrap_or_else(|| archiver(&log, &archive))).await.unwrap_err();
            let is_told = matches!(refused, Error::Pruned { epoch: 1, .. } if is_prune)
                || matches!(refused, Error::Forgotten { epoch: 1, .. } if !is_prune);
            assert!(is_told, "{when}: {refused}");
            assert_eq!(keys(&*store).await, before, "{when}");
        }
        if is_prune {
            assert_eq!(archive.prune(Lsn(1101), PruneGaps::Refuse).await.unwrap().epochs, 1, "it is made up for");
            assert!(keys(&*store).await.iter().all(|key| !key.as_ref().starts_with("a/0000000001/")));
        }
    }
}

/// An archiver may be at work: what it has confirmed since the epoch was listed is seen before the note of that is deleted, or after it, where
/// another prune has put the note of its session back.
#[tokio::test]
async fn what_is_archived_in_an_epoch_while_a_prune_is_about_to_forget_that_keeps_it() {
    for look in [1, 2] {
        let dir = scratch();
        let (store, log) = archived(dir.path(), 1).await;
        let (elsewhere, _) = restore(&plain(&store), RestoreTo::Latest).await.unwrap();
        let newer = open(elsewhere.path());
        for last in [1100, 1200] {
            fill_and_seal(&newer, 2, last);
        }
        catch_up(&newer, &plain(&store)).await;
        for last in [1000, 1150] {
            fill_and_seal(&log, 1, last);
        }
        catch_up(&log, &plain(&store)).await;
        let is_last = |key: &Key| key.as_ref().starts_with("a/0000000001/00000000000000001001-");
        let last = keys(&*store).await.into_iter().find(is_last).unwrap();
        let (archived, bytes) = (last.clone(), bytes_of(&*store, &last).await);
        store.delete(&last).await.unwrap();
        let session = bytes_of(&*store, &SESSION.into()).await;
        let looks = AtomicUsize::new(0);
        let hooked = Hooked::new(&store, move |call, inner| {
            // After the list by which the epoch is forgotten, or after the one that comes before its note is deleted.
            let is_look = matches!(call, Call::Get(key) if key.as_ref() == "a/0000000001/epoch.json");
            if is_look && looks.fetch_add(1, Ordering::SeqCst) == look {
                inner.put(&archived, bytes.clone().into()).now_or_never().unwrap().unwrap();
            }
        });
        let report = Archive::new(Arc::new(hooked), "a").prune(Lsn(1101), PruneGaps::Refuse).await.unwrap();
        assert_eq!((report.epochs, report.faults), (0, vec![]));
        assert_eq!(bytes_of(&*store, &SESSION.into()).await, session, "its archiver goes on");
        assert_eq!(archiver(&log, &plain(&store)).catch_up().await.unwrap().epoch, Some(1));
        let elsewhere = scratch();
        let of_it = RestoreOptions::new().epoch(Some(1));
        plain(&store).restore(elsewhere.path(), RestoreTo::Latest, &of_it, &mut |_| {}).await.unwrap();
        assert_eq!(records(&open(elsewhere.path())), expected(1, 1001..=1150));
    }
}

/// An archiver that is started, such as one that has just ended because of that: what it confirmed would go with the epoch.
#[tokio::test]
async fn no_archiver_begins_in_an_epoch_that_is_being_forgotten() {
    let mark = || Key::from("a/0000000001/forgotten");
    for is_before in [true, false] {
        let dir = scratch();
        let (store, log) = archived(dir.path(), 1).await;
        fill_and_seal(&log, 1, 1000);
        let hooked = Hooked::new(&store, move |call, inner| {
            if matches!(call, Call::Put(key) if key.as_ref() == SESSION) {
                assert!(!is_before, "the note of the session");
                inner.put(&mark(), "forgotten\n".into()).now_or_never().unwrap().unwrap();
                remove(inner, &SESSION.into());
            }
        });
        if is_before {
            store.put(&mark(), "forgotten\n".into()).await.unwrap();
        }
        let before = keys(&*store).await.len();
        let refused = caught_up(&archiver(&log, &Archive::new(Arc::new(hooked), "a"))).await.unwrap_err();
        assert!(matches!(refused, Error::Forgotten { epoch: 1, .. }), "{refused}");
        assert_eq!(keys(&*store).await.len(), before + usize::from(!is_before), "nothing is uploaded");
        assert_eq!(log.pins()[0].lsn, Lsn(901), "nor confirmed");
    }
}

/// Right before what an archiver writes because an object was there already: that must not be the note that says whose the epoch is.
#[tokio::test]
async fn an_archiver_whose_upload_was_there_already_takes_no_epoch_back() {
    let dir = scratch();
    let (store, log) = archived(dir.path(), 1).await;
    let (segment, bytes, other_note) = {
        fill_and_seal(&log, 1, 1000);
        let apart = Arc::new(InMemory::new());
        Archiver::of_log(Arc::clone(&log), plain(&apart), options().pin("apart")).unwrap().catch_up().await.unwrap();
        let of_it = |key: &Key| lsns(key) == Some((901, 1001)) && key.as_ref().ends_with(".seg");
        let segment = keys(&*apart).await.into_iter().find(of_it).unwrap();
        let bytes = bytes_of(&*apart, &segment).await;
        log.drop_pin("apart").unwrap();
        (segment, bytes, bytes_of(&*apart, &SESSION.into()).await)
    };
    let (is_there, note, uploaded) = (AtomicBool::new(false), other_note.clone(), segment.clone());
    let hooked = Hooked::new(&store, move |call, inner| match call {
        Call::Put(key) if **key == uploaded => {
            inner.put(key, bytes.clone().into()).now_or_never().unwrap().unwrap();
            is_there.store(true, Ordering::SeqCst);
        }
        Call::Put(_) if is_there.swap(false, Ordering::SeqCst) => {
            inner.put(&SESSION.into(), note.clone().into()).now_or_never().unwrap().unwrap();
        }
        _ => {}
    });
    let first = archiver(&log, &Archive::new(Arc::new(hooked), "a"));
    assert_eq!(caught_up(&first).await.unwrap().archived_lsn, Lsn(1001));
    assert_eq!(bytes_of(&*store, &SESSION.into()).await, other_note, "another archiver has the epoch");
    let before: Vec<_> = keys(&*store).await;
    fill_and_seal(&log, 1, 1100);
    let refused = caught_up(&first).await.unwrap_err();
    assert!(matches!(refused, Error::Superseded { epoch: 1, .. }), "{refused}");
    assert_eq!(keys(&*store).await, before, "nothing is left of what was written");
}

/// As where another disk is mounted in the place of the archive's: that may pass.
#[tokio::test]
async fn an_epoch_that_is_another_ones_is_waited_for_where_the_note_of_the_session_is_gone() {
    let (dir, elsewhere) = (scratch(), scratch());
    let (store, log) = archived(dir.path(), 1).await;
    let (other, _) = archived(elsewhere.path(), 1).await;
    let running = archiver(&log, &plain(&store));
    caught_up(&running).await.unwrap();
    let note = Key::from("a/0000000001/epoch.json");
    let (own, session) = (bytes_of(&*store, &note).await, bytes_of(&*store, &SESSION.into()).await);
    store.put(&note, bytes_of(&*other, &note).await.into()).await.unwrap();
    store.delete(&SESSION.into()).await.unwrap();
    fill_and_seal(&log, 1, 1000);
    assert!(told(&running).await.contains("the archive that was here is gone"));
    assert!(!has_session(&store).await);
    for (key, bytes) in [(note, own), (SESSION.into(), session)] {
        store.put(&key, bytes.into()).await.unwrap();
    }
    assert_eq!(caught_up(&running).await.unwrap().archived_lsn, Lsn(1001));
}
