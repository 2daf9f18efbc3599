//! A page as it is stored, and a change to it as it is logged: rows of one length, and each change a row before and after.

use mapwal::Lsn;
use mapwal::wal::WalRecord;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Failure;

pub(crate) const PAGE_LEN: usize = 4096;
pub(crate) const ROW_LEN: usize = 64;
/// Rows of a page, next to a header of the size of one.
pub(crate) const ROWS: usize = PAGE_LEN / ROW_LEN - 1;

pub(crate) type Row = [u8; ROW_LEN];

/// What stands in the place of a row that does not exist.
pub(crate) const NO_ROW: Row = [0; ROW_LEN];

/// A page of the file.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Page {
    /// Over all that follows. It is kept right in the file only.
    checksum: U32,
    reserved: U32,
    number: U64,
    lsn: U64,
    more_reserved: [u8; ROW_LEN - 24],
    rows: [Row; ROWS],
}

const _: () = assert!(size_of::<Page>() == PAGE_LEN);

impl Page {
    /// A page without rows.
    pub(crate) fn empty(number: u64) -> Result<Box<Self>, Failure> {
        let mut page = Self::new_box_zeroed().map_err(|_| "no memory for a page")?;
        page.number = number.into();
        Ok(page)
    }

    /// The last record whose change it has.
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.lsn.get())
    }

    pub(crate) fn rows(&self) -> &[Row; ROWS] {
        &self.rows
    }

    /// Makes the change that record `lsn` tells of.
    pub(crate) fn set(&mut self, slot: usize, row: &Row, lsn: Lsn) {
        self.rows[slot] = *row;
        self.lsn = lsn.0.into();
    }

    /// Prepares it for the file.
    pub(crate) fn seal(&mut self) {
        self.checksum = self.sum().into();
    }

    /// An error unless it is page `number` as it was sealed; a page that was never written is made an empty one.
    pub(crate) fn check(&mut self, number: u64) -> Result<(), Failure> {
        if self.as_bytes().iter().all(|&byte| byte == 0) {
            self.number = number.into();
            return Ok(());
        }
        let intact = self.checksum.get() == self.sum() && self.number.get() == number;
        if intact { Ok(()) } else { Err(format!("page {number} is torn or damaged").into()) }
    }

    fn sum(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[size_of::<U32>()..])
    }
}

/// The data of a record: one row, before and after.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Change {
    slot: U64,
    pub(crate) before: Row,
    pub(crate) after: Row,
}

impl Change {
    pub(crate) fn new(slot: usize, before: Row, after: Row) -> Self {
        Self { slot: (slot as u64).into(), before, after }
    }

    /// What `record` changed, and on which page.
    pub(crate) fn of<'r>(record: &WalRecord<'r>) -> Result<(u64, &'r Self), Failure> {
        let change = Self::ref_from_bytes(record.data()).ok().filter(|change| change.slot.get() < ROWS as u64);
        let found = record.page().zip(change);
        let (page, change) = found.ok_or_else(|| format!("record {} is no change of a row", record.lsn()))?;
        Ok((page.0, change))
    }

    /// Below [`ROWS`].
    pub(crate) fn slot(&self) -> usize {
        usize::try_from(self.slot.get()).expect("made from a `usize`, or checked when it was read")
    }

    /// What takes it back.
    pub(crate) fn inverse(&self) -> Self {
        Self { slot: self.slot, before: self.after, after: self.before }
    }
}

impl AsRef<[u8]> for Change {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}
