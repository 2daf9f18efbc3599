//! What the pin keeps where nothing says what the archive has, and how far it goes back within its limit.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use mapwal::{Log, Lsn, PinState};
use mapwal_archive::{Archive, Archiver, ArchiverOptions, Error, Status};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as Key;

use crate::hooked::{Call, Hooked};
use crate::rolled_back::{Removed, archived, archived_by, checking, lose, put_back, told};
use crate::support::{PIN, bytes_of, catch_up, fill_and_seal, keys, open, options, reader, scratch};

/// Room for eight segments: half of it is that for the last four.
fn limited() -> ArchiverOptions {
    options().pin_limit_bytes(Some(8 * (64 << 10))).check_interval(Some(Duration::ZERO))
}

fn limit(is_limited: bool) -> ArchiverOptions {
    if is_limited { limited() } else { limited().pin_limit_bytes(None) }
}

fn plain(store: &Arc<InMemory>) -> Archive {
    Archive::new(Arc::clone(store) as _, "a")
}

fn by(log: &Arc<Log>, archive: &Archive, options: ArchiverOptions) -> Archiver {
    Archiver::of_log(Arc::clone(log), archive.clone(), options).unwrap()
}

fn missing(status: &Status) -> Vec<Range<Lsn>> {
    status.missing.iter().map(|missing| missing.lsns.clone()).collect()
}

/// All is trimmed that no pin keeps: the log begins with record `first` then, and so does the pin.
#[track_caller]
pub(super) fn keeps(log: &Log, first: u64, what: &str) {
    let pin = log.pins().remove(0);
    assert_eq!((pin.lsn, pin.state), (Lsn(first), PinState::Reserved), "{what}");
    log.trim_before(log.next_lsn()).unwrap();
    assert_eq!(log.first_lsn(), Lsn(first), "{what}");
}

/// Removes the objects whose keys begin so.
pub(super) async fn take_away(store: &InMemory, begin: &str) -> Removed {
    let mut removed = Vec::new();
    for key in keys(store).await.into_iter().filter(|key| key.as_ref().starts_with(begin)) {
        removed.push((key.clone(), bytes_of(store, &key).await));
        store.delete(&key).await.unwrap();
    }
    assert!(!removed.is_empty(), "{begin}");
    removed
}

/// Nothing says what there is of it.
#[tokio::test]
async fn what_the_log_has_of_an_epoch_that_cannot_be_followed_is_kept_until_it_can_be() {
    for at in 0..24 {
        let (how, is_running, has_gap, is_limited) = (at % 3, at % 2 == 0, at % 4 < 2, at >= 12);
        let name = format!("{how}, running: {is_running}, gap: {has_gap}, limited: {is_limited}");
        let dir = scratch();
        let (store, log) = archived_by(dir.path(), 1, limit(is_limited)).await;
        log.truncate_after(Lsn(850)).unwrap();
        for last in [950, 1000] {
            fill_and_seal(&log, 1, last);
        }
        let running = by(&log, &plain(&store), limit(is_limited));
        assert_eq!(running.catch_up().await.unwrap().epoch, Some(2));
        let mut removed = Vec::new();
        let mut first = if is_limited { 801 } else { 1 };
        if has_gap && !is_limited {
            removed.extend(lose(&store, &(301..=400)).await);
            assert_eq!(missing(&running.catch_up().await.unwrap()), [Lsn(301)..Lsn(401)]);
            first = 301;
            keeps(&log, first, &name);
        }
        match how {
            0 => removed.extend(take_away(&store, "a/0000000001/epoch.json").await),
            1 => removed.extend(take_away(&store, "a/0000000001/").await),
            _ => {
                let note = Key::from("a/0000000001/epoch.json");
                removed.push((note.clone(), bytes_of(&store, &note).await));
                store.put(&note, "{".into()).await.unwrap();
            }
        }
        let running = if is_running {
            running
        } else {
            drop(running);
            by(&log, &plain(&store), limit(is_limited))
        };
        let status = running.catch_up().await.unwrap();
        assert_eq!((status.epoch, status.archived_lsn, status.missing.len()), (Some(2), Lsn(1001), 0), "{name}");
        assert_eq!(status.damaged[0].0, "a/0000000001/epoch.json", "{name}");
        keeps(&log, first, &name);
        fill_and_seal(&log, 1, 1100);
        assert_eq!(running.catch_up().await.unwrap().archived_lsn, Lsn(1101), "{name}: the archive goes on");
        keeps(&log, first, &name);
        put_back(&store, removed).await;
        let status = running.catch_up().await.unwrap();
        assert_eq!((status.missing.len(), status.damaged.len()), (0, 0), "{name}");
        keeps(&log, 1101, &name);
    }
}

