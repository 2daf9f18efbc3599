//! Reading the file of one segment frame by frame, in whatever state it is.

mod frame;
mod opening;
mod window;

use std::io;
use std::ops::Range;
use std::path::PathBuf;

pub use frame::{FrameRole, ScannedFrame};

use crate::error::{Damage, Error, Result};
use crate::format::frame::{ALIGN, Frame, FrameHeader, HEADER_LEN, checksum, padded};
use crate::format::range_sum::RangeSums;
use crate::format::segment_header::{self, Layout};
use crate::format::walk::{Check, Place, Walk};
use crate::format::zeros::nonzero_len;
use crate::lsn::Lsn;
use crate::read::SegmentTip;
use crate::storage::{DeviceBuffer, StorageFile};
use window::{WINDOW_BYTES, Window, checksum_of, read_all, usize_of};

/// Frames of fewer bytes are checked at once.
const SHORT_LEN: usize = 1 << 10;

/// A walk over the file of one segment, which need not be sound, nor belong to a directory of a log: each frame that
/// passes its checks, and each stretch between them that holds none.
///
/// It reads copies of the file's bytes instead of mapping them. So it needs no promise about writers of the file, and a
/// bad sector is an error, not a signal. A segment that is being written can be walked as well: what is not complete
/// yet comes at the end, as a stretch without a frame.
///
/// It yields what the file contains. Later segments decide whether a frame still counts: it may have been truncated, or
/// belong to an unfinished batch.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::inspect::{Inspection, ScanItem, SegmentScan};
///
/// # log.append(1, b"a")?;
/// let found = Inspection::open(dir.path())?;
/// let file = &found.segments()[0];
/// let mut scan = SegmentScan::open(&file.path)?;
/// println!("segment {} of log {:032x}, {} bytes", scan.number(), scan.log_id(), scan.file_len_bytes());
/// if let Some(end) = file.end {
///     scan.stop_at(end); // what follows does not count
/// }
/// loop {
///     match scan.next() {
///         Ok(Some(ScanItem::Frame(frame))) => println!("{frame:?}"),
///         Ok(Some(ScanItem::Gap { range, damage, .. })) => println!("nothing sound at {range:?}: {damage}"),
///         Ok(Some(_)) => {}
///         Ok(None) => break println!("whole batches end at {:?}, frames at {:?}", scan.whole_up_to(), scan.tip()),
///         Err(error) => {
///             println!("at {}: {error}", scan.offset());
///             if !scan.skip(4096)? {
///                 break;
///             }
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SegmentScan {
    file: Box<dyn StorageFile>,
    path: PathBuf,
    number: u64,
    log_id: u128,
    size: u64,
    layout: Layout,
    window: Window,
    walk: Walk,
    /// Where the walk ends at the latest.
    limit: u64,
    is_done: bool,
    /// Made when a long payload is looked for where no frame need be.
    sums: Option<RangeSums>,
}

/// What comes next in a segment.
#[derive(Debug)]
#[non_exhaustive]
pub enum ScanItem<'a> {
    /// A frame that passes its checks.
    Frame(ScannedFrame<'a>),
    /// Bytes without a frame.
    Gap {
        /// Where, as byte offsets in the file.
        range: Range<u64>,
        /// The number of the record that was expected at its start, where that is known.
        lsn: Option<Lsn>,
        /// What is wrong at its start.
        damage: Damage,
    },
}

impl SegmentScan {
    /// Its number in the log, as its header says.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The identity of the log that it belongs to.
    #[must_use]
    pub fn log_id(&self) -> u128 {
        self.log_id
    }

    /// The length of its file, as its header says, in bytes.
    #[must_use]
    pub fn file_len_bytes(&self) -> u64 {
        self.size
    }

