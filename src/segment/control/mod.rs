//! The control page: watermarks for followers in other processes. Advisory: it is rebuilt at each open. What it says of
//! what is durable, and of what has been trimmed, has a checksum: a page that is torn, or filled with something else,
//! says nothing.
//!
//! Two words are more than that. The oldest segment retained is made durable before a segment is trimmed: it tells a
//! first segment that was lost from one that was trimmed. It needs no room in the log, so that a log that has filled
//! the disk can be trimmed; and without the page, as in a restored copy, only that distinction is lost. And the
//! position of the close, which is cleared durably before anything may follow: with it a log that was shut down opens
//! without being walked.
//!
//! **Nothing is stored to the mapping, which is for reading**: words are written by system calls. A store to a page of
//! a file system that has shut itself down, is full, or refuses writes is a signal; a write there is an error. Appends
//! only look.

mod activity;
mod channel;
mod durable;
mod layout;
mod making;
mod requests;
mod signed;
mod words;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, compiler_fence, fence};
use std::time::Duration;

use zerocopy::IntoBytes;

use making::{in_memory, make, open_existing, remove};
use signed::{CLOSED_WORDS, WATERMARK_WORDS, group, signed};
use words::{LEN, MAGIC, Said, UNFINISHED, Word, log_id};

pub use activity::Activity;
pub(crate) use channel::Channel;
pub(crate) use requests::{Answer, Outcome, Request};
pub(crate) use words::{ControlState, PageFound, Stated, page_fault, page_of_copy};

use crate::error::{Error, Result};
use crate::events::report;
use crate::format::name;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::SharedWords;
use crate::storage::{self, Access, Storage, StorageFile};

/// Between the counts of one writer's wake-ups and the next one's: those of a thread that comes late do not meet.
const WAKES_APART: u32 = 1 << 16;

/// What recovery may believe of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// The number of the oldest segment retained.
    pub(crate) oldest: Option<u64>,
    /// The number of the segment that took appends, or 0.
    pub(crate) active: u64,
    /// The position of the close with which the log was shut down: nothing follows it.
    pub(crate) closed: Option<Position>,
    /// Up to where the log had been made durable.
    pub(crate) durable: Option<Stated>,
}

/// The mapped page.
#[derive(Debug)]
pub(crate) struct ControlPage {
    words: SharedWords,
    /// `None` if there was no room for one: then the page is in this process's memory, and no other process sees it.
    file: Option<Box<dyn StorageFile>>,
    writable: bool,
    log_id: u128,
    /// It has been removed, or is about to be: what it says does not survive. Changed by one thread at a time. Release, before the page
    /// loses its name; acquire.
    is_removed: AtomicBool,
    /// The last count of wake-ups that this writer has taken for each channel. Relaxed: each is taken once, so that every
    /// one that is written differs from what a follower has seen before, whatever order they are written in.
    wakes: [AtomicU32; 2],
}

impl ControlPage {
    /// The writer's page of the log `log_id`, in the file that followers may have mapped already.
    pub(crate) fn create(storage: &dyn Storage, log_id: u128, oldest: u64) -> Result<Self> {
        let path = storage.path().join(name::CONTROL);
        let failed = |source| storage::failed(storage, "prepare", &path, LEN, source);
        let page = match open_existing(storage, log_id).map_err(failed)? {
            Some(page) if page.take_back_close(storage)? => page,
            _ => match make(storage, log_id, oldest).map_err(failed) {
                // Trimming is what makes room, and does without it.
                Err(Error::NoSpace { .. }) => in_memory(storage, log_id).map_err(failed)?,
                made => made?,
            },
        };
        match page.begin(storage.random(), oldest).map_err(failed) {
            // Where what is written is copied, it takes room to change a page.
            Err(Error::NoSpace { .. }) => {
                remove(storage).map_err(failed)?;
                let page = in_memory(storage, log_id).map_err(failed)?;
                page.begin(storage.random(), oldest).map_err(failed)?;
                Ok(page)
            }
            begun => begun.map(|()| page),
        }
    }

    /// Sets it up for a run of the writer, not yet to be seen.
    fn begin(&self, epoch: u64, oldest: u64) -> io::Result<()> {
        self.set(Word::Magic, UNFINISHED)?;
        self.set(Word::WriterPid, u64::from(std::process::id()))?;
        self.set(Word::Epoch, epoch)?;
        self.set(Word::Poisoned, 0)?;
        self.set_oldest_segment(oldest)
    }

    /// Shows the page, with its first watermarks in place, to followers.
    pub(crate) fn show(&self) -> io::Result<()> {
        self.set(Word::Magic, MAGIC)
    }

