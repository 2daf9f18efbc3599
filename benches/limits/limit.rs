//! The limits: what the machine can do with records in the simplest format, without a log around them.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memmap2::{Advice, Mmap, MmapRaw};

/// Length, checksum and number.
const HEADER_LEN: usize = 16;
const BUFFER_LEN: usize = 1 << 20;
const ZEROS: [u8; 4096] = [0; 4096];

/// Bytes that a record takes.
pub(crate) fn record_len(payload_len: usize) -> usize {
    (HEADER_LEN + payload_len).next_multiple_of(8)
}

/// Writes a record to the start of `place`, which is as long as [`record_len`] says.
#[inline]
fn encode(place: &mut [u8], number: u64, payload: &[u8]) {
    store(place, crc32fast::hash(payload), number, payload);
}

/// As [`encode`], with the checksum of the payload.
#[inline]
fn store(place: &mut [u8], sum: u32, number: u64, payload: &[u8]) {
    let len = (HEADER_LEN + payload.len()) as u32;
    place[..4].copy_from_slice(&len.to_le_bytes());
    place[4..8].copy_from_slice(&sum.to_le_bytes());
    place[8..HEADER_LEN].copy_from_slice(&number.to_le_bytes());
    place[HEADER_LEN..][..payload.len()].copy_from_slice(payload);
}

/// A new file of `len` zeros in `directory`, without a name. They are written a page at a time, as by a log whose records are synced
/// one by one, so that the page cache holds both alike. (A log that is appended to at once has pages of up to 512 KiB.)
pub(crate) fn zeroed_file(directory: &Path, len: usize) -> File {
    let file = tempfile::tempfile_in(directory).expect("the bench directory is writable");
    for offset in (0..len).step_by(ZEROS.len()) {
        file.write_all_at(&ZEROS, offset as u64).expect("there is room for zeros");
    }
    file.sync_all().expect("the disk takes zeros");
    file
}

/// L2: a mapped file, ready for stores.
pub(crate) struct ReadyMapping {
    map: MmapRaw,
    payload: Vec<u8>,
    count: usize,
}

impl ReadyMapping {
    /// Room for `count` records with `payload`.
    pub(crate) fn new(directory: &Path, count: usize, payload: &[u8]) -> Self {
        let file = zeroed_file(directory, count * record_len(payload.len()));
        let map = MmapRaw::map_raw(&file).expect("a small file can be mapped");
        Self { map, payload: payload.to_owned(), count }
    }

    /// Sees to it that no store faults, whatever has been written back meanwhile.
    pub(crate) fn prepare(&self) {
        #[cfg(target_os = "linux")]
        self.map.advise(Advice::PopulateWrite).expect("the kernel is 5.14 or later");
    }

    /// One thread fills all of it.
    pub(crate) fn fill(&mut self) {
        for number in 0..self.count {
            self.write(number);
        }
    }

    /// L2s: as [`Self::fill`], and the place of each record is taken with a compare-and-swap, once its checksum is known.
    pub(crate) fn fill_swapping(&mut self) {
        let taken = AtomicU64::new(0);
        let len = record_len(self.payload.len()) as u64;
        for number in 0..self.count {
            let payload = black_box(&self.payload[..]);
            let sum = crc32fast::hash(payload);
            let offset = taken.load(Ordering::Relaxed);
            // No other thread takes part, so that it does not fail.
            let _ = taken.compare_exchange(offset, offset + len, Ordering::AcqRel, Ordering::Relaxed);
            store(self.place(offset as usize, payload.len()), sum, number as u64, payload);
        }
    }

    /// As [`Self::fill`], with payloads of `lens` over and over, none of them longer than those it was made for. Returns
    /// how many records that are.
    pub(crate) fn fill_with(&mut self, lens: &[usize]) -> usize {
        let total = self.count * record_len(self.payload.len());
        let (mut offset, mut count) = (0, 0);
        for &len in lens.iter().cycle() {
            if offset + record_len(len) > total {
                break;
            }
            self.write_at(offset, count, len);
            offset += record_len(len);
            count += 1;
        }
        count as usize
    }

