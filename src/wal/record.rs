//! The records of transactions as they are stored in the payloads of the log.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checkpoint::Checkpoint;
use super::error::{RecordFault, Result, WalError};
use super::ids::{PageId, TransactionId};
use crate::lsn::Lsn;
use crate::read::Record;

/// The first of the type numbers that the transactional layer leaves to the application.
pub(super) const PLAIN_TAG_MIN: u16 = 0x8000;

/// Bytes before a record's data.
pub(super) const HEADER_LEN: usize = size_of::<TransactionHeader>();

const FLAG_PREV: u32 = 1;
const FLAG_PAGE: u32 = 1 << 1;
const FLAG_UNDO_NEXT: u32 = 1 << 2;
const FLAG_OF_BEGIN: u32 = 1 << 3;
const FLAG_DATA: u32 = 1 << 4;

/// What a record says of its transaction. Its number is the tag that it has in the log.
///
/// # Example
/// ```
/// use mapwal::wal::RecordType;
///
/// assert_eq!(RecordType::Update.code(), 5); // the record's tag
/// assert_eq!(RecordType::from_code(5), Some(RecordType::Update));
/// assert!(RecordType::Compensation.is_data() && !RecordType::Commit.is_data());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum RecordType {
    /// A transaction begins.
    Begin = 1,
    /// A transaction is over, and its changes stay.
    Commit = 2,
    /// A transaction has been rolled back; it is over.
    Abort = 3,
    /// Something was inserted.
    Insert = 4,
    /// Something was changed.
    Update = 5,
    /// Something was deleted.
    Delete = 6,
    /// What was going on at one moment.
    Checkpoint = 7,
    /// A change was undone. It is never undone itself.
    Compensation = 8,
}

impl RecordType {
    /// Its number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The type with number `code`, if there is one.
    #[must_use]
    pub const fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::Begin,
            2 => Self::Commit,
            3 => Self::Abort,
            4 => Self::Insert,
            5 => Self::Update,
            6 => Self::Delete,
            7 => Self::Checkpoint,
            8 => Self::Compensation,
            _ => return None,
        })
    }

    /// Whether it tells of a change to data: insert, update, delete, compensation.
    #[must_use]
    pub const fn is_data(self) -> bool {
        matches!(self, Self::Insert | Self::Update | Self::Delete | Self::Compensation)
    }
}

/// Before the data of each record; `docs/design/transactions.md` has the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct TransactionHeader {
    transaction: U64,
    prev_lsn: U64,
    page: U64,
    undo_next: U64,
    flags: U32,
    reserved: U32,
}

// A multiple of 8, so that the data starts at an 8-byte boundary as well.
const _: () = assert!(HEADER_LEN == 40);

impl TransactionHeader {
    pub(super) fn new(
        transaction: TransactionId,
        prev: Option<Lsn>,
        page: Option<PageId>,
        undo_next: Option<Lsn>,
    ) -> Self {
        let flag = |present: bool, flag: u32| if present { flag } else { 0 };
        let flags = flag(prev.is_some(), FLAG_PREV)
            | flag(page.is_some(), FLAG_PAGE)
            | flag(undo_next.is_some(), FLAG_UNDO_NEXT);
        Self {
            transaction: transaction.0.into(),
            prev_lsn: prev.unwrap_or_default().0.into(),
            page: page.unwrap_or_default().0.into(),
            undo_next: undo_next.unwrap_or_default().0.into(),
            flags: flags.into(),
            reserved: U32::ZERO,
        }
    }

    /// Of a checkpoint that lists the transactions that were open when it began, perhaps with the engine's own data.
    pub(super) fn of_checkpoint(has_data: bool) -> Self {
        let flags = if has_data { FLAG_OF_BEGIN | FLAG_DATA } else { FLAG_OF_BEGIN };
        Self { flags: flags.into(), ..Self::new(TransactionId(0), None, None, None) }
    }

    fn check(&self, record_type: RecordType) -> Result<(), RecordFault> {
        let of_checkpoint = if record_type == RecordType::Checkpoint { FLAG_OF_BEGIN | FLAG_DATA } else { 0 };
        if self.flags.get() & !(FLAG_PREV | FLAG_PAGE | FLAG_UNDO_NEXT | of_checkpoint) != 0 {
            return Err(RecordFault::UnknownFlag);
        }
        if self.reserved != U32::ZERO {
            return Err(RecordFault::Reserved);
        }
        let fields = [(self.prev_lsn, FLAG_PREV), (self.page, FLAG_PAGE), (self.undo_next, FLAG_UNDO_NEXT)];
        if fields.iter().any(|(value, flag)| *value != U64::ZERO && !self.has(*flag)) {
            return Err(RecordFault::AbsentField);
        }
        if self.has(FLAG_UNDO_NEXT) && record_type != RecordType::Compensation {
            return Err(RecordFault::UndoNext);
        }
        Ok(())
    }

    fn has(&self, flag: u32) -> bool {
        self.flags.get() & flag != 0
    }
}

/// A record of a transaction, in place: nothing is copied.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
/// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
/// use mapwal::wal::{PageId, RecordType, WalRecord};
///
/// let mut transaction = wal.begin()?;
/// let begin = transaction.last_lsn();
/// let lsn = transaction.insert(PageId(7), b"+ row 1")?;
/// let snapshot = wal.log().snapshot()?;
/// let record = snapshot.get(lsn)?.expect("a record");
/// let record: WalRecord<'_> = WalRecord::parse(&record)?;
/// assert_eq!((record.lsn(), record.record_type()), (lsn, RecordType::Insert));
/// assert_eq!((record.transaction(), record.page()), (transaction.id(), Some(PageId(7))));
/// assert_eq!((record.prev_lsn(), record.undo_next()), (begin, None));
/// assert_eq!(record.data(), b"+ row 1");
/// assert!(record.checkpoint().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct WalRecord<'a> {
    lsn: Lsn,
    record_type: RecordType,
    header: &'a TransactionHeader,
    data: &'a [u8],
}

