//! The pages in memory, which are fewer than there are.

use std::collections::HashMap;
use std::sync::Arc;

use mapwal::{Log, Lsn};

use crate::Failure;
use crate::dirty_pages::DirtyPages;
use crate::page::{Page, Row};
use crate::page_file::PageFile;

/// A cache that writes changed pages when it needs their room, whether their transactions are over or not (*steal*), and
/// at no other time but a checkpoint (*no-force*).
pub(crate) struct BufferPool {
    file: Arc<PageFile>,
    frames: Vec<Frame>,
    frame_count: usize,
    /// The frame of each page in memory.
    places: HashMap<u64, usize>,
    /// The frame that is looked at next when room is needed.
    hand: usize,
    pub(crate) dirty: DirtyPages,
}

struct Frame {
    number: u64,
    page: Box<Page>,
    used_lately: bool,
}

impl BufferPool {
    pub(crate) fn new(file: Arc<PageFile>, frame_count: usize) -> Self {
        let (frames, places) = (Vec::with_capacity(frame_count), HashMap::new());
        Self { file, frames, frame_count, places, hand: 0, dirty: DirtyPages::default() }
    }

    /// Page `number`, brought into memory if it is not there. `log` is made durable as far as a page needs that has to
    /// make room.
    pub(crate) fn page(&mut self, number: u64, log: &Log) -> Result<&Page, Failure> {
        let place = match self.places.get(&number) {
            Some(&place) => place,
            None => self.load(number, log)?,
        };
        let frame = &mut self.frames[place];
        frame.used_lately = true;
        Ok(&frame.page)
    }

    /// Makes the change that record `lsn` tells of.
    pub(crate) fn change(&mut self, number: u64, slot: usize, row: &Row, lsn: Lsn, log: &Log) -> Result<(), Failure> {
        self.page(number, log)?;
        self.frames[self.places[&number]].page.set(slot, row, lsn);
        self.dirty.changed(number, lsn);
        Ok(())
    }

    /// A page as it is now, in memory or in the file; the pages in memory stay the same.
    pub(crate) fn look<T>(&self, number: u64, look: impl FnOnce(&Page) -> T) -> Result<T, Failure> {
        match self.places.get(&number) {
            Some(&place) => Ok(look(&self.frames[place].page)),
            None => Ok(look(&*self.file.read(number)?)),
        }
    }

    /// Writes the pages that have had a change in memory only since before record `lsn`.
    pub(crate) fn write_older_than(&mut self, lsn: Lsn, log: &Log) -> Result<(), Failure> {
        for number in self.dirty.unwritten_before(lsn) {
            self.write(self.places[&number], log)?;
        }
        Ok(())
    }

    fn load(&mut self, number: u64, log: &Log) -> Result<usize, Failure> {
        let page = self.file.read(number)?;
        let frame = Frame { number, page, used_lately: true };
        let place = if self.frames.len() < self.frame_count {
            self.frames.push(frame);
            self.frames.len() - 1
        } else {
            let place = self.make_room(log)?;
            self.frames[place] = frame;
            place
        };
        self.places.insert(number, place);
        Ok(place)
    }

    /// A frame whose page was not used lately and is in the file (the *clock* algorithm).
    fn make_room(&mut self, log: &Log) -> Result<usize, Failure> {
        loop {
            let place = self.hand;
            self.hand = (place + 1) % self.frames.len();
            if std::mem::take(&mut self.frames[place].used_lately) {
                continue;
            }
            let number = self.frames[place].number;
            if self.dirty.is_unwritten(number) {
                self.write(place, log)?;
            }
            self.places.remove(&number);
            return Ok(place);
        }
    }

    fn write(&mut self, place: usize, log: &Log) -> Result<(), Failure> {
        let Frame { number, page, .. } = &mut self.frames[place];
        // Write ahead: no page tells of a record that could still be lost.
        log.wait_durable(page.lsn())?;
        self.file.write(*number, page)?;
        self.dirty.written(*number);
        Ok(())
    }
}
