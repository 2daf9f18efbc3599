//! khata-rs: one mapped file for each day.

use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use khata_rs::Queue;

use crate::peer::{Facts, Peer, Seen};

/// A file does not grow beyond this, and there is one a day: its default of 64 MiB would not hold the records.
const FILE_LEN: usize = 512 << 20;

pub(crate) struct Khata {
    queue: Queue,
    /// Two writers overwrite each other: src/store.rs, `append`.
    turn: Mutex<()>,
}

impl Peer for Khata {
    const FACTS: Facts = Facts {
        name: "khata-rs",
        // `msync` of the whole mapping: src/store.rs, `flush`.
        syncs: true,
        notes: &[
            "one file a day without rotation, here of 512 MiB",
            "checksums, of 16 bits, are off by default, and `Reader` never compares them (src/reader.rs)",
            // `parse_cycle`, src/cycle.rs: a date alone is no `DateTime`, so no file of a day is ever listed.
            "a reopened queue finds its records only after a writer has opened the file of the day",
        ],
    };
    type Place = u64;

    fn open(directory: &Path) -> Result<Self> {
        let queue = Queue::new(directory).block_size(FILE_LEN).build()?;
        Ok(Self { queue, turn: Mutex::new(()) })
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        let mut writer = self.queue.writer()?;
        for _ in 0..count {
            writer.write(payload)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let _turn = self.turn.lock().expect("no holder panics");
        let mut writer = self.queue.writer()?;
        writer.write(payload)?;
        Ok(writer.flush()?)
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<u64>> {
        let mut writer = self.queue.writer()?;
        let places: Result<Vec<u64>> = (0..count).map(|_| Ok(writer.write(payload)?)).collect();
        writer.flush()?;
        places
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let queue = Self::open(directory)?.queue;
        let _lists_the_file = queue.writer()?;
        let mut reader = queue.reader()?;
        reader.rewind()?;
        while let Some(payload) = reader.read()? {
            seen.see(payload);
        }
        Ok(())
    }

    fn get(&mut self, places: &[u64], seen: &mut Seen) -> Result<()> {
        let mut reader = self.queue.reader()?;
        for &place in places {
            ensure!(reader.seek(place)?, "a record is gone");
            seen.see(reader.read()?.context("a record is gone")?);
        }
        Ok(())
    }
}
