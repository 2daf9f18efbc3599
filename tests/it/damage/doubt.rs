//! What looks like a torn end beside a control page that is damaged: the page could have said that it was durable, so nothing is dropped.
//! And each mixture that a crash leaves of the words of a page is no damage.

use std::fs;
use std::path::{Path, PathBuf};

use mapwal::error::Corruption;
use mapwal::inspect::{Inspection, VerifyOptions};
use mapwal::{Error, Lsn};
use tempfile::TempDir;

use crate::format::page;
use crate::support::files::{self, edit, segment, unchanged};
use crate::support::scratch::{open_small, scratch};
use crate::support::stored;
use crate::support::{append, assert_records, corruption, read_only, small, try_open};

type Change<'c> = dyn Fn(&mut Vec<u8>) + 'c;

/// Of records 1 to 16, the last six of which were synced last. Left without a close, or closed.
fn log(is_closed: bool) -> TempDir {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.sync().unwrap();
    append(&log, 11..=16);
    log.sync().unwrap();
    if is_closed {
        log.close().unwrap();
    } else {
        drop(log);
        let _ = fs::remove_file(segment(dir.path(), 2));
    }
    dir
}

fn copied(from: &Path) -> TempDir {
    let dir = scratch();
    files::copy(from, dir.path());
    dir
}

/// Changes a byte of the last record.
fn damage_last(directory: &Path) {
    let hit = stored::frame_of(directory, 16);
    edit(&segment(directory, 1), |bytes| bytes[hit.offset + 30] ^= 1);
}

/// Every word that is damage if a bit of it changes: magic bytes, identity, and those with a checksum.
fn words() -> impl Iterator<Item = usize> {
    [0, 1, 2].into_iter().chain(page::with_checksum())
}

/// That `found` is damage of the page at `word`, which keeps records from number `next` on from being dropped.
fn assert_refused(found: &Corruption, control: &Path, word: usize, next: u64, what: &str) {
    let at = if word == 2 { 8 } else { 8 * word as u64 };
    assert_eq!((&*found.path, found.offset, found.lsn), (control, at, Some(Lsn(next))), "{what}: {found:?}");
}

/// What is wrong with a log that has no damage but in its control page.
fn told(directory: &Path) -> Vec<(PathBuf, u64)> {
    let report = Inspection::open(directory).unwrap().verify(VerifyOptions::new(), &mut |_| {}).unwrap();
    report.damage.into_iter().map(|damage| (damage.path, damage.offset)).collect()
}

#[test]
fn each_flipped_bit_of_the_page_is_told_and_drops_no_damaged_record() {
    let dir = log(false);
    damage_last(dir.path());
    let control = dir.path().join("control");
    let page = fs::read(&control).unwrap();
    let newest = page::DURABLE.into_iter().max_by_key(|&at| page::values(&page, at, page::DURABLE_WORDS).unwrap()[0]);
    let newest = newest.unwrap();
    for word in words() {
        for bit in 0..64 {
            edit(&control, |page| page[8 * word + bit / 8] ^= 1 << (bit % 8));
            let what = format!("bit {bit} of word {word}");
            unchanged(dir.path(), || {
                let by_open = corruption(try_open(dir.path(), &small()));
                // What the page still says is believed: that the record was durable.
                if by_open.evidence.is_some() {
                    assert_eq!((by_open.path.clone(), by_open.lsn), (segment(dir.path(), 1), Some(Lsn(16))), "{what}");
                } else {
                    assert_refused(&by_open, &control, word, 16, &what);
                }
                let is_needed = word < 3 || (newest..newest + page::DURABLE_WORDS).contains(&word);
                assert!(is_needed || by_open.evidence.is_some(), "{what}: the newest watermark is whole");
                corruption(read_only(dir.path()).and_then(|reader| reader.snapshot().map(|_| ())));
                let place = if word == 2 { 8 } else { 8 * word as u64 };
                assert!(told(dir.path()).contains(&(control.clone(), place)), "{what}");
            });
            fs::write(&control, &page).unwrap();
        }
    }
}