impl<'a> WalRecord<'a> {
    /// Reads a record of the log below.
    ///
    /// # Errors
    /// [`WalError::Record`]; its fault is [`RecordFault::UnknownType`] also for the application's own types.
    pub fn parse(record: &Record<'a>) -> Result<Self> {
        let (lsn, code) = (record.lsn(), record.tag());
        let invalid = |fault| WalError::record(lsn, fault);
        let record_type = RecordType::from_code(code).ok_or_else(|| invalid(RecordFault::UnknownType { code }))?;
        let payload = record.payload();
        let too_short = RecordFault::TooShort { len: payload.len(), needed: HEADER_LEN };
        let (header, data) = TransactionHeader::ref_from_prefix(payload).map_err(|_| invalid(too_short))?;
        header.check(record_type).map_err(invalid)?;
        if record_type == RecordType::Checkpoint {
            Checkpoint::parse(lsn, header.has(FLAG_OF_BEGIN), header.has(FLAG_DATA), data)?;
        }
        Ok(Self { lsn, record_type, header, data })
    }

    /// Its number.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// What it says.
    #[must_use]
    pub fn record_type(&self) -> RecordType {
        self.record_type
    }

    /// Whose it is. 0 for a checkpoint, which belongs to no transaction.
    #[must_use]
    pub fn transaction(&self) -> TransactionId {
        TransactionId(self.header.transaction.get())
    }

    /// Whether it is a record of `transaction`.
    pub(super) fn is_of(&self, transaction: TransactionId) -> bool {
        self.record_type != RecordType::Checkpoint && self.transaction() == transaction
    }

    /// The transaction's record before this one; `None` if this is the first.
    #[must_use]
    pub fn prev_lsn(&self) -> Option<Lsn> {
        self.header.has(FLAG_PREV).then(|| Lsn(self.header.prev_lsn.get()))
    }

    /// The page that was changed, if the engine named one.
    #[must_use]
    pub fn page(&self) -> Option<PageId> {
        self.header.has(FLAG_PAGE).then(|| PageId(self.header.page.get()))
    }

    /// Of a compensation: the next record of the transaction to be undone, `None` if nothing is left; `None` in every
    /// other record.
    #[must_use]
    pub fn undo_next(&self) -> Option<Lsn> {
        self.header.has(FLAG_UNDO_NEXT).then(|| Lsn(self.header.undo_next.get()))
    }

    /// The engine's bytes. They start at an 8-byte boundary in memory.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// What a checkpoint says; `None` if the record is not one.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint<'a>> {
        let is_checkpoint = self.record_type == RecordType::Checkpoint;
        let (of_begin, has_data) = (self.header.has(FLAG_OF_BEGIN), self.header.has(FLAG_DATA));
        let parse = || Checkpoint::parse(self.lsn, of_begin, has_data, self.data).ok();
        is_checkpoint.then(parse).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_format() {
        let types = (1..=8).map(|code| RecordType::from_code(code).expect("a type"));
        assert!(types.zip(1..).all(|(record_type, code)| record_type.code() == code));
        assert_eq!((RecordType::Begin.code(), RecordType::Compensation.code()), (1, 8));
        assert_eq!([0, 9, PLAIN_TAG_MIN].map(RecordType::from_code), [None; 3]);
    }

    #[test]
    fn a_header_has_the_stated_bytes() {
        let header = TransactionHeader::new(TransactionId(0x0102), Some(Lsn(7)), Some(PageId(0)), Some(Lsn(0x0a0b)));
        let mut expected = [0; HEADER_LEN];
        expected[0] = 2;
        expected[1] = 1;
        expected[8] = 7;
        expected[24] = 0x0b;
        expected[25] = 0x0a;
        expected[32] = 7;
        assert_eq!(header.as_bytes(), expected);
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        let good = TransactionHeader::new(TransactionId(1), None, None, None);
        let fault = |header: TransactionHeader| header.check(RecordType::Insert).err();
        assert_eq!(fault(good), None);
        assert_eq!(fault(TransactionHeader { flags: 8.into(), ..good }), Some(RecordFault::UnknownFlag));
        assert_eq!(fault(TransactionHeader { reserved: 1.into(), ..good }), Some(RecordFault::Reserved));
        assert_eq!(fault(TransactionHeader { prev_lsn: 1.into(), ..good }), Some(RecordFault::AbsentField));
        assert_eq!(fault(TransactionHeader { page: 1.into(), ..good }), Some(RecordFault::AbsentField));
        let undo_next = TransactionHeader { flags: FLAG_UNDO_NEXT.into(), ..good };
        assert_eq!(fault(undo_next), Some(RecordFault::UndoNext));
        assert_eq!(undo_next.check(RecordType::Compensation), Ok(()));
        assert_eq!(fault(TransactionHeader::of_checkpoint(true)), Some(RecordFault::UnknownFlag));
        assert_eq!(TransactionHeader::of_checkpoint(true).check(RecordType::Checkpoint), Ok(()));
        assert_eq!(good.check(RecordType::Checkpoint), Ok(()));
    }
}
