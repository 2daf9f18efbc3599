//! A control page that is not as a writer, or a crash, leaves it.

use std::fs;

use mapwal::error::{Corruption, Damage};
use mapwal::inspect::{Inspection, VerifyOptions};

use crate::support::files::edit;
use crate::support::scratch::{open_small, scratch};
use crate::support::{assert_records, closed_log, read_only};

/// What an inspection finds wrong.
fn faults(directory: &std::path::Path) -> Vec<Corruption> {
    let found = Inspection::open(directory).unwrap();
    let report = found.verify(VerifyOptions::new(), &mut |_| {}).unwrap();
    let faults: Vec<Corruption> = found.faults().cloned().collect();
    assert_eq!(report.damage, faults);
    faults
}

#[test]
fn a_word_that_no_crash_leaves_is_told_until_the_next_open_makes_the_page_anew() {
    // The magic bytes, the identity, the active segment and the oldest.
    for (word, byte) in [(0, 3), (1, 0), (2, 7), (7, 0), (7, 4), (9, 0), (9, 7)] {
        let dir = closed_log();
        let control = dir.path().join("control");
        edit(&control, |page| page[word * 8 + byte] ^= 4);
        let found = faults(dir.path());
        let [Corruption { path, offset, damage, .. }] = &found[..] else { panic!("word {word}: {found:?}") };
        let place = if word == 2 { 8 } else { word as u64 * 8 };
        assert_eq!((path, *offset), (&control, place), "{damage:?}");
        let is_foreign = matches!(damage, Damage::ForeignPage { .. });
        assert_eq!(is_foreign, [1, 2].contains(&word), "{damage:?}");
        // The records are all there.
        let snapshot = read_only(dir.path()).unwrap().snapshot().unwrap();
        let last = snapshot.next_lsn().0 - 1;
        assert_records(&snapshot, 1, last);
        open_small(dir.path()).close().unwrap();
        assert_eq!(faults(dir.path()), []);
    }
}

#[test]
fn a_page_of_another_length_or_of_another_log_is_told() {
    let (dir, other) = (closed_log(), closed_log());
    let control = dir.path().join("control");
    fs::copy(other.path().join("control"), &control).unwrap();
    assert!(matches!(faults(dir.path())[..], [Corruption { damage: Damage::ForeignPage { .. }, .. }]));
    for len in [0, 8, 4095, 4097] {
        fs::write(&control, vec![0; len]).unwrap();
        let found = faults(dir.path());
        assert!(
            matches!(found[..], [Corruption { damage: Damage::PageLength { found }, .. }] if found == len as u64),
            "{found:?}"
        );
    }
}

#[test]
fn what_a_power_cut_leaves_of_a_page_is_no_damage() {
    let dir = closed_log();
    let control = dir.path().join("control");
    let whole = fs::read(&control).unwrap();
    // Words that have not come to the device are zero in a new page; what is of several words may be there in part.
    for words in [&[0][..], &[1], &[2], &[1, 2], &[5], &[7], &[9], &[80], &[81], &[83, 91], &[96], &[97]] {
        edit(&control, |page| words.iter().for_each(|word| page[word * 8..][..8].fill(0)));
        assert_eq!(faults(dir.path()), [], "{words:?}");
        fs::write(&control, &whole).unwrap();
    }
    fs::write(&control, [0; 4096]).unwrap();
    assert_eq!(faults(dir.path()), []);
    // One that has been made, and not been written to.
    let empty = scratch();
    drop(open_small(empty.path()));
    assert_eq!(faults(empty.path()), []);
}
