//! writeahead: a thread that writes and syncs what others send to it.

use std::path::Path;

use anyhow::Result;
use futures_executor::{block_on, block_on_stream};
use writeahead::{RecordID, WriteAhead, WriteAheadOptions};

use crate::peer::{Facts, Peer, Seen};

/// Records in a batch, when it is filled.
const BATCH: usize = 1000;

pub(crate) struct WriteAheadLog(WriteAhead);

impl Peer for WriteAheadLog {
    const FACTS: Facts = Facts {
        name: "writeahead",
        // `sync_data`: src/fileio/simple_file.rs.
        syncs: true,
        notes: &[],
    };
    type Place = (u64, u64);

    fn open(directory: &Path) -> Result<Self> {
        let options = WriteAheadOptions { log_dir: directory.to_owned(), ..WriteAheadOptions::default() };
        let mut log = WriteAhead::with_options(options);
        log.start()?;
        Ok(Self(log))
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        block_on(self.0.write_batch(vec![payload.to_vec()]))?;
        Ok(())
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<Self::Place>> {
        let mut places = Vec::with_capacity(count);
        while places.len() < count {
            let batch = vec![payload.to_vec(); BATCH.min(count - places.len())];
            let written: Vec<RecordID> = block_on(self.0.write_batch(batch))?;
            places.extend(written.iter().map(|id| (id.file_id, id.file_offset)));
        }
        Ok(places)
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let log = Self::open(directory)?;
        for record in block_on_stream(log.0.create_stream()?) {
            let (_, payload) = record?;
            seen.see(&payload);
        }
        Ok(())
    }

    fn get(&mut self, places: &[Self::Place], seen: &mut Seen) -> Result<()> {
        for &(file, offset) in places {
            seen.see(&self.0.read(file, offset)?);
        }
        Ok(())
    }
}