    /// How far the walk has come: a byte offset in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.walk.place().offset as u64
    }

    /// Where the last frame ends that has been passed and that ends a batch or is in none, as a byte offset in the file; and the
    /// number of the record that follows there. What comes before is as a crash leaves it.
    #[must_use]
    pub fn whole_up_to(&self) -> (u64, Lsn) {
        let Place { offset, next_lsn, .. } = self.walk.boundary();
        (offset as u64, next_lsn)
    }

    /// The end of what has been passed, as a segment that was begun after it names it.
    #[must_use]
    pub fn tip(&self) -> SegmentTip {
        let Place { offset, last_crc, .. } = self.walk.place();
        SegmentTip { number: self.number, end_bytes: offset as u64, checksum: last_crc }
    }

    /// Ends the walk at byte `offset` at the latest: what comes after it does not count.
    pub fn stop_at(&mut self, offset: u64) {
        self.limit = self.limit.min(offset);
    }

    /// The next frame or gap; `None` at the end, after which there are only zeros, or, in a file that was another
    /// segment before, no frame of this one.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read. The walk may go on with [`Self::skip`].
    #[expect(clippy::should_implement_trait, reason = "it lends; an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<ScanItem<'_>>> {
        let start = self.walk.place();
        if self.is_done || start.offset as u64 >= self.limit {
            return Ok(None);
        }
        if self.step()?.is_ok() {
            return Ok(Some(self.passed(start)));
        }
        // What was read while it was written is complete by now, if it was going to be.
        self.window.clear();
        let Err(damage) = self.step()? else { return Ok(Some(self.passed(start))) };
        let offset = start.offset as u64;
        let lsn = (start.next_lsn != Lsn::ZERO).then_some(start.next_lsn);
        let nonzero_end = self.nonzero_end(offset)?;
        let found = self.go_on_at(offset + ALIGN as u64, nonzero_end)?;
        // What follows the last frame of a recycled segment is no part of it, whatever it is.
        let end = found.unwrap_or(if self.layout.is_recycled { offset } else { nonzero_end });
        Ok((end > offset).then_some(ScanItem::Gap { range: offset..end, lsn, damage }))
    }

    /// Goes on after what cannot be read: `len` bytes after the current offset, with the next frame found there. False
    /// at the end.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn skip(&mut self, len: u64) -> Result<bool> {
        let from = self.offset().saturating_add(len).next_multiple_of(ALIGN as u64).min(self.limit);
        let next_lsn = self.walk.place().next_lsn;
        // First of all past what could not be read, so that another try gets further.
        self.walk = Walk::new(self.layout, Check::Full, usize_of(from), next_lsn);
        Ok(self.go_on_at(from, self.limit)?.is_some())
    }

    /// Goes on with the first good frame that begins in `from..end`, and returns its offset. Without one, ends the walk.
    fn go_on_at(&mut self, from: u64, end: u64) -> Result<Option<u64>> {
        let found = self.find_frame(from, end)?;
        match found {
            Some((offset, lsn)) => self.walk = Walk::new(self.layout, Check::Full, usize_of(offset), lsn),
            None => self.is_done = true,
        }
        Ok(found.map(|(offset, _)| offset))
    }

    /// After the last frame passed, and after the last that ends a batch or is in none.
    pub(crate) fn places(&self) -> (Place, Place) {
        (self.walk.place(), self.walk.boundary())
    }

    /// Expects record `lsn` first, whatever the link says.
    pub(crate) fn begin_with(&mut self, lsn: Lsn) {
        self.walk = Walk::new(self.layout, Check::Full, segment_header::LEN, lsn);
    }

    /// Whether what [`Self::first_difference`] compares with is known to be what the device holds.
    pub(crate) fn reads_device(&self) -> bool {
        self.file.reads_device()
    }

    /// Whether the device holds other bytes than the page cache before `end`; where, if so.
    pub(crate) fn first_difference(&mut self, end: u64) -> Result<Option<u64>> {
        let mut device = DeviceBuffer::new(WINDOW_BYTES);
        let mut offset = 0;
        while offset < end {
            let read = self.file.read_device_at(&mut device, offset).map_err(|e| self.failed(e))?;
            let len = read.min(usize_of(end - offset));
            self.window.fill(&*self.file, offset, len).map_err(|e| self.failed(e))?;
            let cached = self.window.bytes(offset, len);
            if let Some(at) = device.bytes()[..len].iter().zip(cached).position(|(a, b)| a != b) {
                return Ok(Some(offset + at as u64));
            }
            if len == 0 {
                return Ok(Some(offset));
            }
            offset += len as u64;
        }
        Ok(None)
    }

    /// Passes over the next frame, if it is good.
    fn step(&mut self) -> Result<Result<(), Damage>> {
        let offset = self.offset();
        // Most frames are whole in the window.
        if pass(&mut self.walk, self.window.rest(offset, self.limit)).is_ok() {
            return Ok(Ok(()));
        }
        let available = match self.prepare(offset)? {
            Ok(available) => available,
            Err(damage) => return Ok(Err(damage)),
        };
        Ok(pass(&mut self.walk, self.window.bytes(offset, available)))
    }

    /// The frame just passed, which began at `start`.
    fn passed(&self, start: Place) -> ScanItem<'_> {
        let (offset, len) = (start.offset as u64, self.walk.place().offset - start.offset);
        let frame = Frame::parse(self.window.bytes(offset, len)).expect("just passed");
        ScanItem::Frame(ScannedFrame::new(frame, offset, self.layout.version))
    }

    /// The number of the frame at `offset`, if a good one is there; it is not compared with anything.
    fn lsn_at(&mut self, offset: u64) -> Result<Option<Lsn>> {
        let available = self.prepare(offset)?;
        let rest = self.window.bytes(offset, available.unwrap_or(0));
        let lsn = Frame::parse(rest).and_then(|frame| {
            // By itself, as the first of a walk: which one it follows is not known here.
            let mut walk = Walk::new(self.layout, Check::Full, usize_of(offset), frame.lsn());
            walk.step(rest).map(|frame| frame.lsn())
        });
        Ok(lsn.ok())
    }

    /// Reads the bytes at `offset`, as many as the frame there takes; returns how many there are.
    fn prepare(&mut self, offset: u64) -> Result<Result<usize, Damage>> {
        let left = usize_of(self.limit - offset);
        let (window, file) = (&mut self.window, &*self.file);
        let failed = |source| Error::io("read", &self.path, source);
        let header_len = HEADER_LEN.min(left);
        window.fill(file, offset, header_len).map_err(failed)?;
        let Some(header) = FrameHeader::stated(window.bytes(offset, header_len)) else { return Ok(Ok(header_len)) };
        let wanted = padded(header.len() as usize);
        if wanted > left {
            return Ok(Err(Damage::FrameLength(header.len())));
        }
        // A length that is not true must not cost its memory: it is checked in pieces first.
        if wanted > WINDOW_BYTES {
            let expected = checksum_of(file, self.layout.salt, offset, &header).map_err(failed)?;
            if expected != header.crc() {
                return Ok(Err(Damage::Checksum { expected, found: header.crc() }));
            }
        }
        window.fill(file, offset, wanted).map_err(failed)?;
        Ok(Ok(wanted))
    }

    /// Offset and number of the first good frame that begins in `from..end`.
    fn find_frame(&mut self, from: u64, end: u64) -> Result<Option<(u64, Lsn)>> {
        let mut offset = from;
        while offset < end && offset + HEADER_LEN as u64 <= self.limit {
            let left = self.limit - offset;
            let stated = FrameHeader::stated(self.peek(offset)?);
            let fits = stated.filter(|header| padded(header.len() as usize) as u64 <= left);
            if let Some(header) = fits
                && self.may_be_intact(offset, &header)?
                && let Some(lsn) = self.lsn_at(offset)?
            {
                return Ok(Some((offset, lsn)));
            }
            offset += ALIGN as u64;
        }
        Ok(None)
    }

    /// Whether the checksum of a long frame is right, for the price of a short one's: at every step there may be bytes
    /// that look like a long frame and are not. A short one is checked later.
    fn may_be_intact(&mut self, offset: u64, header: &FrameHeader) -> Result<bool> {
        if (header.len() as usize) < SHORT_LEN {
            return Ok(true);
        }
        let Self { file, path, sums, layout, limit, .. } = self;
        let failed = |source| Error::io("read", path, source);
        let mut read = |at: u64, into: &mut [u8]| read_all(&**file, at, into);
        let sums = match sums {
            Some(sums) => sums,
            None => sums.insert(RangeSums::new(segment_header::LEN as u64..*limit, &mut read).map_err(failed)?),
        };
        let payload = offset + HEADER_LEN as u64..offset + u64::from(header.len());
        let sum = sums.sum(payload, &mut read).map_err(failed)?;
        Ok(checksum(layout.salt, header.len(), header.tail(), sum) == header.crc())
    }

    /// The header at `offset`.
    fn peek(&mut self, offset: u64) -> Result<&[u8]> {
        let filled = self.window.fill(&*self.file, offset, HEADER_LEN);
        filled.map_err(|source| Error::io("read", &self.path, source))?;
        Ok(self.window.bytes(offset, HEADER_LEN))
    }

    /// After the last byte from `from` on that is not zero; `from` if there is none.
    fn nonzero_end(&mut self, from: u64) -> Result<u64> {
        let (mut end, mut offset) = (from, from);
        while offset < self.limit {
            let len = WINDOW_BYTES.min(usize_of(self.limit - offset));
            self.window.fill(&*self.file, offset, len).map_err(|source| Error::io("read", &self.path, source))?;
            if let Some(nonzero) = nonzero_len(self.window.bytes(offset, len)) {
                end = offset + nonzero as u64;
            }
            offset += len as u64;
        }
        Ok(end)
    }

    /// After the last byte from `from` on that a torn end has left: the last that is not zero, or, where that may be
    /// older than the segment, the last of an intact frame.
    pub(crate) fn torn_end(&mut self, from: u64) -> Result<u64> {
        if !self.layout.is_recycled {
            return self.nonzero_end(from);
        }
        let (mut end, mut offset) = (from, from);
        while let Some((found, _)) = self.find_frame(offset, self.limit)? {
            let left = usize_of(self.limit - found).min(HEADER_LEN);
            let len = FrameHeader::stated(self.peek(found)?).map_or(left, |header| padded(header.len() as usize));
            end = found + len as u64;
            offset = end;
        }
        Ok(end)
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::io("read", &self.path, source)
    }
}

/// Passes over the frame at the start of `rest`, if it is good.
#[inline]
fn pass(walk: &mut Walk, rest: &[u8]) -> Result<(), Damage> {
    let mut passed = walk.clone();
    passed.step(rest)?;
    *walk = passed;
    Ok(())
}
