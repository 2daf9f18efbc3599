//! Lg: threads that meet, of whom the last one does what all of them wait for, with nothing between them but two words. Lgm: the same,
//! where each thread stores its own record to a mapping.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use memmap2::MmapRaw;
use rustix::thread::futex::{self, Flags};

use crate::limit::{record_len, zeroed_file};

/// How much of the file is overwritten, again and again.
const FILE_LEN: usize = 64 << 20;
const PAGE_LEN: usize = 4096;

/// A file, and as many threads as write a record each to it and wait until all are durable.
pub(crate) struct Rendezvous {
    file: File,
    /// Where the records go, if they do not go to the file.
    map: Option<MmapRaw>,
    records: Vec<u8>,
    threads: u32,
    arrived: AtomicU32,
    /// How often they have met. What the others sleep on.
    round: AtomicU32,
}

impl Rendezvous {
    pub(crate) fn new(directory: &Path, threads: usize, payload_len: usize) -> Self {
        let records = vec![0x5a; record_len(payload_len) * threads];
        let (arrived, round) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { file: zeroed_file(directory, FILE_LEN), map: None, records, threads: threads as u32, arrived, round }
    }

    /// As [`Self::new`], of threads that store to a mapping of the file.
    pub(crate) fn mapped(directory: &Path, threads: usize, payload_len: usize) -> Self {
        let it = Self::new(directory, threads, payload_len);
        let map = MmapRaw::map_raw(&it.file).expect("a small file can be mapped");
        #[cfg(target_os = "linux")]
        map.advise(memmap2::Advice::PopulateWrite).expect("the kernel is 5.14 or later");
        Self { map: Some(map), ..it }
    }

    /// All of them meet `rounds` times; how many records a second are durable.
    pub(crate) fn rate(&self, rounds: usize) -> f64 {
        let barrier = Barrier::new(self.threads as usize + 1);
        let began = std::thread::scope(|scope| {
            for thread in 0..self.threads as usize {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    (0..rounds).for_each(|_| self.meet(thread));
                });
            }
            barrier.wait();
            Instant::now()
        });
        f64::from(self.threads) * rounds as f64 / began.elapsed().as_secs_f64()
    }

    fn meet(&self, thread: usize) {
        let round = self.round.load(Ordering::Acquire);
        if let Some(map) = &self.map {
            self.store(map, round, thread);
        }
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.write(round);
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            // How many were woken is no matter, and an error would show in the figures.
            let _ = futex::wake(&self.round, Flags::PRIVATE, i32::MAX as u32);
            return;
        }
        while self.round.load(Ordering::Acquire) == round {
            let _ = futex::wait(&self.round, Flags::PRIVATE, round, None);
        }
    }

    /// Where the records of a round go.
    fn place(&self, round: u32) -> usize {
        round as usize % (FILE_LEN / self.records.len()) * self.records.len()
    }

    /// The record of one thread.
    #[expect(unsafe_code, reason = "a store to a mapping is")]
    fn store(&self, map: &MmapRaw, round: u32, thread: usize) {
        let len = self.records.len() / self.threads as usize;
        let record = &self.records[thread * len..][..len];
        let place = self.place(round) + thread * len;
        assert!(place + len <= map.len(), "the file has room");
        // SAFETY: the record lies in the mapping, and no other thread stores there.
        unsafe { std::ptr::copy_nonoverlapping(record.as_ptr(), map.as_mut_ptr().wrapping_add(place), len) };
    }

    /// The records of all, in one sync.
    fn write(&self, round: u32) {
        let place = self.place(round);
        if let Some(map) = &self.map {
            let start = place / PAGE_LEN * PAGE_LEN;
            map.flush_range(start, place + self.records.len() - start).expect("the disk takes it");
            return;
        }
        self.file.write_all_at(&self.records, place as u64).expect("the file has room");
        self.file.sync_data().expect("the disk takes it");
    }
}
