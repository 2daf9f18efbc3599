//! Two archivers at once, objects that are there already, and stores that say too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use mapwal_archive::{Archive, Archiver, Error, ObjectDamage, RestoreOptions, RestoreTo};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use crate::hooked::{Call, Hooked};
use crate::support::{
    archiver, both, bytes_of, catch_up, changed_note, expected, fill, fill_and_seal, memory, open, options, reader,
    restored, scratch, with_suffix,
};

#[tokio::test]
async fn a_second_archiver_of_a_log_is_refused_as_long_as_the_first_lives() {
    let dir = scratch();
    let log = open(dir.path());
    let archive = memory();
    let first = archiver(&log, &archive);
    let here = Archiver::of_log(Arc::clone(&log), archive.clone(), options());
    let elsewhere = Archiver::of_reader(reader(dir.path()), archive.clone(), options());
    for second in [here, elsewhere] {
        assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
    }
    // To another archive, under another pin.
    Archiver::of_log(Arc::clone(&log), memory(), options().pin("other")).unwrap().catch_up().await.unwrap();
    drop(first);
    catch_up(&log, &archive).await;
}

#[tokio::test]
async fn a_second_archiver_to_the_same_archive_is_refused_under_another_pin_as_well() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    catch_up(&log, &archive).await;
    let second = Archiver::of_log(Arc::clone(&log), archive.clone(), options().pin("other")).unwrap();
    let refused = second.catch_up().await.unwrap_err();
    assert!(matches!(&refused, Error::ArchivedAlready { pin, .. } if pin == crate::support::PIN), "{refused}");
    assert_eq!(archive.list().await.unwrap().epochs.len(), 1);
    let pins: Vec<String> = log.pins().into_iter().map(|pin| pin.name).collect();
    assert_eq!(pins, [crate::support::PIN], "one that was refused keeps nothing");
    // In the place of the first one it goes on.
    log.drop_pin(crate::support::PIN).unwrap();
    second.catch_up().await.unwrap();
}

#[tokio::test]
async fn a_pin_that_cannot_have_its_name_is_refused_before_anything_is_made() {
    let dir = scratch();
    let log = open(dir.path());
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    for name in ["", "..", "a/b", "x y"] {
        let refused = Archiver::of_log(Arc::clone(&log), memory(), options().pin(name)).unwrap_err();
        assert!(matches!(refused, Error::Log(mapwal::Error::Pin { .. })), "{refused}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before);
}

/// As where a disk is not mounted any more, under an archiver that is at work.
#[tokio::test]
async fn a_store_that_is_another_one_confirms_nothing() {
    for check in [3600, 0] {
        confirms_nothing_elsewhere(Duration::from_secs(check)).await;
    }
}

async fn confirms_nothing_elsewhere(check: Duration) {
    let (dir, shelf) = (scratch(), scratch());
    let (place, elsewhere) = (shelf.path().join("archive"), shelf.path().join("elsewhere"));
    let archive = Archive::new(Arc::new(mapwal_archive::DirectoryStore::open(&place).unwrap()), "a");
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    let options = options().check_interval(Some(check));
    let archiver = Archiver::of_log(Arc::clone(&log), archive.clone(), options).unwrap();
    archiver.catch_up().await.unwrap();
    std::fs::rename(&place, &elsewhere).unwrap();
    for is_there in [false, true] {
        if is_there {
            std::fs::create_dir(&place).unwrap();
        }
        fill_and_seal(&log, 1, if is_there { 300 } else { 200 });
        let before = archiver.status().failures;
        let tries = async {
            while archiver.status().failures < before + 3 && log.pins()[0].lsn <= mapwal::Lsn(101) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            stopped = archiver.run() => panic!("{stopped:?}"),
            tried = tokio::time::timeout(Duration::from_secs(60), tries) => tried.expect("in a minute"),
        }
        // The check that comes before the next try finds that nothing is there, and has all of the log kept.
        assert_eq!((place.exists(), log.pins()[0].lsn), (is_there, mapwal::Lsn(1)));
    }
    std::fs::remove_dir_all(&place).unwrap();
    std::fs::rename(&elsewhere, &place).unwrap();
    assert_eq!(archiver.catch_up().await.unwrap().sealed_lsn, mapwal::Lsn(301));
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=300));
}

