//! How much memory a restore takes: counted in a process of its own, since all tests of this one allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mapwal::{Log, Options};
use mapwal_archive::{Archive, DirectoryStore, RestoreOptions, RestoreTo};

use crate::child;
use crate::place::output_in_time;
use crate::tools::{archiver, wait_for};

const SEGMENTS: usize = 6;
const SEGMENT_SIZE: usize = 16 << 20;
const PARALLEL: usize = 2;
const RECORD_LEN: usize = 1 << 20;
/// For each download: the chunk that is written, two that wait, and one that is read; and a record that comes in two chunks.
const BOUND: usize = PARALLEL * ((4 << 20) + RECORD_LEN) + (1 << 20);
const PREFIX: &str = "log";

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as this function's caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as this function's caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn archive(directory: &Path) -> Archive {
    Archive::new(Arc::new(DirectoryStore::open(directory.join("archive")).unwrap()), PREFIX)
}

#[test]
#[ignore = "another test runs it as a process of its own"]
fn restores_and_counts_what_it_allocates() {
    let Some(directory) = child::directory() else { return };
    let archive = archive(&directory);
    let options = RestoreOptions::new().parallel(PARALLEL);
    let before = ALLOCATED.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let target = directory.join("restored");
    let restored = wait_for(archive.restore(&target, RestoreTo::Latest, &options, &mut |_| {}));
    let most = MOST.load(Ordering::Relaxed).saturating_sub(before);
    assert!(restored.unwrap().segments >= SEGMENTS as u64);
    fs::write(directory.join("most"), most.to_string()).unwrap();
}

#[test]
fn a_restore_takes_little_memory_however_large_segments_are() {
    let scratch = tempfile::tempdir().unwrap();
    let size = SEGMENT_SIZE as u64;
    let options = Options::new().segment_size_bytes(size).first_segment_size_bytes(size);
    // SAFETY: the directory is the test's own, and only this log writes to it.
    let log = Arc::new(unsafe { Log::open(scratch.path().join("log"), &options) }.unwrap());
    let payload = vec![7; RECORD_LEN];
    while log.sealed(0).unwrap().len() < SEGMENTS {
        for _ in 0..8 {
            log.append(1, &payload).unwrap();
        }
        log.sync().unwrap();
    }
    wait_for(archiver(&log, &archive(scratch.path())).catch_up()).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let role = "memory::restores_and_counts_what_it_allocates";
    command.args([role, "--exact", "--ignored", "--test-threads=1"]).stdin(Stdio::null());
    let command = child::for_directory(&mut command, scratch.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = output_in_time(command.spawn().unwrap());
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let most: usize = fs::read_to_string(scratch.path().join("most")).unwrap().parse().unwrap();
    assert!(most > 1 << 20 && most <= BOUND, "{most} bytes");
}