    /// What recovery may believe of the page of the log `log_id`; `None` if there is none. One that is there and cannot be looked
    /// at is an error: what it says was trimmed must not come back.
    ///
    /// Also of a page that a writer had not set up before it died: what a page of this log says of these was true.
    pub(crate) fn known(storage: &dyn Storage, log_id: u128) -> Result<Option<Known>> {
        let path = storage.path().join(name::CONTROL);
        let page = Self::map(storage, log_id).map_err(|source| Error::io("read", &path, source))?;
        let Some(said) = page.as_ref().map(Self::said) else { return Ok(None) };
        // One of another log says nothing.
        Ok(Some(Known {
            oldest: said.segment_number(Word::OldestSegment),
            active: said.segment_number(Word::ActiveSegment).unwrap_or(0),
            closed: said.closed(),
            durable: said.durable(),
        }))
    }

    /// A follower's view of the page; `None` if there is none, or not of this log.
    ///
    /// # Errors
    /// When it cannot be looked at: what it says would be missed.
    pub(crate) fn open(storage: &dyn Storage, log_id: u128) -> Result<Option<Self>> {
        let path = storage.path().join(name::CONTROL);
        let page = Self::map(storage, log_id).map_err(|source| Error::io("read", &path, source))?;
        Ok(page.filter(Self::is_shown))
    }

    /// The page that is there, to be looked at as that of the log `log_id`; `None` if there is none, or none that says something.
    fn map(storage: &dyn Storage, log_id: u128) -> io::Result<Option<Self>> {
        // Writable if it may be, to ask for wake-ups; nothing else is written.
        let opened = storage.open(name::CONTROL, Access::Write).map(|file| (file, Access::Write));
        let opened = opened.or_else(|_| storage.open(name::CONTROL, Access::Read).map(|file| (file, Access::Read)));
        let (file, access) = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if file.len_bytes()? != LEN {
            return Ok(None);
        }
        Ok(Some(Self::on(file, access, log_id)?).filter(Self::is_understood))
    }

    /// Whether the page is of a version that is known; another one says nothing.
    fn is_understood(&self) -> bool {
        self.said().is_understood()
    }

    /// Whether it is the page of the log, and no writer is just setting it up. Where the words that say so are damaged, others tell.
    fn is_shown(&self) -> bool {
        match self.get(Word::Magic) {
            UNFINISHED => false,
            MAGIC if self.found_log_id() == self.log_id => true,
            _ => self.said().is_of_log(),
        }
    }

    fn on(file: Box<dyn StorageFile>, access: Access, log_id: u128) -> io::Result<Self> {
        let words = SharedWords::new(file.map(LEN, Access::Read)?);
        let wakes = [Channel::Published, Channel::Durable].map(|channel| {
            let count = words.half(channel.wakes() as usize).load(Ordering::Acquire);
            AtomicU32::new(count.wrapping_add(WAKES_APART))
        });
        Ok(Self {
            words,
            file: Some(file),
            writable: access == Access::Write,
            log_id,
            is_removed: AtomicBool::new(false),
            wakes,
        })
    }

    /// The log that the page says it is of.
    fn found_log_id(&self) -> u128 {
        log_id(|index| self.words.load(index))
    }

    /// Called by one thread at a time. Should it fail, the page says what it said before.
    pub(crate) fn set_durable(&self, lsn: Lsn, position: Position) -> io::Result<()> {
        let number = self.said().watermark().map_or(0, |watermark| watermark.number).wrapping_add(1);
        let place = if number.is_multiple_of(2) { Word::DurableEven } else { Word::DurableOdd };
        self.write(place, group::<WATERMARK_WORDS>(self.log_id, place, &[number, position.0, lsn.0]))
    }

    /// How far the writer has called the log durable; `None` if the page does not say so.
    pub(crate) fn durable(&self) -> Option<Stated> {
        self.said().durable()
    }

    fn said(&self) -> Said<impl Fn(usize) -> u64> {
        Said { log_id: self.log_id, word: |index| self.words.load(index) }
    }

    /// Should it fail, followers find the segment later.
    pub(crate) fn set_active_segment(&self, number: u64) {
        let _ = self.set(Word::ActiveSegment, self.signed(Word::ActiveSegment, number));
    }

    /// An error if the file system takes no writes any more.
    pub(crate) fn check_writable(&self) -> io::Result<()> {
        self.set(Word::WriterPid, u64::from(std::process::id()))
    }

    /// Older segments do not count. Durable with the next [`Self::retain_from`].
    pub(crate) fn set_oldest_segment(&self, number: u64) -> io::Result<()> {
        self.set(Word::OldestSegment, self.signed(Word::OldestSegment, number))
    }

    /// The number of a segment, which has 32 bits, for `word`.
    fn signed(&self, word: Word, number: u64) -> u64 {
        signed(self.log_id, word as usize, number as u32)
    }

    /// What changes when the list of segments may have changed: the writer's run, the oldest segment, and the one that
    /// takes appends.
    pub(crate) fn generation(&self) -> [u64; 3] {
        [Word::Epoch, Word::OldestSegment, Word::ActiveSegment].map(|word| self.get(word))
    }