#[tokio::test]
async fn an_archiver_of_a_copy_of_the_directory_takes_over_and_the_first_finds_out_and_stops() {
    let (dir, copy) = (scratch(), scratch());
    let archive = memory();
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    let first = archiver(&log, &archive);
    first.catch_up().await.unwrap();
    copy_all(dir.path(), copy.path());
    let other = open(copy.path());
    fill_and_seal(&other, 2, 200);
    let second = archiver(&other, &archive);
    second.catch_up().await.unwrap();
    fill_and_seal(&log, 1, 150);
    let stopped = first.catch_up().await.unwrap_err();
    assert!(matches!(stopped, Error::Superseded { epoch: 1, .. } | Error::Conflict { .. }), "{stopped}");
    assert_eq!(log.pins()[0].lsn, mapwal::Lsn(101), "what was not confirmed is kept");
}

pub(crate) fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_all(&path, &to);
        } else {
            let copied = std::fs::copy(&path, to);
            // A log that is open gives files their names meanwhile.
            let is_gone = copied.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
            assert!(copied.is_ok() || is_gone && !path.exists(), "{}: {copied:?}", path.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_with_one_origin_that_begin_in_the_same_moment_get_epochs_of_their_own() {
    for _ in 0..20 {
        let archive = memory();
        let dir = scratch();
        let log = open(dir.path());
        fill_and_seal(&log, 1, 10);
        catch_up(&log, &archive).await;
        let (one, _) = crate::support::restore(&archive, RestoreTo::Latest).await.unwrap();
        let (two, _) = crate::support::restore(&archive, RestoreTo::Latest).await.unwrap();
        let (one, two) = (open(one.path()), open(two.path()));
        fill_and_seal(&one, 2, 20);
        fill_and_seal(&two, 3, 20);
        let archive_it = |log: &Arc<mapwal::Log>| {
            let (log, archive) = (Arc::clone(log), archive.clone());
            tokio::spawn(async move { archiver(&log, &archive).catch_up().await.map(|status| status.epoch) })
        };
        let (a, b) = (archive_it(&one), archive_it(&two));
        let mut epochs = [a.await.unwrap().unwrap(), b.await.unwrap().unwrap()];
        epochs.sort_unstable();
        assert_eq!(epochs, [Some(2), Some(3)]);
        let list = archive.list().await.unwrap();
        assert!(list.epochs.iter().all(|epoch| epoch.fault.is_none() && epoch.next_lsn.0 >= 11), "{list:?}");
    }
}

/// Each number has one maker: the later one takes the next.
#[tokio::test]
async fn an_epoch_that_another_archiver_begins_in_the_same_moment_is_left_to_it() {
    let (store, dir) = (Arc::new(InMemory::new()), scratch());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    fill_and_seal(&open(dir.path()), 1, 10);
    catch_up(&open(dir.path()), &archive).await;
    let (again, _) = crate::support::restore(&archive, RestoreTo::Latest).await.unwrap();
    let log = open(again.path());
    fill_and_seal(&log, 2, 20);
    let note = bytes_of(&*store, &"a/0000000001/epoch.json".into()).await;
    let other = changed_note(&note, |note| {
        let (before, after) = note.split_once("\"token\": \"").unwrap();
        format!("{before}\"token\": \"another's{}", &after[after.find('"').unwrap()..])
    });
    let others = other.clone();
    let hooked = Hooked::new(&store, move |call, inner| {
        if matches!(call, Call::Put(key) if key.as_ref() == "a/0000000002/epoch.json") {
            let put = inner.put(&"a/0000000002/epoch.json".into(), others.clone().into()).now_or_never();
            put.expect("memory does not wait").expect("stored");
        }
    });
    let status = archiver(&log, &Archive::new(Arc::new(hooked), "a")).catch_up().await.unwrap();
    assert_eq!(status.epoch, Some(3));
    assert_eq!(bytes_of(&*store, &"a/0000000002/epoch.json".into()).await, other);
    let both = [expected(1, 1..=10), expected(2, 11..=20)].concat();
    assert_eq!(restored(&archive, RestoreTo::Latest).await, both);
}

#[tokio::test]
async fn what_is_there_with_the_same_bytes_is_a_success_and_with_others_is_damaged_and_waited_for() {
    let (_shelf, archives) = both();
    for archive in archives {
        let dir = scratch();
        let log = open(dir.path());
        fill_and_seal(&log, 1, 10);
        let mut running = archiver(&log, &archive);
        running.catch_up().await.unwrap();
        for (last, is_same) in [(20, true), (30, false)] {
            fill_and_seal(&log, 1, last);
            let sealed = log.sealed(last / 10 - 1).unwrap().remove(0);
            let (number, len, sum) = (sealed.number(), sealed.bytes().len(), sealed.checksum());
            let name = format!("{:020}-{:020}-{number:010}-{len:010}-{sum:08x}.seg", last - 9, last + 1);
            let key = archive.prefix().clone().join("0000000001").join(name);
            let mut bytes = sealed.bytes().to_vec();
            *bytes.last_mut().unwrap() ^= u8::from(!is_same);
            put(&archive, &key, bytes).await;
            if is_same {
                running.catch_up().await.unwrap();
                continue;
            }
            let told = async {
                while running.damaged().is_empty() || running.last_error().is_none() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::select! {
                stopped = running.run() => panic!("{stopped:?}"),
                told = tokio::time::timeout(Duration::from_secs(60), told) => told.expect("in a minute"),
            }
            let (damaged, damage) = running.damaged().remove(0);
            assert_eq!(damaged, key.to_string());
            assert!(matches!(damage, ObjectDamage::Checksum { .. }), "{damage}");
            assert_eq!(log.pins()[0].lsn, mapwal::Lsn(21), "it is not confirmed");
            // Nor by the next archiver, though the log has what its key tells of.
            drop(running);
            running = archiver(&log, &archive);
            let tried = tokio::time::timeout(Duration::from_millis(200), running.catch_up()).await;
            assert!(tried.is_err() && log.pins()[0].lsn == mapwal::Lsn(21), "{tried:?}");
            // As it is said.
            archive.store().delete(&key).await.unwrap();
            running.catch_up().await.unwrap();
            assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=30));
        }
    }
}

async fn put(archive: &Archive, key: &object_store::path::Path, bytes: Vec<u8>) {
    archive.store().put(key, bytes.into()).await.unwrap();
}

#[tokio::test]
async fn an_archive_that_has_lost_its_newest_segments_is_told_from_the_log_as_long_as_that_has_them() {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let dir = scratch();
    let log = open(dir.path());
    for last in [100, 200, 300] {
        fill_and_seal(&log, 1, last);
        catch_up(&log, &archive).await;
    }
    for key in &with_suffix(&*store, ".seg").await[1..] {
        store.delete(key).await.unwrap();
    }
    fill(&log, 1, 310);
    log.sync().unwrap();
    catch_up(&log, &archive).await;
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=310), "uploaded again");
    assert_eq!(archive.list().await.unwrap().epochs.len(), 1);
}

