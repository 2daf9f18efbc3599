//! The control page: watermarks for followers in other processes. Advisory: it is rebuilt at each open. What it says of
//! what is durable, and of what has been trimmed, has a checksum: a page that is torn, or that somebody has filled with
//! something else, says nothing.
//!
//! Two words are more than that. The oldest segment retained is made durable before a segment is trimmed: by it a first
//! segment that was lost is told from one that was trimmed. It needs no room in the log, so that a log that has filled
//! the disk can be trimmed; and without the page, as in a restored copy, nothing but that distinction is lost. And the place of
//! the close, which is taken back durably before anything may follow: by it a log that was shut down opens without being walked.

mod words;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};
use std::time::Duration;

use words::{LEN, MAGIC, Said, Watermark, Word, checksum, log_id, signed};

pub(crate) use words::ControlState;

use crate::error::{Error, Result};
use crate::events::report;
use crate::format::name;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::{Mapping, SharedWords};
use crate::sabotage::{Break, is};
use crate::storage::{self, Access, DeviceBuffer, Storage, StorageFile};

/// What followers wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Published,
    Durable,
}

impl Channel {
    fn wanted(self) -> Word {
        match self {
            Self::Published => Word::PublishedWanted,
            Self::Durable => Word::DurableWanted,
        }
    }

    fn wakes(self) -> Word {
        match self {
            Self::Published => Word::PublishedWakes,
            Self::Durable => Word::DurableWakes,
        }
    }
}

/// What recovery may believe of a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// The number of the oldest segment retained.
    pub(crate) oldest: u64,
    /// The number of the segment that took appends, or 0.
    pub(crate) active: u64,
    /// The position of the close with which the log was shut down: nothing follows it.
    pub(crate) closed: Option<Position>,
    /// Up to where the log had been made durable, or zero.
    pub(crate) durable: Position,
}

/// The mapped page.
#[derive(Debug)]
pub(crate) struct ControlPage {
    words: SharedWords,
    /// `None` if there was no room for one: then the page is in this process's memory, and nobody else sees it.
    file: Option<Box<dyn StorageFile>>,
    writable: bool,
    log_id: u128,
    /// It has been removed: what it says does not survive. Changed by one thread at a time.
    is_removed: AtomicBool,
}

impl ControlPage {
    /// The writer's page of the log `log_id`, in the file that followers may have mapped already.
    pub(crate) fn create(storage: &dyn Storage, log_id: u128, oldest: u64) -> Result<Self> {
        let path = storage.path().join(name::CONTROL);
        let failed = |source| storage::failed(storage, "prepare", &path, LEN, source);
        let page = match open_existing(storage, log_id).map_err(failed)? {
            Some(page) if page.take_back_close(storage).map_err(failed)? => page,
            _ => match make(storage, log_id).map_err(failed) {
                // Trimming is what makes room, and does without it.
                Err(Error::NoSpace { .. }) => in_memory(storage, log_id).map_err(failed)?,
                made => made?,
            },
        };
        page.set(Word::Magic, 0);
        page.set(Word::LogIdLow, log_id as u64);
        page.set(Word::LogIdHigh, (log_id >> 64) as u64);
        page.set(Word::WriterPid, u64::from(std::process::id()));
        page.set(Word::Epoch, storage.random());
        page.set(Word::Poisoned, 0);
        page.set(Word::OldestSegment, signed(log_id, oldest));
        Ok(page)
    }

    /// Shows the page, with its first watermarks in place, to followers.
    pub(crate) fn show(&self) {
        self.set(Word::Magic, MAGIC);
    }

    /// What recovery may believe of the page of the log `log_id`; `None` if there is none.
    ///
    /// Also of a page that a writer had not set up before it died: what a page of this log says of these was true.
    pub(crate) fn known(storage: &dyn Storage, log_id: u128) -> Option<Known> {
        let page = Self::map(storage, log_id)?;
        let said = page.said();
        // A word that has not reached the device lacks its checksum, and so does one of another log.
        Some(Known {
            oldest: said.segment_number(Word::OldestSegment)?,
            active: said.segment_number(Word::ActiveSegment).unwrap_or(0),
            closed: said.closed(),
            durable: said.watermark().map_or(Position::ZERO, |watermark| watermark.position),
        })
    }

    /// A follower's view of the page; `None` if there is none, or not of this log.
    pub(crate) fn open(storage: &dyn Storage, log_id: u128) -> Option<Self> {
        let page = Self::map(storage, log_id)?;
        (page.get(Word::Magic) == MAGIC && page.found_log_id() == log_id).then_some(page)
    }

