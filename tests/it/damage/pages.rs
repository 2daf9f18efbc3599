//! A control page that is not as a writer, or a crash, leaves it.

use std::fs;

use mapwal::Lsn;
use mapwal::error::{Corruption, Damage};
use mapwal::inspect::{Inspection, VerifyOptions};

use crate::format::page;
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
    // The magic bytes, the identity, and what has a checksum.
    let identity = [(0, 3), (1, 0), (2, 7)];
    for (word, byte) in identity.into_iter().chain(page::with_checksum().flat_map(|word| [(word, 0), (word, 7)])) {
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
fn a_word_that_is_lost_is_damage_also_in_a_page_that_is_new() {
    let empty = scratch();
    drop(open_small(empty.path()));
    for dir in [closed_log(), empty] {
        let control = dir.path().join("control");
        let whole = fs::read(&control).unwrap();
        assert_eq!(faults(dir.path()), []);
        for word in [0, 1, 2].into_iter().chain(page::with_checksum()) {
            edit(&control, |page| page::put(page, word, &[0]));
            assert_eq!(faults(dir.path()).len(), 1, "word {word}");
            fs::write(&control, &whole).unwrap();
        }
        fs::write(&control, [0; page::LEN]).unwrap();
        assert!(matches!(faults(dir.path())[..], [Corruption { damage: Damage::Magic, offset: 0, .. }]));
    }
}

#[test]
fn a_page_that_is_being_set_up_is_no_damage() {
    let dir = closed_log();
    edit(&dir.path().join("control"), |page| page[..8].copy_from_slice(page::UNFINISHED));
    assert_eq!(faults(dir.path()), []);
    let found = Inspection::open(dir.path()).unwrap();
    assert!(found.durable_lsn().is_some_and(|lsn| lsn > Lsn::ZERO), "as recovery has it");
}
