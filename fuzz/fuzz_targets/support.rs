//! A small log to be changed by the fuzzer, and what is read from whatever comes of it.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use mapwal::{Log, LogReader, Lsn, Options, Result, Snapshot, Visibility};
use tempfile::TempDir;

/// The smallest segments.
pub const SEGMENT_BYTES: u64 = 64 << 10;
/// Behind the frames of the specimen nothing but zeros follows: changes fall in front of this.
const USED_BYTES: usize = 8192;

/// Name and bytes of each file.
type Files = Vec<(String, Vec<u8>)>;

pub fn options() -> Options {
    Options::new().segment_size_bytes(SEGMENT_BYTES)
}

/// A directory in memory, where there is a file system for that.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory can be made")
}

pub fn open(path: &Path) -> Result<Log> {
    // SAFETY: the directory is this process's, which changes its files only while no log is open.
    unsafe { Log::open(path, &options()) }
}

/// The files of a log of two segments, which was dropped.
pub fn specimen() -> &'static Files {
    static SPECIMEN: OnceLock<Files> = OnceLock::new();
    SPECIMEN.get_or_init(|| {
        let dir = scratch();
        let log = open(dir.path()).expect("a new log opens");
        let append = |count: usize| (1..=count).for_each(|n| drop(log.append(7, &vec![n as u8; n * 9]).expect("room")));
        append(10);
        log.put_meta(3, b"a slot").expect("room");
        log.sync().expect("nothing fails");
        log.append_batch(&[(1, b"one"), (2, b"two"), (3, b"three")]).expect("room");
        log.rotate().expect("room");
        append(8);
        log.sync().expect("nothing fails");
        drop(log);
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().expect("plain names");
            let bytes = fs::read(entry.path()).expect("it can be read");
            (name, bytes)
        };
        let entries = fs::read_dir(dir.path()).expect("it can be listed");
        let mut files: Files =
            entries.map(|entry| entry.expect("an entry")).filter(|entry| entry.path().is_file()).map(read).collect();
        files.sort();
        files
    })
}

/// Writes `files` into a directory of their own.
pub fn lay_out(files: &Files) -> TempDir {
    let dir = scratch();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).expect("it can be written");
    }
    dir
}

/// Changes segments as `data` says: which of them, where, and up to 15 other bytes, again and again.
pub fn change(files: &mut Files, mut data: &[u8]) {
    let mut segments: Vec<_> = files.iter_mut().filter(|(name, _)| name.ends_with(".seg")).collect();
    while let Some((&[place, low, high], rest)) = data.split_first_chunk() {
        let count = segments.len();
        let (_, bytes) = &mut segments[usize::from(place >> 4) % count];
        let offset = usize::from(u16::from_le_bytes([low, high])) % USED_BYTES;
        let len = usize::from(place & 15).min(rest.len());
        bytes[offset..offset + len].copy_from_slice(&rest[..len]);
        data = &rest[len..];
    }
}

/// Reads all that can be read, by all ways.
pub fn read_all(path: &Path) {
    // SAFETY: as in `open`.
    if let Ok(reader) = unsafe { LogReader::open(path) } {
        read(reader.snapshot());
        if let Ok(mut follower) = reader.follow(reader.first_lsn().unwrap_or(Lsn(1)), Visibility::Published) {
            while let Ok(Some(record)) = follower.next() {
                std::hint::black_box(record.payload());
            }
        }
    }
    let Ok(log) = open(path) else { return };
    read(log.snapshot());
    for slot in 0..16 {
        std::hint::black_box(log.meta(slot));
    }
    // What was opened can be written, and holds what was written when it is opened again.
    if let Ok(lsn) = log.append(1, b"appended")
        && log.sync().is_ok()
    {
        drop(log);
        let record = open(path).and_then(|log| log.get(lsn)).expect("an acknowledged record is there");
        assert_eq!(record.expect("it was not given up").payload(), b"appended");
    }
}

fn read(snapshot: Result<Snapshot>) {
    let Ok(snapshot) = snapshot else { return };
    for record in snapshot.iter() {
        let Ok(record) = record else { break };
        std::hint::black_box((record.lsn(), record.tag(), record.payload()));
    }
    for lsn in snapshot.first_lsn().0..snapshot.next_lsn().0.min(snapshot.first_lsn().0.saturating_add(100)) {
        drop(snapshot.get(Lsn(lsn)));
    }
}