    /// The page that is there, to be looked at as that of the log `log_id`.
    fn map(storage: &dyn Storage, log_id: u128) -> Option<Self> {
        // Writable if it may be, to ask for wake-ups; nothing else is written.
        let open = |access| Some((storage.open(name::CONTROL, access).ok()?, access));
        let (file, access) = open(Access::Write).or_else(|| open(Access::Read))?;
        if file.len_bytes().ok()? != LEN {
            return None;
        }
        let words = SharedWords::new(file.map(LEN, access).ok()?);
        Some(Self {
            words,
            file: Some(file),
            writable: access == Access::Write,
            log_id,
            is_removed: AtomicBool::new(false),
        })
    }

    /// The log that the page says it is of.
    fn found_log_id(&self) -> u128 {
        log_id(|index| self.words.load(index))
    }

    /// Called by one thread at a time.
    pub(crate) fn set_durable(&self, lsn: Lsn, position: Position) {
        let number = self.said().watermark().map_or(0, |watermark| watermark.number).wrapping_add(1);
        let place = if number.is_multiple_of(2) { Word::DurableEven } else { Word::DurableOdd } as usize;
        let words = [number, position.0, lsn.0];
        for (index, word) in (place..).zip(words) {
            self.words.store(index, word);
        }
        self.words.store(place + words.len(), u64::from(checksum(self.log_id, &words)));
    }

    /// The last record that the writer has called durable, and the position up to which it has; nothing if the page does
    /// not say so.
    pub(crate) fn durable(&self) -> (Lsn, Position) {
        self.said().watermark().map_or((Lsn::ZERO, Position::ZERO), |Watermark { lsn, position, .. }| (lsn, position))
    }

    fn said(&self) -> Said<impl Fn(usize) -> u64> {
        Said { log_id: self.log_id, word: |index| self.words.load(index) }
    }

    pub(crate) fn set_active_segment(&self, number: u64) {
        self.set(Word::ActiveSegment, signed(self.log_id, number));
    }

    /// Older segments do not count. Durable with the next [`Self::retain_from`].
    pub(crate) fn set_oldest_segment(&self, number: u64) {
        self.set(Word::OldestSegment, signed(self.log_id, number));
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

    /// On return it is durable that older segments are gone: the page says so. If this is false, there is none, and nothing is
    /// missed that is gone.
    pub(crate) fn retain_from(&self, storage: &dyn Storage, number: u64) -> io::Result<bool> {
        self.set_durably(storage, Word::OldestSegment, signed(self.log_id, number))
    }

    /// On return it is durable that frames may follow the close: the page does not speak of it, or, if this is false, there is
    /// none.
    fn take_back_close(&self, storage: &dyn Storage) -> io::Result<bool> {
        if is(Break::CloseNotTakenBack) {
            return Ok(true);
        }
        // Also if it does not: one that died while it did this may have done it to the page cache alone.
        self.set_durably(storage, Word::Closed, 0)
    }

    /// On return the device has `value` for `word`, or, if this is false, the page has no name.
    ///
    /// What a failed write-back leaves may never reach the device, however well later syncs go, also those of a later run.
    /// So the device is asked, and a page that it does not hold loses its name: without one nothing is missed.
    fn set_durably(&self, storage: &dyn Storage, word: Word, value: u64) -> io::Result<bool> {
        self.set(word, value);
        let Some(file) = &self.file else { return Ok(false) };
        if self.is_removed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let _ = file.touch();
        let synced = file.sync_mapping(self.words.mapping(), 0..LEN as usize);
        if synced.is_ok() && is_on_device(&**file, word, value)? {
            return Ok(true);
        }
        let path = storage.path().to_owned();
        report!(warn, path = %path.display(), "control page cannot be written, and is removed");
        match storage.remove(name::CONTROL) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => storage.sync_directory().map(|()| {
                self.is_removed.store(true, Ordering::Relaxed);
                false
            }),
        }
    }

    /// Whether the page has been lost, so that nobody else sees what is written to it.
    pub(crate) fn has_failed(&self) -> bool {
        self.words.has_failed()
    }

    pub(crate) fn set_poisoned(&self) {
        self.set(Word::Poisoned, 1);
    }

    /// The writer ends. If `close` is the position of the close, which is durable and tells all that the next one must know,
    /// the page says so from now on. Should it not become durable, the next one has to look.
    pub(crate) fn set_closed(&self, close: Option<Position>) {
        self.set(Word::WriterPid, 0);
        if let Some(close) = close {
            self.set(Word::ClosedChecksum, checksum(self.log_id, &[close.0]).into());
            self.set(Word::Closed, close.0);
            let Some(file) = &self.file else { return };
            // For those who go by the time of the last change.
            let _ = file.touch();
            if let Err(error) = file.sync_mapping(self.words.mapping(), 0..LEN as usize) {
                report!(warn, error = &error as &dyn std::error::Error, "control page cannot be synced");
            }
        }
    }

