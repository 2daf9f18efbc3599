//! Logs on an overlay, of which a file becomes another one when it is first opened for writing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mapwal::error::Unsupported;
use mapwal::{Error, Lsn, Visibility};

use crate::support::mounted::Mounted;
use crate::support::scratch::open_small;
use crate::support::wait::until;
use crate::support::{append, open, read_only, small, try_open};

/// An overlay over what `make` leaves in a directory.
fn overlay(options: &str, make: impl FnOnce(&Path)) -> Option<Mounted> {
    let parts = tempfile::tempdir().unwrap();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(parts.path().join(name)).unwrap();
    }
    make(&parts.path().join("lower"));
    Mounted::overlay(parts, options)
}

#[test]
fn a_log_on_an_overlay_is_as_any_other() {
    let Some(mounted) = overlay("", |lower| {
        append(&open_small(&lower.join("log")), 1..=10);
    }) else {
        return;
    };
    let directory = mounted.path().join("log");
    let log = open_small(&directory);
    append(&log, 11..=500);
    log.close().unwrap();
    crate::support::assert_records(&read_only(&directory).unwrap().snapshot().unwrap(), 1, 500);
}

#[test]
fn a_log_on_an_overlay_without_syncs_is_refused_unless_it_is_allowed() {
    let Some(mounted) = overlay(",volatile", |_| {}) else { return };
    let directory = mounted.path().join("log");
    fs::create_dir(&directory).unwrap();
    let refused = try_open(&directory, &small());
    assert!(
        matches!(
            refused,
            Err(Error::UnsupportedFileSystem { file_system: "overlay", reason: Unsupported::SyncsOmitted, .. })
        ),
        "{refused:?}"
    );
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "nothing was made");
    append(&open(&directory, &small().allow_unsupported_file_system(true)), 1..=10);
}

#[test]
fn a_reader_from_before_the_copy_is_told_so_and_not_of_damage() {
    let Some(mounted) = overlay("", |lower| {
        let log = open_small(&lower.join("log"));
        append(&log, 1..=10);
        log.close().unwrap();
    }) else {
        return;
    };
    let directory = mounted.path().join("log");
    let reader = read_only(&directory).unwrap();
    let mut follower = reader.follow(Lsn(1), Visibility::Durable).unwrap();
    // The control page of a closed log tells what is durable.
    let mut seen = 0;
    while follower.next().unwrap().is_some() {
        seen += 1;
    }
    let log = open_small(&directory);
    append(&log, 11..=20);
    log.sync().unwrap();
    until("all records, or an error", || match follower.next_timeout(Duration::from_millis(50)) {
        // It has everything if the file is mapped anew.
        Ok(record) => {
            seen += u64::from(record.is_some());
            seen == 20
        }
        // What it maps is the file that it was, and it says so.
        Err(Error::Displaced { .. }) => true,
        Err(error) => panic!("{error}"),
    });
    crate::support::assert_records(&read_only(&directory).unwrap().snapshot().unwrap(), 1, 20);
}
