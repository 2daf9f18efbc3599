//! What of a log the page cache holds, on each file system.

use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;

use mapwal::{Lsn, Options, Visibility};
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::support::file_system::{FileSystem, Kind};
use crate::support::files;
use crate::support::scratch::{append_stamped, contents, stamped};
use crate::support::try_open;

const MIB: u64 = 1 << 20;
const PAGE_BYTES: u64 = 4096;
const SEGMENT_BYTES: u64 = 16 * MIB;
/// Three segments, and most of a fourth.
const APPENDED_BYTES: u64 = 61 * MIB;
const ACTIVE_BYTES: u64 = 8 * MIB;
const LEN: usize = 64 << 10;
/// Half: the follower, which comes after the sync, has brought back the last records of each segment, and file systems read ahead.
const LEFT_MAX_PART: u64 = 2;

/// Bytes of the first `len` of `file` that can be read without a wait for the device.
fn cached_bytes(file: &Path, len: u64) -> u64 {
    let file = File::open(file).unwrap();
    // A read would bring in what comes after it.
    rustix::fs::fadvise(&file, 0, None, Advice::Random).unwrap();
    let is_cached = |&offset: &u64| {
        let mut byte = [0];
        match preadv2(&file, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
            Ok(_) => true,
            Err(Errno::AGAIN) => false,
            Err(error) => panic!("{error}"),
        }
    };
    (0..len).step_by(PAGE_BYTES as usize).filter(is_cached).count() as u64 * PAGE_BYTES
}

/// What the page cache holds of the ended segments of a log, which are three of 16 MiB, and of the first 8 MiB of the
/// one that takes appends, once a follower has seen each record.
fn cached_after_appends(path: &Path, options: &Options) -> (u64, u64) {
    let log = try_open(path, options).unwrap();
    let mut follower = log.follow(Lsn(1), Visibility::Durable).unwrap();
    let count = APPENDED_BYTES / LEN as u64;
    for first in (1..=count).step_by(16) {
        append_stamped(&log, first, LEN, 16.min(count + 1 - first));
        log.sync().unwrap();
        while let Some(record) = follower.next().unwrap() {
            assert_eq!(record.payload(), stamped(record.lsn().0, LEN));
        }
    }
    drop(follower);
    let sealed = log.sealed(0).unwrap();
    assert_eq!(sealed.len(), 3);
    let ended = sealed.iter().map(|segment| cached_bytes(segment.path(), SEGMENT_BYTES)).sum();
    let active = cached_bytes(&files::segment(path, sealed.last().unwrap().number() + 1), ACTIVE_BYTES);
    assert_eq!(contents(&log).len() as u64, count, "nothing is lost with it");
    (ended, active)
}

#[test]
fn what_is_durable_is_let_go_where_the_options_say_so() {
    for kind in [Kind::Ext4, Kind::Ext4WithoutJournal, Kind::Xfs, Kind::Btrfs] {
        let Some(device) = FileSystem::mount(kind, 256) else { return };
        let options = Options::new().segment_size_bytes(SEGMENT_BYTES).first_segment_size_bytes(SEGMENT_BYTES);
        let kept = cached_after_appends(&device.path().join("kept"), &options);
        let left = cached_after_appends(&device.path().join("left"), &options.clone().keep_page_cache(false));
        println!("{kind:?}: of {kept:?} bytes {left:?} are left");
        for (kept, left) in [(kept.0, left.0), (kept.1, left.1)] {
            assert!(left <= kept / LEFT_MAX_PART, "{kind:?}: {left} of {kept}");
        }
    }
}

#[test]
fn ended_segments_are_let_go_however_short_they_are() {
    const SEGMENT_BYTES: u64 = 4 * MIB;
    let Some(device) = FileSystem::mount(Kind::Ext4, 64) else { return };
    let path = device.path().join("log");
    let options = Options::new().segment_size_bytes(SEGMENT_BYTES).first_segment_size_bytes(SEGMENT_BYTES);
    let log = try_open(&path, &options.keep_page_cache(false)).unwrap();
    append_stamped(&log, 1, LEN, 10 * MIB / LEN as u64);
    log.sync().unwrap();
    let sealed = log.sealed(0).unwrap();
    assert_eq!(sealed.len(), 2);
    for segment in &sealed {
        let left = cached_bytes(segment.path(), SEGMENT_BYTES);
        assert!(left <= SEGMENT_BYTES / LEFT_MAX_PART, "{left}");
    }
}