#[tokio::test]
async fn a_run_goes_on_until_its_future_is_dropped_and_then_again() {
    let dir = scratch();
    let log = open(dir.path());
    let archive = memory();
    let archiver = Arc::new(archiver(&log, &archive));
    for last in [50, 100, 150] {
        let running = tokio::spawn({
            let archiver = Arc::clone(&archiver);
            async move { archiver.run().await.map(|_| ()) }
        });
        fill_and_seal(&log, 1, last);
        let archived = async {
            while archiver.status().sealed_lsn.0 <= last {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), archived).await.expect("in a minute");
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=150));
}

#[tokio::test]
async fn a_list_that_is_late_is_no_other_history() {
    let store = Arc::new(InMemory::new());
    let archive = Archive::new(Arc::clone(&store) as _, "a");
    let dir = scratch();
    let log = open(dir.path());
    fill_and_seal(&log, 1, 100);
    fill_and_seal(&log, 1, 200);
    catch_up(&log, &archive).await;
    log.trim_before(mapwal::Lsn(201)).unwrap();
    fill_and_seal(&log, 1, 300);
    // The list lacks the newest object, and the log has it no more.
    let key = with_suffix(&*store, ".seg").await.remove(1);
    let bytes = bytes_of(&*store, &key).await;
    store.delete(&key).await.unwrap();
    let archiver = archiver(&log, &archive);
    let told = async {
        while archiver.status().last_error.is_none_or(|error| !error.contains("all before record 201 was confirmed")) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        stopped = archiver.run() => panic!("{stopped:?}"),
        told = tokio::time::timeout(Duration::from_secs(60), told) => told.expect("in a minute"),
    }
    assert!(archiver.status().failures > 0);
    store.put(&key, bytes.into()).await.unwrap();
    archiver.catch_up().await.unwrap();
    assert_eq!(archive.list().await.unwrap().epochs.len(), 1);
    assert_eq!(restored(&archive, RestoreTo::Latest).await, expected(1, 1..=300));
}

