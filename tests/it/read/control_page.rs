//! The page of watermarks: whatever it holds, followers hand out records that pass their checks, or an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mapwal::inspect::Inspection;
use mapwal::{Error, Lsn, Visibility};
use tempfile::TempDir;

use crate::format::page;
use crate::support::files::edit;
use crate::support::scratch::{open_small, scratch};
use crate::support::wait::LONG;
use crate::support::{append, assert_record, drain_from, read_only};

/// A log of 1000 durable records that nobody writes, its page, and what is in it.
fn quiet_log() -> (TempDir, PathBuf, Vec<u8>) {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=1000);
    log.trim_before(Lsn(500)).unwrap();
    log.close().unwrap();
    let control = dir.path().join("control");
    let page = fs::read(&control).unwrap();
    (dir, control, page)
}

/// Follows the log from its first record, and checks what comes; returns how many records that are.
fn follow(directory: &Path, visibility: Visibility) -> Result<u64, Error> {
    let began = Instant::now();
    let reader = read_only(directory)?;
    let first = reader.first_lsn()?;
    let mut follower = reader.follow(first, visibility)?;
    let mut next = first.0;
    while let Some(record) = follower.next_timeout(Duration::from_millis(3))? {
        assert_record(&record, next);
        next += 1;
    }
    assert!(began.elapsed() < LONG, "it hangs");
    Ok(next - first.0)
}

#[test]
fn garbage_in_the_page_neither_misleads_nor_stops_followers() {
    let (dir, control, good) = quiet_log();
    let all = follow(dir.path(), Visibility::Durable).unwrap();
    assert!(all > 500);
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..60 {
        let mut page = good.clone();
        // In every third round all words, else all but those that say whose page it is; or the page has another length.
        let from = if round % 3 == 0 { 0 } else { 24 };
        page[from..].fill_with(|| random.u8(..));
        page.truncate(if round % 5 == 0 { random.usize(..4096) } else { 4096 });
        fs::write(&control, &page).unwrap();
        let published = follow(dir.path(), Visibility::Published);
        assert!(matches!(published, Ok(count) if count == all), "round {round}: {published:?}");
        // Nothing says what is durable any more.
        let durable = follow(dir.path(), Visibility::Durable);
        assert!(matches!(durable, Ok(0)), "round {round}: {durable:?}");
    }
    fs::remove_file(&control).unwrap();
    assert_eq!(follow(dir.path(), Visibility::Published).unwrap(), all);
}

#[test]
fn every_word_of_the_page_may_be_wrong() {
    let (dir, control, good) = quiet_log();
    let all = follow(dir.path(), Visibility::Published).unwrap();
    for word in 0..100 {
        for wrong in [0, 1, u64::MAX, u64::MAX >> 1, 1 << 32 | 0xffff_fff8] {
            let mut page = good.clone();
            page[8 * word..8 * word + 8].copy_from_slice(&u64::to_le_bytes(wrong));
            fs::write(&control, &page).unwrap();
            for visibility in [Visibility::Published, Visibility::Durable] {
                let followed = follow(dir.path(), visibility);
                // In the durable one's place a page of another log, or none, says nothing.
                let is_good = matches!(followed, Ok(count) if count == all || visibility == Visibility::Durable);
                assert!(is_good, "word {word}, {wrong:#x}, {visibility:?}: {followed:?}");
            }
        }
    }
}

#[test]
fn a_page_of_another_version_says_nothing_and_is_made_anew() {
    const VERSION: std::ops::Range<usize> = 40..48;
    let (dir, control, good) = quiet_log();
    let known = || Inspection::open(dir.path()).unwrap().durable_lsn();
    let all = follow(dir.path(), Visibility::Published).unwrap();
    let signed = |version: u32| page::signed(&good, 5, version);
    let all_known = Some(Lsn(1000));
    // Without its checksum the word says nothing, of the others neither.
    let own = signed(page::VERSION);
    let cases = [
        (0, all_known),
        (own, all_known),
        (3, all_known),
        (signed(1), None),
        (signed(3), None),
        (signed(u32::MAX), None),
    ];
    for (version, expected) in cases {
        edit(&control, |page| page[VERSION].copy_from_slice(&version.to_le_bytes()));
        assert_eq!(known(), expected, "version {version}");
        let durable = follow(dir.path(), Visibility::Durable).unwrap();
        assert_eq!(durable, if expected.is_some() { all } else { 0 }, "version {version}");
    }
    let log = open_small(dir.path());
    assert_eq!(log.next_lsn(), Lsn(1001));
    log.close().unwrap();
    assert_eq!(fs::read(&control).unwrap()[VERSION], good[VERSION]);
    assert_eq!(known(), Some(Lsn(1000)));
}

#[test]
fn each_flipped_bit_of_the_version_is_damage_and_takes_nothing_from_what_the_page_says() {
    let (dir, control, good) = quiet_log();
    for bit in 0..64 {
        edit(&control, |page| page[40 + bit / 8] ^= 1 << (bit % 8));
        let found = Inspection::open(dir.path()).unwrap();
        let told: Vec<_> = found.faults().map(|fault| (fault.path.clone(), fault.offset)).collect();
        assert_eq!((told, found.durable_lsn()), (vec![(control.clone(), 40)], Some(Lsn(1000))), "bit {bit}");
        fs::write(&control, &good).unwrap();
    }
    // A segment that is gone is missed all the same, also when the log is opened.
    edit(&control, |page| page[42] ^= 1);
    let first = Inspection::open(dir.path()).unwrap().segments()[0].path.clone();
    fs::remove_file(first).unwrap();
    assert!(matches!(read_only(dir.path()), Err(Error::Corrupt(_))));
}

#[test]
fn a_page_of_another_length_says_nothing_and_is_made_anew() {
    let (dir, control, good) = quiet_log();
    for len in [0, good.len() - 8, good.len() + 1, 2 * good.len()] {
        let mut page = good.clone();
        page.resize(len, 0);
        fs::write(&control, &page).unwrap();
        assert_eq!(Inspection::open(dir.path()).unwrap().durable_lsn(), None, "{len} bytes");
        assert_eq!(follow(dir.path(), Visibility::Durable).unwrap(), 0, "{len} bytes");
    }
    open_small(dir.path()).close().unwrap();
    assert_eq!(fs::read(&control).unwrap().len(), good.len());
}

#[test]
fn a_follower_goes_on_when_the_page_is_made_anew() {
    let dir = scratch();
    let log = open_small(dir.path());
    append(&log, 1..=10);
    log.sync().unwrap();
    let mut follower = read_only(dir.path()).unwrap().follow(Lsn(1), Visibility::Durable).unwrap();
    assert_eq!(drain_from(&mut follower, 1), 11);
    log.close().unwrap();
    fs::remove_file(dir.path().join("control")).unwrap();
    let log = open_small(dir.path());
    append(&log, 11..=20);
    log.sync().unwrap();
    for number in 11..=20 {
        assert_record(&follower.next_timeout(LONG).unwrap().expect("it is durable"), number);
    }
}