/// Of its own records nothing is in question.
#[tokio::test]
async fn what_an_epoch_has_itself_is_not_kept_for_one_before_it_that_cannot_be_followed() {
    let dir = scratch();
    let (store, log) = archived(dir.path(), 1).await;
    log.truncate_after(Lsn(850)).unwrap();
    for last in [950, 1000] {
        fill_and_seal(&log, 1, last);
    }
    catch_up(&log, &plain(&store)).await;
    log.trim_before(Lsn(951)).unwrap();
    take_away(&store, "a/0000000001/").await;
    assert_eq!(checking(&log, &plain(&store)).catch_up().await.unwrap().damaged.len(), 1);
    keeps(&log, 1001, "all of that is archived");
}

#[tokio::test]
async fn a_log_keeps_everything_where_no_archive_is_known_to_be_its_own() {
    for at in 0..6 {
        let (how, is_limited) = (at % 3, at >= 3);
        let dir = scratch();
        let (store, log) = archived_by(dir.path(), 1, limit(is_limited)).await;
        let archive = plain(&store);
        let refused = match how {
            0 => {
                take_away(&store, "a/0000000001/epoch.json").await;
                take_away(&store, "a/0000000001/session.json").await;
                archive.rebuild_note(1, false).await.unwrap();
                by(&log, &archive, limit(is_limited)).catch_up().await.unwrap_err()
            }
            1 => {
                let (elsewhere, other) = (scratch(), Archive::new(Arc::clone(&store) as _, "b"));
                let another = open(elsewhere.path());
                fill_and_seal(&another, 2, 100);
                catch_up(&another, &other).await;
                by(&log, &other, limit(is_limited)).catch_up().await.unwrap_err()
            }
            _ => {
                // As the archive of a log that was restored from this one.
                let other = Archive::new(Arc::clone(&store) as _, "b");
                let (copy, _) = crate::support::restore(&archive, mapwal_archive::RestoreTo::Latest).await.unwrap();
                catch_up(&open(copy.path()), &other).await;
                by(&log, &other, limit(is_limited)).catch_up().await.unwrap_err()
            }
        };
        let is_it =
            matches!(refused, Error::OtherEpoch { .. }) || matches!(refused, Error::OtherLog { .. }) && how == 1;
        assert!(is_it, "{refused}");
        keeps(&log, if is_limited { 601 } else { 1 }, &refused.to_string());
    }
}

/// It is waited for, and other objects may be gone as well.
#[tokio::test]
async fn what_is_not_listed_of_an_epoch_whose_own_note_is_damaged_is_kept() {
    let dir = scratch();
    let (store, log) = archived(dir.path(), 1).await;
    let removed = lose(&store, &(301..=400)).await;
    let note = Key::from("a/0000000001/epoch.json");
    let sound = bytes_of(&store, &note).await;
    store.put(&note, "{".into()).await.unwrap();
    let waiting = checking(&log, &plain(&store));
    assert!(told(&waiting).await.contains("epoch.json"));
    keeps(&log, 301, "what is not listed");
    store.put(&note, sound.into()).await.unwrap();
    assert_eq!(waiting.catch_up().await.unwrap().uploaded_again, removed.len() as u64);
    keeps(&log, 901, "all is there");
}