    /// The number of the oldest segment retained; `None` if the page does not say so.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.said().segment_number(Word::OldestSegment)
    }

    /// The number of the segment that takes appends, or took them last; `None` if the page does not say so.
    pub(crate) fn active_segment(&self) -> Option<u64> {
        self.said().segment_number(Word::ActiveSegment)
    }

    /// Whether what the page says durably counts: it has its name.
    pub(crate) fn has_name(&self) -> bool {
        self.file.is_some() && !self.is_removed.load(Ordering::Acquire)
    }

    /// Whether the page has been lost, so that no other process sees what is written to it.
    pub(crate) fn has_failed(&self) -> bool {
        self.words.has_failed()
    }

    /// Where the file system takes no writes any more, readers elsewhere do not learn of it.
    pub(crate) fn set_poisoned(&self) {
        let _ = self.set(Word::Poisoned, 1);
    }

    /// The writer ends. If `close` is the position of the close, which is durable and tells all that the next one must know,
    /// the page says so from now on. Should it not become durable, the next one has to look.
    pub(crate) fn set_closed(&self, close: Option<Position>) {
        if let Err(error) = self.note_close(close) {
            report!(warn, error = &error as &dyn std::error::Error, "control page cannot be synced");
        }
    }

    fn closed_at(&self, position: u64) -> [u64; CLOSED_WORDS] {
        group(self.log_id, Word::Closed, &[position])
    }

    fn note_close(&self, close: Option<Position>) -> io::Result<()> {
        self.set(Word::WriterPid, 0)?;
        let (Some(close), Some(file)) = (close, &self.file) else { return Ok(()) };
        self.write(Word::Closed, self.closed_at(close.0))?;
        // For programs that go by the time of the last change.
        let _ = file.touch();
        file.sync_mapping(self.words.mapping(), 0..LEN as usize)
    }

    /// Wakes the followers that wait for a record to be published, if there are any. The record's commit word was
    /// stored before.
    ///
    /// The store before and the load here are not ordered by the processor. A follower that waits sets the word, then
    /// has every running thread pass a barrier, then looks for records again: so either this load sees the word, or
    /// that look sees the record (Dekker's algorithm with the barrier on one side only).
    #[inline]
    pub(crate) fn wake_published(&self, storage: &dyn Storage) {
        compiler_fence(Ordering::SeqCst);
        if self.get(Word::PublishedWanted) != 0 {
            self.wake(storage, Channel::Published);
        }
    }

    /// Wakes the followers that wait for a record to become durable, after the watermark was stored.
    pub(crate) fn wake_durable(&self, storage: &dyn Storage) {
        fence(Ordering::SeqCst);
        if self.get(Word::DurableWanted) != 0 {
            self.wake(storage, Channel::Durable);
        }
    }

    /// Wakes all followers: the log begins, or ends, or is truncated.
    pub(crate) fn wake_all(&self, storage: &dyn Storage) {
        self.wake(storage, Channel::Published);
        self.wake(storage, Channel::Durable);
    }

    #[cold]
    #[expect(clippy::host_endian_bytes, reason = "a futex is a number of the machine")]
    fn wake(&self, storage: &dyn Storage, channel: Channel) {
        // Reset first: a follower that sets it again has read the count before, and finds it changed. What cannot be
        // written leaves followers to their time-outs.
        let _ = self.set(channel.wanted(), 0);
        let count = self.wakes[channel as usize].fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let wakes = self.words.half(channel.wakes() as usize);
        match &self.file {
            Some(file) => drop(file.write_at(&count.to_ne_bytes(), offset_of(channel.wakes()))),
            None => wakes.store(count, Ordering::Release),
        }
        storage.wake(wakes);
    }

    /// Waits until the writer wakes the followers of `channel`, or until `timeout`; not at all if `ready`, which is
    /// asked once the wake-up is sure to come. False if the page cannot be written, so that no follower can be woken.
    pub(crate) fn wait(
        &self,
        storage: &dyn Storage,
        channel: Channel,
        timeout: Duration,
        ready: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        let wakes = self.words.half(channel.wakes() as usize);
        let seen = wakes.load(Ordering::Acquire);
        if !self.writable || self.set(channel.wanted(), 1).is_err() {
            return Ok(false);
        }
        fence(Ordering::SeqCst);
        storage.barrier();
        if !ready()? {
            storage.wait(wakes, seen, timeout);
        }
        Ok(true)
    }

    #[inline]
    fn get(&self, word: Word) -> u64 {
        self.words.load(word as usize)
    }

    fn set(&self, word: Word, value: u64) -> io::Result<()> {
        self.write(word, [value])
    }

    /// Writes `words` from `first` on, to the page cache, of which all have mapped the same page.
    fn write<const N: usize>(&self, first: Word, words: [u64; N]) -> io::Result<()> {
        match &self.file {
            Some(file) => return file.write_at(words.map(u64::to_le).as_bytes(), offset_of(first)),
            None => (first as usize..).zip(words).for_each(|(index, word)| self.words.store(index, word)),
        }
        Ok(())
    }
}

fn offset_of(word: Word) -> u64 {
    word as u64 * 8
}

/// The error for a page that cannot be written.
pub(crate) fn write_error(storage: &dyn Storage, source: io::Error) -> Error {
    storage::failed(storage, "write", &storage.path().join(name::CONTROL), LEN, source)
}