    /// One of several threads that fill it together: what they share is the number of the next record.
    pub(crate) fn fill_together(&self, next: &AtomicUsize) {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.count {
                return;
            }
            self.write(number);
        }
    }

    /// Writes record `number`, which is below the count. Nobody else writes this one meanwhile.
    #[inline]
    fn write(&self, number: usize) {
        self.write_at(number * record_len(self.payload.len()), number as u64, self.payload.len());
    }

    /// Writes a record to `offset`, where it has room. Nobody else writes there meanwhile.
    #[inline]
    fn write_at(&self, offset: usize, number: u64, payload_len: usize) {
        encode(self.place(offset, payload_len), number, black_box(&self.payload[..payload_len]));
    }

    /// Room for a record at `offset`, which only the caller has.
    #[expect(unsafe_code, reason = "threads write to one mapping")]
    #[expect(clippy::mut_from_ref, reason = "each caller has a place of its own")]
    #[inline]
    fn place(&self, offset: usize, payload_len: usize) -> &mut [u8] {
        let len = record_len(payload_len);
        assert!(offset + len <= self.map.len(), "there is room for the record");
        // SAFETY: the record lies in the mapping.
        let start = unsafe { self.map.as_mut_ptr().add(offset) };
        // SAFETY: as above; nobody refers to this record's bytes but the one caller that has this place.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }
}

/// L2p: a buffer and a file that grows. Returns how many records make up `total` bytes, and how long the longest write took.
pub(crate) fn write_buffered(directory: &Path, total: usize, payload: &[u8]) -> (usize, Duration) {
    let file = tempfile::tempfile_in(directory).expect("the bench directory is writable");
    let len = record_len(payload.len());
    let mut buffer = vec![0; BUFFER_LEN];
    let (mut filled, mut offset) = (0, 0);
    let mut longest = Duration::ZERO;
    let mut write = |part: &[u8], offset| {
        let began = Instant::now();
        file.write_all_at(part, offset).expect("there is room");
        longest = longest.max(began.elapsed());
    };
    let count = total / len;
    for number in 0..count {
        if filled + len > buffer.len() {
            write(&buffer[..filled], offset);
            offset += filled as u64;
            filled = 0;
        }
        encode(&mut buffer[filled..filled + len], number as u64, black_box(payload));
        filled += len;
    }
    write(&buffer[..filled], offset);
    (count, longest)
}

/// L3: a file of zeros that is overwritten and synced record by record.
pub(crate) struct SyncedFile {
    file: File,
    record: Vec<u8>,
    len: u64,
    offset: u64,
}

impl SyncedFile {
    pub(crate) fn new(directory: &Path, len: usize, payload_len: usize) -> Self {
        let file = zeroed_file(directory, len);
        Self { file, record: vec![0; record_len(payload_len)], len: len as u64, offset: 0 }
    }

    pub(crate) fn commit(&mut self, payload: &[u8]) {
        encode(&mut self.record, self.offset, payload);
        if self.offset + self.record.len() as u64 > self.len {
            self.offset = 0;
        }
        self.file.write_all_at(&self.record, self.offset).expect("the file has room");
        self.file.sync_data().expect("the disk takes it");
        self.offset += self.record.len() as u64;
    }
}

/// L3m: a mapping of a file of zeros, to which records are copied and synced one by one with `msync`.
pub(crate) struct SyncedMapping {
    map: MmapRaw,
    record: Vec<u8>,
    offset: usize,
}

impl SyncedMapping {
    pub(crate) fn new(directory: &Path, len: usize, payload_len: usize) -> Self {
        let map = MmapRaw::map_raw(&zeroed_file(directory, len)).expect("a small file can be mapped");
        #[cfg(target_os = "linux")]
        map.advise(Advice::PopulateWrite).expect("the kernel is 5.14 or later");
        Self { map, record: vec![0; record_len(payload_len)], offset: 0 }
    }

    #[expect(unsafe_code, reason = "a store to a mapping is")]
    pub(crate) fn commit(&mut self, payload: &[u8]) {
        let len = self.record.len();
        encode(&mut self.record, self.offset as u64, payload);
        if self.offset + len > self.map.len() {
            self.offset = 0;
        }
        let place = self.map.as_mut_ptr().wrapping_add(self.offset);
        // SAFETY: the record lies in the mapping, as the lines above see to, and nothing else refers to it.
        unsafe { std::ptr::copy_nonoverlapping(self.record.as_ptr(), place, len) };
        let start = self.offset / ZEROS.len() * ZEROS.len();
        self.map.flush_range(start, self.offset + len - start).expect("the disk takes it");
        self.offset += len;
    }
}

