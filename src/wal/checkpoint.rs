//! What a checkpoint says: the transactions that were open when it began, and the pages that were not on disk.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::{RecordFault, Result, WalError};
use super::ids::{PageId, TransactionId};
use crate::lsn::Lsn;

const FLAG_BEGUN: u64 = 1;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CheckpointHeader {
    redo_lsn: U64,
    active_count: U32,
    dirty_count: U32,
}

/// Bytes of a checkpoint's data before its lists.
pub(super) const COUNTS_LEN: usize = size_of::<CheckpointHeader>();

/// A transaction that is open when a checkpoint begins.
///
/// # Example
/// ```
/// use mapwal::Lsn;
/// use mapwal::wal::{ActiveTransaction, TransactionId};
///
/// let active = ActiveTransaction::with_lsns(TransactionId(5), Some(Lsn(3)), Some(Lsn(9)));
/// assert_eq!((active.transaction(), active.first_lsn()), (TransactionId(5), Some(Lsn(3))));
/// assert_eq!(ActiveTransaction::new(TransactionId(5)), TransactionId(5).into());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct ActiveTransaction {
    transaction: U64,
    /// 0, which is no record's number, means none; also below.
    first_lsn: U64,
    last_lsn: U64,
    flags: U64,
}

/// A page whose newest contents are not on disk at a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DirtyPage {
    page: U64,
    recovery_lsn: U64,
}

fn number(lsn: Option<Lsn>) -> U64 {
    lsn.unwrap_or_default().0.into()
}

fn lsn(number: U64) -> Option<Lsn> {
    (number != U64::ZERO).then(|| Lsn(number.get()))
}

impl ActiveTransaction {
    /// A transaction of which nothing but its number is known.
    #[must_use]
    pub fn new(transaction: TransactionId) -> Self {
        Self::with_lsns(transaction, None, None)
    }

    /// A transaction with its first and its last record, as far as it has any.
    #[must_use]
    pub fn with_lsns(transaction: TransactionId, first: Option<Lsn>, last: Option<Lsn>) -> Self {
        let (first_lsn, last_lsn) = (number(first), number(last));
        Self { transaction: transaction.0.into(), first_lsn, last_lsn, flags: U64::ZERO }
    }

    pub(super) fn begun(self, begun: bool) -> Self {
        Self { flags: if begun { FLAG_BEGUN.into() } else { U64::ZERO }, ..self }
    }

    /// Which transaction.
    #[must_use]
    pub fn transaction(&self) -> TransactionId {
        TransactionId(self.transaction.get())
    }

    /// Its first record.
    #[must_use]
    pub fn first_lsn(&self) -> Option<Lsn> {
        lsn(self.first_lsn)
    }

    /// Its last record before the checkpoint began.
    #[must_use]
    pub fn last_lsn(&self) -> Option<Lsn> {
        lsn(self.last_lsn)
    }

    /// Whether its first record is a begin. Of use in a checkpoint that was read; set when it is written.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.flags.get() & FLAG_BEGUN != 0
    }
}

impl From<TransactionId> for ActiveTransaction {
    fn from(transaction: TransactionId) -> Self {
        Self::new(transaction)
    }
}

impl DirtyPage {
    /// A page, and the oldest record whose change to it is not on disk, if the engine knows that record. Where changes come to
    /// a page in another order than their records do, as with an engine that makes them after the commit, this is the least of
    /// them, not the one that made the page dirty.
    #[must_use]
    pub fn new(page: PageId, recovery_lsn: Option<Lsn>) -> Self {
        Self { page: page.0.into(), recovery_lsn: number(recovery_lsn) }
    }

    /// Which page.
    #[must_use]
    pub fn page(&self) -> PageId {
        PageId(self.page.get())
    }

    /// The oldest record whose change to it is not on disk.
    #[must_use]
    pub fn recovery_lsn(&self) -> Option<Lsn> {
        lsn(self.recovery_lsn)
    }
}

impl From<PageId> for DirtyPage {
    fn from(page: PageId) -> Self {
        Self::new(page, None)
    }
}

/// A checkpoint record's contents, in place.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
/// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
/// use mapwal::wal::{Checkpoint, Wal, WalOptions};
///
/// # wal.log_checkpoint(&[], &[])?;
/// # drop(wal);
/// // SAFETY: as for `Wal::open`.
/// let (wal, recovery) = unsafe { Wal::open_and_recover(dir.path(), &WalOptions::new()) }?;
/// let checkpoint: Checkpoint<'_> = recovery.checkpoint()?.expect("one was logged");
/// println!("{} is redone from {} on", checkpoint.lsn(), checkpoint.redo_lsn());
/// println!("{} were open", checkpoint.active_transactions().len());
/// println!("{} were dirty", checkpoint.dirty_pages().len());
/// println!("the engine's own bytes are {:?}", checkpoint.data());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Checkpoint<'a> {
    lsn: Lsn,
    /// Whether the transactions are those that were open when it began. Of older ones nothing but their own place in the
    /// log is certain.
    of_begin: bool,
    redo_lsn: Lsn,
    active: &'a [ActiveTransaction],
    dirty: &'a [DirtyPage],
    data: &'a [u8],
}

