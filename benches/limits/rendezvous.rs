//! Lg: threads that meet, of whom the last one does what all of them wait for, with nothing between them but one word.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use rustix::thread::futex::{self, Flags};

use crate::limit::{record_len, zeroed_file};

/// How much of the file is overwritten, again and again.
const FILE_LEN: usize = 64 << 20;

/// A file, and as many threads as write a record each to it and wait until all are durable.
pub(crate) struct Rendezvous {
    file: File,
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
        Self { file: zeroed_file(directory, FILE_LEN), records, threads: threads as u32, arrived, round }
    }

    /// All of them meet `rounds` times; how many records a second are durable.
    pub(crate) fn rate(&self, rounds: usize) -> f64 {
        let barrier = Barrier::new(self.threads as usize + 1);
        let began = std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    barrier.wait();
                    (0..rounds).for_each(|_| self.meet());
                });
            }
            barrier.wait();
            Instant::now()
        });
        f64::from(self.threads) * rounds as f64 / began.elapsed().as_secs_f64()
    }

    fn meet(&self) {
        let round = self.round.load(Ordering::Acquire);
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

    /// The records of all, in one write and one sync.
    fn write(&self, round: u32) {
        let places = FILE_LEN / self.records.len();
        let place = round as usize % places * self.records.len();
        self.file.write_all_at(&self.records, place as u64).expect("the file has room");
        self.file.sync_data().expect("the disk takes it");
    }
}