    /// Wakes those who wait for a record to be published, if anyone does. The record's commit word was stored before.
    ///
    /// The store before and the load here are not ordered by the processor. The one who waits sets the word, then has
    /// every running thread pass a barrier, then looks for records again: so either this load sees the word, or that look
    /// sees the record (Dekker's algorithm with the barrier on one side only).
    #[inline]
    pub(crate) fn wake_published(&self, storage: &dyn Storage) {
        compiler_fence(Ordering::SeqCst);
        if self.get(Word::PublishedWanted) != 0 {
            self.wake(storage, Channel::Published);
        }
    }

    /// Wakes those who wait for a record to become durable, after the watermark was stored.
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
    fn wake(&self, storage: &dyn Storage, channel: Channel) {
        // Reset first: whoever sets it again has read the count before, and finds it changed.
        self.set(channel.wanted(), 0);
        let wakes = self.words.half(channel.wakes() as usize);
        wakes.fetch_add(1, Ordering::AcqRel);
        storage.wake(wakes);
    }

    /// Waits until the writer wakes the followers of `channel`, or until `timeout`; not at all if `ready`, which is asked
    /// once the wake-up is sure to come. False if the page cannot be written, and so nobody can be woken.
    pub(crate) fn wait(
        &self,
        storage: &dyn Storage,
        channel: Channel,
        timeout: Duration,
        ready: impl FnOnce() -> Result<bool>,
    ) -> Result<bool> {
        if !self.writable {
            return Ok(false);
        }
        let wakes = self.words.half(channel.wakes() as usize);
        let seen = wakes.load(Ordering::Acquire);
        self.set(channel.wanted(), 1);
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

    fn set(&self, word: Word, value: u64) {
        self.words.store(word as usize, value);
    }
}

fn is_on_device(file: &dyn StorageFile, word: Word, value: u64) -> io::Result<bool> {
    let mut buffer = DeviceBuffer::new(LEN as usize);
    let read = file.read_device_at(&mut buffer, 0)?;
    Ok(read == LEN as usize && buffer.bytes().as_chunks().0[word as usize] == value.to_le_bytes())
}

/// The page that is there, if it is that of the log `log_id`, and can be stored to without more room, which a copy of it may
/// lack. Any other is removed, durably.
fn open_existing(storage: &dyn Storage, log_id: u128) -> io::Result<Option<ControlPage>> {
    match storage.open(name::CONTROL, Access::Write) {
        Ok(file) if file.len_bytes()? == LEN && file.is_reserved(0..LEN)? => {
            match map_for_writing(storage, file, log_id) {
                Ok(page) if page.found_log_id() == log_id => return Ok(Some(page)),
                Err(error) if error.kind() != io::ErrorKind::StorageFull => return Err(error),
                _ => {}
            }
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    // A crash while it is changed in place would leave what it says of another log under the name of this one. And it must
    // not come back: what it says of a close may be of this log, and is not taken back.
    storage.remove(name::CONTROL)?;
    storage.sync_directory()?;
    Ok(None)
}

/// A new page, of which nothing has to be taken back.
fn make(storage: &dyn Storage, log_id: u128) -> io::Result<ControlPage> {
    let temporary = format!("{}{}", name::CONTROL, name::TEMPORARY_SUFFIX);
    let file = storage.create(&temporary)?;
    let made = file
        .allocate(LEN)
        .and_then(|()| file.write_at(&[0; LEN as usize], 0))
        .and_then(|()| file.sync())
        .and_then(|()| storage.rename(&temporary, name::CONTROL))
        // What it says durably counts only as long as it has its name.
        .and_then(|()| storage.sync_directory());
    if made.is_err() {
        // What is left of it is removed at the next open at the latest.
        let _ = storage.remove(&temporary);
    }
    made?;
    map_for_writing(storage, file, log_id)
}

fn map_for_writing(storage: &dyn Storage, file: Box<dyn StorageFile>, log_id: u128) -> io::Result<ControlPage> {
    let mapping = file.map(LEN, Access::Write)?;
    match storage.populate(&mapping, 0..LEN as usize) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
        _ => {}
    }
    let words = SharedWords::new(mapping);
    Ok(ControlPage { words, file: Some(file), writable: true, log_id, is_removed: AtomicBool::new(false) })
}

/// A page that only this process has.
fn in_memory(storage: &dyn Storage, log_id: u128) -> io::Result<ControlPage> {
    let path = storage.path().to_owned();
    report!(warn, path = %path.display(), "no room for the control page: who follows the log is not woken");
    let words = SharedWords::new(Mapping::in_memory(LEN as usize)?);
    Ok(ControlPage { words, file: None, writable: true, log_id, is_removed: AtomicBool::new(false) })
}