impl<'a> Checkpoint<'a> {
    /// The contents of checkpoint record `lsn`.
    pub(super) fn parse(lsn: Lsn, of_begin: bool, has_data: bool, data: &'a [u8]) -> Result<Self> {
        const HEADER_LEN: u64 = size_of::<CheckpointHeader>() as u64;
        let len = data.len() as u64;
        let layout = |needed| WalError::record(lsn, RecordFault::CheckpointLayout { len, needed });
        let (header, lists) = CheckpointHeader::ref_from_prefix(data).map_err(|_| layout(HEADER_LEN))?;
        let (active_count, dirty_count) = (header.active_count.get(), header.dirty_count.get());
        // At most 2^32 of each: the sum stays far below 2^64.
        let active_len = u64::from(active_count) * size_of::<ActiveTransaction>() as u64;
        let dirty_len = u64::from(dirty_count) * size_of::<DirtyPage>() as u64;
        let needed = HEADER_LEN + active_len + dirty_len;
        let (active, rest) = <[ActiveTransaction]>::ref_from_prefix_with_elems(lists, active_count as usize)
            .map_err(|_| layout(needed))?;
        let (dirty, data) =
            <[DirtyPage]>::ref_from_prefix_with_elems(rest, dirty_count as usize).map_err(|_| layout(needed))?;
        if !has_data && !data.is_empty() {
            return Err(layout(needed));
        }
        Ok(Self { lsn, of_begin, redo_lsn: Lsn(header.redo_lsn.get()), active, dirty, data })
    }

    /// Its record.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The oldest record whose change may not be on disk: recovery starts there.
    #[must_use]
    pub fn redo_lsn(&self) -> Lsn {
        self.redo_lsn
    }

    /// The transactions that were open when the checkpoint began.
    #[must_use]
    pub fn active_transactions(&self) -> &'a [ActiveTransaction] {
        self.active
    }

    /// The pages whose newest contents were not on disk.
    #[must_use]
    pub fn dirty_pages(&self) -> &'a [DirtyPage] {
        self.dirty
    }

    /// The engine's own bytes, as they were given to [`BegunCheckpoint::log_with_data`](super::BegunCheckpoint::log_with_data);
    /// none if it gave none. They start at an 8-byte boundary in memory.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    pub(super) fn is_of_begin(&self) -> bool {
        self.of_begin
    }

    /// The first record of the oldest transaction that was open.
    pub(super) fn oldest_active(&self) -> Option<Lsn> {
        self.active.iter().filter_map(ActiveTransaction::first_lsn).min()
    }
}

/// The data of a checkpoint record, in parts.
pub(super) struct Encoded<'c> {
    header: CheckpointHeader,
    active: &'c [ActiveTransaction],
    dirty: &'c [DirtyPage],
}

impl<'c> Encoded<'c> {
    /// `None` if a list has 2^32 entries or more: no segment holds them.
    pub(super) fn new(redo_lsn: Lsn, active: &'c [ActiveTransaction], dirty: &'c [DirtyPage]) -> Option<Self> {
        let active_count = u32::try_from(active.len()).ok()?.into();
        let dirty_count = u32::try_from(dirty.len()).ok()?.into();
        Some(Self {
            header: CheckpointHeader { redo_lsn: redo_lsn.0.into(), active_count, dirty_count },
            active,
            dirty,
        })
    }

    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [self.header.as_bytes(), self.active.as_bytes(), self.dirty.as_bytes()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode() -> Vec<u8> {
        let active = [
            ActiveTransaction::with_lsns(TransactionId(0), Some(Lsn(3)), Some(Lsn(9))).begun(true),
            TransactionId(u64::MAX).into(),
        ];
        let dirty = [DirtyPage::new(PageId(0), Some(Lsn(4))), PageId(8).into()];
        Encoded::new(Lsn(3), &active, &dirty).expect("short").parts().concat()
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let bytes = encode();
        assert_eq!(bytes.len(), 16 + 2 * 32 + 2 * 16);
        let checkpoint = Checkpoint::parse(Lsn(10), true, false, &bytes).expect("good");
        assert_eq!((checkpoint.lsn(), checkpoint.redo_lsn()), (Lsn(10), Lsn(3)));
        let [first, second] = checkpoint.active_transactions() else { panic!("two") };
        assert_eq!(
            (first.transaction(), first.first_lsn(), first.last_lsn()),
            (TransactionId(0), Some(Lsn(3)), Some(Lsn(9)))
        );
        assert_eq!(
            (second.transaction(), second.first_lsn(), second.last_lsn()),
            (TransactionId(u64::MAX), None, None)
        );
        assert!(first.has_begun() && !second.has_begun());
        let pages: Vec<_> = checkpoint.dirty_pages().iter().map(|dirty| (dirty.page(), dirty.recovery_lsn())).collect();
        assert_eq!(pages, [(PageId(0), Some(Lsn(4))), (PageId(8), None)]);
        assert_eq!(checkpoint.data(), b"");
    }

    #[test]
    fn what_follows_the_lists_is_the_engines_if_the_header_says_so() {
        let bytes = [&encode()[..], b"the engine's"].concat();
        let checkpoint = Checkpoint::parse(Lsn(10), true, true, &bytes).expect("good");
        assert_eq!((checkpoint.dirty_pages().len(), checkpoint.data()), (2, &b"the engine's"[..]));
        assert!(Checkpoint::parse(Lsn(10), true, false, &bytes).is_err());
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        let good = encode();
        let refused = |bytes: &[u8]| {
            let fault = Checkpoint::parse(Lsn(1), true, false, bytes);
            matches!(fault, Err(WalError::Record { fault: RecordFault::CheckpointLayout { .. }, .. }))
        };
        assert!(refused(&[]) && refused(&good[..15]) && refused(&good[..good.len() - 1]));
        for (at, value) in [(8, 3), (8, 1), (12, 1), (11, 0xff), (15, 0xff)] {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert!(refused(&bytes), "count at {at} as {value}");
        }
    }
}
