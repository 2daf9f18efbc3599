//! What a damaged log says is not believed before it is checked: opening it and reading it takes no more memory than a
//! sound one may take.
//!
//! A program of its own, since it counts what its allocator is asked for.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use allocation_counter::measure;
use mapwal::{Log, LogReader, Lsn, Options, Result, Snapshot};

const SEGMENT_SIZE_BYTES: u64 = 64 << 10;
const HEADER_LEN: usize = 4096;
const RECORDS: u64 = 12;
/// Each bit, and all.
const MASKS: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 0xff];
/// Of memory that is in use at the same time: the window of 1 MiB through which files are read, whatever their length, and
/// no more than one segment has.
const IN_USE_BYTES_MAX: u64 = (1 << 20) + SEGMENT_SIZE_BYTES;

fn open(path: &Path) -> Result<Log> {
    // SAFETY: the directory is a temporary one of this test, which changes its files only while no log is open.
    unsafe { Log::open(path, &Options::new().segment_size_bytes(SEGMENT_SIZE_BYTES)) }
}

/// How many records there are before the first that is damaged.
fn count(snapshot: Result<Snapshot>) -> usize {
    snapshot.map_or(0, |snapshot| snapshot.iter().map_while(Result::ok).count())
}

/// The most bytes that were in use at one time while the log was opened and read, with the lock and without.
fn bytes_in_use(path: &Path) -> u64 {
    let by_reader = measure(|| {
        // SAFETY: as in `open`.
        let reader = unsafe { LogReader::open(path) };
        assert!(count(reader.and_then(|reader| reader.snapshot())) <= RECORDS as usize);
    });
    let by_log = measure(|| {
        let log = open(path);
        assert!(count(log.and_then(|log| log.snapshot())) <= RECORDS as usize);
    });
    by_reader.bytes_max.max(by_log.bytes_max)
}

/// The paths and bytes of the segments of a log that was dropped with a part of it synced.
fn make(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let log = open(directory).expect("the log opens");
    for number in 1..=RECORDS {
        assert_eq!(log.append(1, &[0xab; 40]).expect("the record is appended"), Lsn(number));
        if number == RECORDS / 2 {
            log.rotate().expect("the log rotates");
            log.sync().expect("the log is synced");
        }
    }
    drop(log);
    read(directory).into_iter().take(2).collect()
}

fn read(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("the directory is readable").map(|entry| entry.expect("an entry"));
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|name| name == "seg"));
    let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).expect("a readable file"))).collect();
    files.sort();
    files
}

/// Makes the segments in `directory` what they were.
fn put_right(directory: &Path, segments: &[(PathBuf, Vec<u8>)]) {
    for (path, _) in read(directory).into_iter().filter(|found| !segments.contains(found)) {
        fs::remove_file(path).expect("the file is removed");
    }
    for (path, bytes) in segments.iter().filter(|(path, _)| !path.exists()) {
        fs::write(path, bytes).expect("the file is written");
    }
}

/// Where header fields and frames are.
fn places(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let end = bytes.iter().rposition(|&byte| byte != 0).expect("not empty") + 1;
    (0..64).chain(HEADER_LEN..end)
}

#[test]
fn no_flipped_bit_makes_an_open_or_a_read_take_memory_by_its_word() {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let dir = made.expect("a temporary directory");
    let segments = make(dir.path());
    let (mut flips, mut most) = (0, 0);
    for (path, bytes) in &segments {
        for (offset, mask) in places(bytes).flat_map(|offset| MASKS.map(|mask| (offset, mask))) {
            let file = File::options().write(true).open(path).expect("the segment is writable");
            file.write_all_at(&[bytes[offset] ^ mask], offset as u64).expect("the byte is changed");
            let in_use = bytes_in_use(dir.path());
            assert!(in_use <= IN_USE_BYTES_MAX, "{}, offset {offset}, mask {mask:#x}: {in_use} bytes", path.display());
            (flips, most) = (flips + 1, most.max(in_use));
            put_right(dir.path(), &segments);
        }
    }
    println!("{flips} flips, at most {most} bytes in use");
    assert!(flips > 5000, "only {flips} flips");
}