/// Between being forked and becoming another program, a child has copies of all open files.
#[tokio::test]
async fn an_archiver_and_a_restore_let_go_of_their_locks_though_processes_are_being_started() {
    let (dir, archive) = (scratch(), memory());
    let log = open(dir.path());
    fill_and_seal(&log, 1, 10);
    catch_up(&log, &archive).await;
    let is_done = Arc::new(AtomicBool::new(false));
    let starting = std::thread::spawn({
        let is_done = Arc::clone(&is_done);
        move || {
            while !is_done.load(Ordering::Relaxed) {
                std::process::Command::new("true").status().expect("a process");
            }
        }
    });
    let mut busy = None;
    for _ in 0..2000 {
        busy = busy.or(Archiver::of_log(Arc::clone(&log), archive.clone(), options()).err());
    }
    let key = with_suffix(&**archive.store(), ".seg").await.remove(0);
    archive.store().put(&key, b"something else".as_slice().into()).await.unwrap();
    let elsewhere = scratch();
    for _ in 0..300 {
        let restored = archive
            .restore(elsewhere.path(), RestoreTo::Latest, &RestoreOptions::new(), &mut |_| {})
            .await
            .unwrap_err();
        busy = busy.or(matches!(restored, Error::Busy { .. }).then_some(restored));
    }
    is_done.store(true, Ordering::Relaxed);
    starting.join().expect("it ends");
    assert!(busy.is_none(), "{busy:?}");
}

/// Each call says so, and not only the first of a while: a look at the status must not take the answer away from the archiver.
#[tokio::test]
async fn an_archiver_ends_when_another_log_is_where_its_own_was() {
    let scratch = scratch();
    let directory = scratch.path().join("log");
    fill_and_seal(&open(&directory), 1, 100);
    let log = reader(&directory);
    let archiver = Archiver::of_reader(reader(&directory), memory(), options()).unwrap();
    archiver.catch_up().await.unwrap();
    std::fs::rename(&directory, scratch.path().join("elsewhere")).unwrap();
    fill_and_seal(&open(&directory), 2, 50);
    let began = std::time::Instant::now();
    while log.published_lsn().is_ok() {
        assert!(began.elapsed() < Duration::from_secs(60), "in vain");
    }
    for _ in 0..3 {
        assert!(matches!(log.published_lsn(), Err(mapwal::Error::Displaced { .. })));
    }
    let looking = async {
        for _ in 0.. {
            archiver.status();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended = tokio::select! {
        ended = archiver.run() => ended.map(|never| match never {}),
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("in vain"),
        () = looking => unreachable!("it goes on"),
    };
    assert!(matches!(ended, Err(Error::Log(mapwal::Error::Displaced { .. }))), "{ended:?}");
}