/// Where it cannot be kept either: the log has trimmed what the pin could not go back to.
#[tokio::test]
async fn what_was_confirmed_is_told_wherever_the_pin_went_back_to() {
    let dir = scratch();
    let (store, log) = archived_by(dir.path(), 1, limited()).await;
    let removed = lose(&store, &(301..=920)).await;
    for attempt in 0..3 {
        let trimmed = Arc::clone(&log);
        let hooked = Hooked::new(&store, move |call, _| {
            if matches!(call, Call::Put(_)) {
                trimmed.trim_before(trimmed.next_lsn()).unwrap();
            }
        });
        let waiting = by(&log, &Archive::new(Arc::new(hooked), "a"), limited());
        let error = told(&waiting).await;
        assert!(error.contains(", and all before record 901 was confirmed: "), "{attempt}: {error}");
        assert!(
            error.ends_with("the log has records from 601 on, which it keeps as far as the pin may, and none before"),
            "{error}"
        );
        keeps(&log, 601, "half of the limit");
    }
    put_back(&store, removed).await;
    assert_eq!(by(&log, &plain(&store), limited()).catch_up().await.unwrap().lag_records, 0);
    keeps(&log, 901, "all is there");
}

/// The pin stays, and what comes after it is confirmed nevertheless.
#[tokio::test]
async fn what_is_confirmed_while_the_pin_keeps_what_is_missing_is_told_as_well() {
    for is_limited in [false, true] {
        let dir = scratch();
        let (store, log) = archived_by(dir.path(), 601, limit(is_limited)).await;
        lose(&store, &(301..=400)).await;
        take_away(&store, "a/0000000001/00000000000000000701-").await;
        flip(dir.path(), 8);
        for last in [1000, 1100] {
            fill_and_seal(&log, 1, last);
            let status = by(&log, &plain(&store), limit(is_limited)).catch_up().await.unwrap();
            assert_eq!(missing(&status), [Lsn(301)..Lsn(401), Lsn(701)..Lsn(801)]);
        }
        keeps(&log, 701, "what is damaged");
        take_away(&store, "a/0000000001/").await;
        let refused = by(&log, &plain(&store), limit(is_limited)).catch_up().await.unwrap_err();
        let Error::OtherArchive { next, .. } = refused else { panic!("{refused}") };
        assert_eq!(next, Lsn(1101), "{is_limited}");
    }
}

/// Damages the log's own copy of a segment.
fn flip(directory: &std::path::Path, number: u64) {
    use std::os::unix::fs::FileExt;
    let path = directory.join(format!("{number:020}.seg"));
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 9000).unwrap();
    file.write_all_at(&[byte[0] ^ 64], 9000).unwrap();
}

/// What is kept in vain must not cost what is not archived so far.
#[tokio::test]
async fn a_pin_that_keeps_what_is_missing_is_not_lost_to_its_limit() {
    let dir = scratch();
    let (store, log) = archived_by(dir.path(), 601, limited()).await;
    take_away(&store, "a/0000000001/00000000000000000701-").await;
    flip(dir.path(), 8);
    let running = by(&log, &plain(&store), limited());
    for last in 10..40 {
        fill_and_seal(&log, 1, last * 100);
        let status = running.catch_up().await.unwrap();
        assert_eq!((status.epoch, status.archived_lsn), (Some(1), Lsn(last * 100 + 1)));
        let pin = log.pins().remove(0);
        assert!(pin.state == PinState::Reserved && (pin.lsn == Lsn(701)) == (last <= 12), "{pin:?}");
        log.trim_before(log.next_lsn()).unwrap();
    }
}

/// An empty directory in the place of a disk that is not mounted: it is waited for, and the log grows.
#[tokio::test]
async fn a_log_whose_archive_is_not_there_keeps_what_its_pin_may_and_what_is_not_archived() {
    for (is_limited, is_often) in [(false, true), (true, true), (true, false)] {
        let dir = scratch();
        let (store, log) = archived_by(dir.path(), 1, limit(is_limited)).await;
        let reader = reader(dir.path());
        for _ in 0..2 {
            Archiver::keep_all(&reader, &limit(is_limited)).unwrap();
            keeps(&log, if is_limited { 601 } else { 1 }, "what the pin may keep");
        }
        for last in 10..14 {
            fill_and_seal(&log, 1, last * 100);
            if is_often || last == 13 {
                Archiver::keep_all(&reader, &limit(is_limited)).unwrap();
            }
            log.trim_before(log.next_lsn()).unwrap();
            let pin = log.pins().remove(0);
            assert!(pin.state == PinState::Reserved && pin.lsn <= Lsn(901), "{pin:?}");
        }
        let status = by(&log, &plain(&store), limit(is_limited)).catch_up().await.unwrap();
        assert_eq!((status.epoch, status.lost, status.archived_lsn), (Some(1), None, Lsn(1301)), "nothing is lost");
        keeps(&log, 1301, "it is there again");
    }
}

