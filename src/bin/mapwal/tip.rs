//! The newest segment of a log, read to its end: where that is, and the metadata slots, all of which are in it.

use std::collections::BTreeMap;
use std::io;

use indicatif::ProgressBar;
use mapwal::inspect::{FrameRole, Inspection, ScanItem, SegmentFile, SegmentScan};
use mapwal::{Error, Lsn};

/// What the newest segment holds that can be read.
pub(crate) struct Tip {
    pub(crate) number: u64,
    pub(crate) slots: BTreeMap<usize, Slot>,
    /// Where its frames end: a byte offset.
    pub(crate) end: u64,
    /// The number after its last record.
    pub(crate) next: Lsn,
    /// Whether something follows that does not count: a torn end, or what is being written.
    pub(crate) has_more: bool,
}

/// The value of a metadata slot, and where it is.
pub(crate) struct Slot {
    pub(crate) value: Vec<u8>,
    /// Byte offset of the frame.
    pub(crate) offset: u64,
    /// It was put before this record was appended.
    pub(crate) before: Lsn,
    /// Whether it was put into an earlier segment: each begins with all of them.
    pub(crate) is_carried: bool,
}

impl Tip {
    /// Of the newest segment whose header is sound; `None` if there is none. What has number `next` or a later one does not count.
    ///
    /// # Errors
    /// When it cannot be read, and `Trimmed` when it is gone.
    pub(crate) fn read(inspection: &Inspection, next: Option<Lsn>, bar: &ProgressBar) -> mapwal::Result<Option<Self>> {
        for file in inspection.segments().iter().rev().filter(|file| file.counts) {
            match Self::read_file(file, next, bar) {
                Err(Error::Corrupt(_)) => {}
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    let lsn = file.first_lsn.unwrap_or(Lsn(1));
                    return Err(Error::Trimmed { lsn, first: lsn });
                }
                read => return read.map(Some),
            }
        }
        Ok(None)
    }

    fn read_file(file: &SegmentFile, next: Option<Lsn>, bar: &ProgressBar) -> mapwal::Result<Self> {
        let mut scan = SegmentScan::open(&file.path)?;
        let start = scan.offset();
        let mut tip = Self {
            number: file.number,
            slots: BTreeMap::new(),
            end: start,
            next: file.first_lsn.unwrap_or(Lsn(1)),
            has_more: false,
        };
        while let Some(item) = scan.next()? {
            let ScanItem::Frame(frame) = item else {
                tip.has_more = true;
                break;
            };
            let is_record = frame.role() != FrameRole::Control;
            if is_record && next.is_some_and(|next| frame.lsn() >= next) {
                tip.has_more = true;
                break;
            }
            let (offset, before) = (frame.offset(), frame.lsn());
            let put = |(slot, value)| (slot, Slot { value, offset, before, is_carried: offset == start });
            tip.slots.extend(frame.meta().into_iter().map(put));
            tip.end = offset + frame.len_bytes();
            tip.next = if is_record { frame.lsn().next() } else { frame.lsn() };
            bar.inc(frame.len_bytes());
        }
        Ok(tip)
    }
}