/// A file of `count` records in `directory`, under a name, written through a buffer.
pub(crate) fn write_records(path: &Path, count: usize, payload: &[u8]) {
    let file = File::create(path).expect("the bench directory is writable");
    let len = record_len(payload.len());
    let per_buffer = BUFFER_LEN / len;
    let mut buffer = vec![0; per_buffer * len];
    for first in (0..count).step_by(per_buffer) {
        let batch = per_buffer.min(count - first);
        for (at, place) in buffer.chunks_exact_mut(len).take(batch).enumerate() {
            encode(place, (first + at) as u64, payload);
        }
        file.write_all_at(&buffer[..batch * len], (first * len) as u64).expect("there is room");
    }
    file.sync_all().expect("the disk takes it");
}

/// L5: maps the file, walks it and checks each record; returns how many there are.
pub(crate) fn walk(path: &Path) -> usize {
    let map = map(&File::open(path).expect("it was written before"));
    let mut rest = &map[..];
    let mut count = 0;
    while let Some((header, _)) = rest.split_first_chunk::<HEADER_LEN>() {
        let (len, crc) = (word(&header[..4]), word(&header[4..8]));
        let payload = &rest[HEADER_LEN..len as usize];
        assert_eq!(crc32fast::hash(payload), crc, "record {count}");
        black_box(payload);
        rest = &rest[(len as usize).next_multiple_of(8)..];
        count += 1;
    }
    count
}

/// L5s: maps the segments of the log in `directory` one by one, walks their frames and checks each frame's checksum;
/// returns how many frames there are. Layouts as in `docs/design/format.md`.
pub(crate) fn walk_segments(directory: &Path) -> usize {
    const SEGMENT_HEADER_LEN: usize = 4096;
    const SALT_OFFSET: usize = 12;
    const FRAME_HEADER_LEN: usize = 24;
    let entries = std::fs::read_dir(directory).expect("the log is there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the directory can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    let mut count = 0;
    for path in paths {
        let map = map(&File::open(path).expect("it was there just now"));
        let salt = word(&map[SALT_OFFSET..][..4]);
        let mut rest = &map[SEGMENT_HEADER_LEN..];
        while rest.len() > FRAME_HEADER_LEN && word(&rest[..4]) != 0 {
            let (len, crc) = (word(&rest[..4]), word(&rest[4..8]));
            let payload = &rest[FRAME_HEADER_LEN..len as usize];
            let sum = long(&rest[8..16]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let sum = sum.wrapping_add(long(&rest[16..24]).wrapping_mul(0xc2b2_ae3d_27d4_eb4f));
            assert_eq!(crc32fast::hash(payload) ^ (sum >> 32) as u32 ^ salt ^ len, crc, "frame {count}");
            black_box(payload);
            rest = &rest[(len as usize).next_multiple_of(8)..];
            count += 1;
        }
    }
    count
}

/// L6: a mapped file of records of one length, all of whose pages are there.
pub(crate) struct MappedRecords {
    map: Mmap,
    record_len: usize,
}

impl MappedRecords {
    pub(crate) fn new(path: &Path, payload_len: usize) -> Self {
        let map = map(&File::open(path).expect("it was written before"));
        #[cfg(target_os = "linux")]
        map.advise(Advice::PopulateRead).expect("the kernel is 5.14 or later");
        Self { map, record_len: record_len(payload_len) }
    }

    /// The payload of the record at `index`, as long as its header says.
    #[inline]
    pub(crate) fn payload(&self, index: usize) -> &[u8] {
        let record = &self.map[index * self.record_len..];
        let len = word(&record[..4]) as usize;
        &record[HEADER_LEN..len]
    }
}

fn long(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

#[expect(unsafe_code, reason = "mapping a file is")]
pub(crate) fn map(file: &File) -> Mmap {
    // SAFETY: the file is in a temporary directory of this program, which does not change it any more.
    unsafe { Mmap::map(file) }.expect("a small file can be mapped")
}