#[tokio::test]
async fn a_pin_gets_the_limit_that_is_asked_for_by_now() {
    let dir = scratch();
    let (store, log) = archived_by(dir.path(), 1, limit(false)).await;
    let limits = || log.pins().remove(0).limit_bytes;
    for bytes in [Some(8 << 20), Some(1 << 20), None] {
        let asked = options().pin_limit_bytes(bytes);
        by(&log, &plain(&store), asked.clone()).catch_up().await.unwrap();
        assert_eq!(limits(), bytes);
        log.limit_pin(PIN, Some(7)).unwrap();
        Archiver::keep_all(&reader(dir.path()), &asked).unwrap();
        assert_eq!(limits(), bytes, "also while there is no archive");
    }
}

/// The log trims meanwhile: the pin may hold back more than a limit that is lower only until it has moved on.
#[tokio::test]
async fn a_pin_that_gets_a_lower_limit_is_not_lost_to_it() {
    for attempt in 0..8 {
        let dir = scratch();
        let (_store, log) = archived_by(dir.path(), 1, limit(false)).await;
        let reader = reader(dir.path());
        Archiver::keep_all(&reader, &limit(false)).unwrap();
        fill_and_seal(&log, 1, 1000);
        keeps(&log, 1, "without a limit");
        std::thread::scope(|scope| {
            let trimming = scope.spawn(|| {
                while log.pins()[0].limit_bytes.is_none() || log.first_lsn() == Lsn(1) {
                    log.trim_before(log.next_lsn()).unwrap();
                }
            });
            Archiver::keep_all(&reader, &limit(true)).unwrap();
            trimming.join().unwrap();
        });
        keeps(&log, 701, &format!("half of the limit, attempt {attempt}"));
    }
}

/// What was confirmed may go on further than the log does by now.
#[tokio::test]
async fn a_pin_moves_on_within_a_log_that_was_truncated_before_the_end_of_what_was_confirmed() {
    let dir = scratch();
    let (store, log) = archived_by(dir.path(), 1, limit(false)).await;
    let reader = reader(dir.path());
    Archiver::keep_all(&reader, &limit(false)).unwrap();
    log.truncate_after(Lsn(450)).unwrap();
    // Half of it is less than one segment.
    let limited = options().pin_limit_bytes(Some(64 << 10));
    Archiver::keep_all(&reader, &limited).unwrap();
    keeps(&log, 451, "what is not archived");
    fill_and_seal(&log, 2, 500);
    let status = by(&log, &plain(&store), limited).catch_up().await.unwrap();
    assert_eq!((status.epoch, status.archived_lsn, status.lost), (Some(2), Lsn(501), None));
}

/// What is before that was confirmed in no epoch, though the pin cannot go back to it.
#[tokio::test]
async fn an_epoch_that_begins_before_the_place_that_the_pin_goes_back_to_says_nothing_of_what_is_trimmed() {
    let dir = scratch();
    let (store, log) = archived_by(dir.path(), 1, limited()).await;
    lose(&store, &(301..=920)).await;
    let trimmed = Arc::clone(&log);
    let hooked = Hooked::new(&store, move |call, _| {
        if matches!(call, Call::Put(key) if key.as_ref().ends_with(".seg")) {
            trimmed.trim_before(trimmed.next_lsn()).unwrap();
        }
    });
    let running = by(&log, &Archive::new(Arc::new(hooked), "a"), limited().abandon_epoch(Some(1)));
    let caught_up = tokio::time::timeout(Duration::from_secs(20), running.catch_up()).await;
    let status = caught_up.unwrap_or_else(|_| panic!("{:?}", running.last_error())).unwrap();
    assert_eq!((status.epoch, status.archived_lsn, status.missing.len()), (Some(3), Lsn(921), 0), "{status:?}");
    assert_eq!(status.lost, Some(Lsn(501)..Lsn(601)), "what the log has no more");
}
