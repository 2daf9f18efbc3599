//! seglog: one file of a fixed size, written through a buffer.

use std::path::{Path, PathBuf};

use anyhow::Result;
use seglog::read::{ReadHint, Reader};
use seglog::write::Writer;
use std::sync::Mutex;

use crate::peer::{self, Facts, Peer, Seen};
use crate::stream::MIB;

/// It does not rotate: its one file must hold everything.
const FILE_LEN: usize = 512 << 20;
/// As much as is streamed at most, and a commit after each few KiB.
const STREAM_FILE_LEN: usize = 160 * MIB;
const FILE: &str = "segment.log";
/// Records between two commits, when it is filled.
const BATCH: usize = 1000;

pub(crate) struct Seglog {
    path: PathBuf,
    writer: Mutex<Writer<0>>,
    reader: Option<Reader<0>>,
}

impl Peer for Seglog {
    const FACTS: Facts = Facts {
        name: "seglog",
        // `sync_data`: src/write.rs, `Writer::sync`.
        syncs: true,
        notes: &[
            "one file without rotation, here of 512 MiB, and for streams of 160 MiB",
            "records without a commit after them are dropped when it is opened (src/walk.rs)",
        ],
    };
    type Place = u64;

    fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let writer =
            if path.exists() { Writer::open(&path, FILE_LEN, 0)? } else { Writer::create(&path, FILE_LEN, 0)? };
        Ok(Self { path, writer: Mutex::new(writer), reader: None })
    }

    fn append(&mut self, payload: &[u8], count: usize) -> Result<()> {
        let writer = self.writer.get_mut().expect("no holder panics");
        for _ in 0..count {
            writer.append_data(payload)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let mut writer = self.writer.lock().expect("no holder panics");
        let (offset, _) = writer.append_data(payload)?;
        writer.commit(offset)?;
        Ok(())
    }

    fn fill(&mut self, payload: &[u8], count: usize) -> Result<Vec<u64>> {
        let writer = self.writer.get_mut().expect("no holder panics");
        let mut places = Vec::with_capacity(count);
        while places.len() < count {
            for _ in 0..BATCH.min(count - places.len()) {
                places.push(writer.append_data(payload)?.0);
            }
            writer.commit(places.len() as u64)?;
        }
        self.reader = Some(Reader::open_read_only(&self.path, Some(writer.flushed_offset()))?);
        Ok(places)
    }

    fn scan(directory: &Path, seen: &mut Seen) -> Result<()> {
        let writer = Self::open(directory)?.writer.into_inner().expect("no holder panics");
        let mut reader = Reader::<0>::open_read_only(directory.join(FILE), Some(writer.flushed_offset()))?;
        let mut records = reader.iter(0);
        while let Some(record) = records.next_record()? {
            seen.see(&record.data);
        }
        Ok(())
    }

    fn get(&mut self, places: &[u64], seen: &mut Seen) -> Result<()> {
        let reader = self.reader.as_mut().expect("a log that is read from was filled before");
        for &place in places {
            seen.see(&reader.read_record(place, ReadHint::Random)?.data);
        }
        Ok(())
    }
}

pub(crate) struct Stream(Writer<0>);

impl peer::Stream for Stream {
    type Mark = ();

    fn open(directory: &Path, _sync_bytes: usize) -> Result<Self> {
        Ok(Self(Writer::create(directory.join(FILE), STREAM_FILE_LEN, 0)?))
    }

    fn append(&mut self, records: &[&[u8]]) -> Result<()> {
        for record in records {
            self.0.append_data(record)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let position = self.0.write_offset();
        self.0.commit(position)?;
        Ok(())
    }
}