#[test]
fn a_sound_log_opens_whatever_bit_of_the_page_has_flipped() {
    for is_closed in [false, true] {
        let dir = log(is_closed);
        let control = dir.path().join("control");
        let page = fs::read(&control).unwrap();
        for word in words() {
            for bit in [0, 31, 32, 63] {
                edit(&control, |page| page[8 * word + bit / 8] ^= 1 << (bit % 8));
                let place = if word == 2 { 8 } else { 8 * word as u64 };
                assert_eq!(told(dir.path()), [(control.clone(), place)], "bit {bit} of word {word}");
                assert_records(&read_only(dir.path()).unwrap().snapshot().unwrap(), 1, 16);
                let copy = copied(dir.path());
                let log = open_small(copy.path());
                assert_records(&log.snapshot().unwrap(), 1, 16);
                assert_eq!(told(copy.path()), [], "it is made anew");
                fs::write(&control, &page).unwrap();
            }
        }
    }
}

#[test]
fn a_torn_end_is_kept_as_long_as_a_damaged_page_is_there() {
    let other = log(true);
    let dir = log(false);
    damage_last(dir.path());
    let control = dir.path().join("control");
    let of_other = fs::read(other.path().join("control")).unwrap();
    let pages: [(usize, &Change<'_>); 5] = [
        (0, &|page| page.fill(0)),
        (0, &|page| page.truncate(2048)),
        (0, &|page| page.clear()),
        (1, &|page| page.clone_from(&of_other)),
        // Both watermarks, the magic bytes first.
        (0, &|page| page.fill(0xff)),
    ];
    for (word, what) in pages {
        let copy = copied(dir.path());
        let control = copy.path().join("control");
        edit(&control, what);
        unchanged(copy.path(), || {
            assert_refused(&corruption(try_open(copy.path(), &small())), &control, word, 16, "open");
            let by_reader = corruption(read_only(copy.path()).and_then(|reader| reader.snapshot().map(|_| ())));
            assert_refused(&by_reader, &control, word, 16, "reader");
        });
    }
    // The operator says that it does not count.
    fs::remove_file(control).unwrap();
    assert_records(&read_only(dir.path()).unwrap().snapshot().unwrap(), 1, 15);
    assert_records(&open_small(dir.path()).snapshot().unwrap(), 1, 15);
}

#[test]
fn bytes_after_a_frame_whose_commit_word_is_lost_are_kept_as_well() {
    let dir = log(false);
    let hit = stored::frame_of(dir.path(), 16);
    edit(&segment(dir.path(), 1), |bytes| bytes[hit.offset..][..8].fill(0));
    let control = dir.path().join("control");
    edit(&control, |page| page.fill(0));
    assert_refused(&corruption(try_open(dir.path(), &small())), &control, 0, 16, "open");
    let by_reader = corruption(read_only(dir.path()).and_then(|reader| reader.snapshot().map(|_| ())));
    assert_refused(&by_reader, &control, 0, 16, "reader");
}

/// Every mixture of the `count` words from `at` on that are in `old` and in `new`.
fn mixtures(old: &[u8], new: &[u8], at: usize, count: usize) -> Vec<Vec<u8>> {
    let mixed = |mix: u32| {
        let mut page = new.to_vec();
        for word in (at..at + count).filter(|word| mix >> (word - at) & 1 == 0) {
            page::put(&mut page, word, &[page::word(old, word)]);
        }
        page
    };
    (0..1 << count).map(mixed).collect()
}

#[test]
fn each_mixture_of_old_and_new_words_is_one_of_the_watermarks_and_no_damage() {
    let dir = scratch();
    let log = open_small(dir.path());
    let control = dir.path().join("control");
    let read = || fs::read(&control).unwrap();
    let mut pages = Vec::new();
    for number in 1..=5 {
        append(&log, number..=number);
        log.sync().unwrap();
        pages.push(read());
    }
    drop(log);
    let _ = fs::remove_file(segment(dir.path(), 2));
    // The last sync wrote the same place as the one two before it.
    let (old, new) = (&pages[3], &pages[4]);
    let at =
        page::DURABLE.into_iter().find(|&at| (at..at + 7).any(|word| page::word(old, word) != page::word(new, word)));
    let at = at.expect("one of the places");
    let said = [old, new].map(|page| page::durable(page).unwrap()[2]);
    assert_eq!(said, [4, 5]);
    for page in mixtures(old, new, at, page::DURABLE_WORDS) {
        fs::write(&control, &page).unwrap();
        assert_eq!(told(dir.path()), [], "{:x?}", &page[8 * at..][..56]);
        let durable = Inspection::open(dir.path()).unwrap().durable_lsn().unwrap().0;
        assert!(said.contains(&durable), "record {durable}");
        assert_records(&read_only(dir.path()).unwrap().snapshot().unwrap(), 1, 5);
    }
    // As an open takes them: also with a torn end, of what was not durable by then.
    let torn = copied(dir.path());
    let hit = stored::frame_of(torn.path(), 5);
    edit(&segment(torn.path(), 1), |bytes| bytes[hit.offset + 30] ^= 1);
    for page in mixtures(old, new, at, page::DURABLE_WORDS) {
        let copy = copied(torn.path());
        fs::write(copy.path().join("control"), &page).unwrap();
        if page::durable(&page).unwrap()[2] == 5 {
            assert_eq!(corruption(try_open(copy.path(), &small())).path, segment(copy.path(), 1));
        } else {
            assert_records(&open_small(copy.path()).snapshot().unwrap(), 1, 4);
        }
    }
}

#[test]
fn each_mixture_of_old_and_new_words_of_the_close_opens_and_is_no_damage() {
    let dir = log(true);
    let control = dir.path().join("control");
    let closed = fs::read(&control).unwrap();
    let mut open = closed.clone();
    page::put_group(&mut open, page::CLOSED, &[0]);
    let mut elsewhere = closed.clone();
    page::put_group(&mut elsewhere, page::CLOSED, &[3 << 32 | 8192]);
    for (old, new) in [(&closed, &open), (&open, &closed), (&elsewhere, &closed)] {
        for page in mixtures(old, new, page::CLOSED, page::CLOSED_WORDS) {
            let copy = copied(dir.path());
            fs::write(copy.path().join("control"), &page).unwrap();
            assert_eq!(told(copy.path()), []);
            let log = open_small(copy.path());
            assert!(log.recovery().clean);
            assert_records(&log.snapshot().unwrap(), 1, 16);
        }
    }
}

#[test]
fn each_mixture_of_a_page_that_is_set_up_anew_opens() {
    let dir = log(true);
    let control = dir.path().join("control");
    let old = fs::read(&control).unwrap();
    let again = copied(dir.path());
    let log = open_small(again.path());
    append(&log, 17..=18);
    log.sync().unwrap();
    let new = fs::read(again.path().join("control")).unwrap();
    drop(log);
    let changed: Vec<usize> = (0..512).filter(|&word| page::word(&old, word) != page::word(&new, word)).collect();
    assert!(changed.len() > 10, "{changed:?}");
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..200 {
        let mut page = old.clone();
        for &word in changed.iter().filter(|_| random.bool()) {
            page::put(&mut page, word, &[page::word(&new, word)]);
        }
        // The segment is as it was, or has what was appended since: a watermark may be ahead of the first.
        let copy = copied(again.path());
        fs::write(copy.path().join("control"), &page).unwrap();
        assert_eq!(told(copy.path()), []);
        assert!(matches!(try_open(copy.path(), &small()), Ok(log) if log.next_lsn() == Lsn(19)));
    }
    assert!(!matches!(read_only(again.path()), Err(Error::Corrupt(_))));
}
