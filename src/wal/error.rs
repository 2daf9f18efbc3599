//! What can go wrong with transactions, besides what goes wrong with the log below.

use std::fmt;

use super::ids::TransactionId;
use crate::error::Error;
use crate::lsn::Lsn;

/// `std::result::Result` with [`WalError`].
pub type Result<T, E = WalError> = std::result::Result<T, E>;

/// Why a call of a [`Wal`](super::Wal) did not do what it was asked to.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let options = mapwal::wal::WalOptions::new().log(mapwal::Options::new().segment_size_bytes(64 << 10));
/// # let wal = unsafe { mapwal::wal::Wal::open(dir.path(), &options) }?;
/// use mapwal::Error;
/// use mapwal::wal::{ChainFault, RecordFault, TransactionFault, TransactionId, WalError};
///
/// let refused = wal.log_commit(TransactionId(7), None).expect_err("it has not begun");
/// match &refused {
///     WalError::Transaction { transaction, fault: TransactionFault::NotOpen } => println!("begin {transaction} first"),
///     WalError::Log(Error::NoSpace { .. }) => println!("end what is open, take a checkpoint, trim"),
///     WalError::Record { lsn, fault: RecordFault::Chain { target, fault: ChainFault::Missing } } => {
///         println!("record {lsn} needs {target:?}, which was trimmed by hand");
///     }
///     other => println!("{other}"),
/// }
/// assert_eq!(refused.to_string(), "transaction 7 is not open");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// What the log below says.
    #[error(transparent)]
    Log(#[from] Error),
    /// A record in the log makes no sense where it is: an engine has logged it past this library's checks, or the log was
    /// trimmed or truncated by hand. Nothing was changed.
    #[error("record {lsn} {fault}")]
    Record {
        /// The record.
        lsn: Lsn,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// The call may not be made for this transaction in its present state. Nothing was logged.
    #[error("transaction {transaction} {fault}")]
    Transaction {
        /// The transaction.
        transaction: TransactionId,
        /// Why not.
        fault: TransactionFault,
    },
    /// The call does not log records of this type, or the type number is not one of those left to the application.
    /// Nothing was logged.
    #[error("records of type {code} are not logged by this call; an application's own have tags from 0x8000 on")]
    RecordTypeNotAllowed {
        /// The type's number.
        code: u16,
    },
    /// A checkpoint begins before the engine has said that what recovery found is redone. Nothing was logged.
    #[error("no checkpoint yet: records from {from} on are to be redone, and `Recovery::redone` has not been called")]
    NotRedone {
        /// The oldest record to be redone.
        from: Lsn,
    },
    /// A checkpoint has more than one record can hold: 32 bytes for each open transaction, 16 for each dirty page, and the engine's own
    /// bytes. Nothing was logged.
    #[error(
        "checkpoint of {active} open transactions, {dirty} dirty pages and the engine's own bytes takes {len} bytes, of {max}: \
         end transactions, write pages, or open the log with larger segments"
    )]
    CheckpointTooLarge {
        /// Open transactions.
        active: usize,
        /// Dirty pages.
        dirty: usize,
        /// Bytes that the record would take.
        len: u64,
        /// The most that a record of this log can.
        max: u64,
    },
    /// The record that the log names as its last checkpoint is not there, or is not a checkpoint: the log was trimmed, truncated or
    /// reset past it by another way than those of [`Wal`](super::Wal).
    /// [`RecoverFrom::OldestRecord`](super::RecoverFrom::OldestRecord) opens what is kept, and the next checkpoint ends
    /// this. Changes whose records are gone, and that are in no page on disk, are lost.
    #[error(
        "record {lsn} is named as the last checkpoint and is none: recover what is kept with `RecoverFrom::OldestRecord`"
    )]
    NoCheckpoint {
        /// The record named.
        lsn: Lsn,
    },
    /// A metadata slot of the transactional layer holds something else.
    #[error("metadata slot {slot} holds {len} bytes, {expected} belong there")]
    Metadata {
        /// The slot.
        slot: usize,
        /// Bytes in it.
        len: usize,
        /// Bytes that belong there.
        expected: usize,
    },
    /// All 2^64 numbers of transactions are used up.
    #[error("log has used up its transaction numbers")]
    Exhausted,
}

impl WalError {
    pub(super) fn record(lsn: Lsn, fault: RecordFault) -> Self {
        Self::Record { lsn, fault }
    }

    pub(super) fn transaction(transaction: TransactionId, fault: TransactionFault) -> Self {
        Self::Transaction { transaction, fault }
    }

    /// A record that points to `target`, which cannot be the one before it.
    pub(super) fn chain(lsn: Lsn, target: Option<Lsn>, fault: ChainFault) -> Self {
        Self::Record { lsn, fault: RecordFault::Chain { target, fault } }
    }
}

/// What is wrong with a record of a transaction that is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// Its type number is neither one of [`RecordType`](super::RecordType)'s nor one of those left to the application.
    #[error("has unknown type {code}")]
    UnknownType {
        /// Its tag.
        code: u16,
    },
    /// It is shorter than its header.
    #[error("has {len} bytes, its header takes {needed}")]
    TooShort {
        /// Its payload's length in bytes.
        len: usize,
        /// The header's length in bytes.
        needed: usize,
    },
    /// A flag is set in its header that has no meaning.
    #[error("has an unknown flag in its header")]
    UnknownFlag,
    /// Reserved bytes of its header are not zero.
    #[error("has reserved bytes in its header that are not zero")]
    Reserved,
    /// A field of its header has a value, and its flag says that it has none.
    #[error("has a value in a field that its header flags as absent")]
    AbsentField,
    /// It names what to undo next, which only a compensation does.
    #[error("names what to undo next, and is not a compensation")]
    UndoNext,
    /// It is a checkpoint whose counts do not fit its length.
    #[error("is a checkpoint with {len} bytes of lists, its counts say {needed}")]
    CheckpointLayout {
        /// Bytes there are.
        len: u64,
        /// Bytes that the counts ask for.
        needed: u64,
    },
    /// It points to a record that cannot be the one before of its transaction.
    #[error("points to {}: {fault}", Target(*target))]
    Chain {
        /// Where to.
        target: Option<Lsn>,
        /// What is wrong with that.
        fault: ChainFault,
    },
    /// It ends or compensates a transaction that has not begun or is over.
    #[error("is of transaction {transaction}, which is not open")]
    NotOpen {
        /// The transaction.
        transaction: TransactionId,
    },
    /// It begins a transaction that is open already.
    #[error("begins transaction {transaction}, which has begun before")]
    AlreadyBegun {
        /// The transaction.
        transaction: TransactionId,
    },
}

/// Why a record cannot be the one before in the chain of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// It does not come before.
    #[error("it does not come before")]
    Forward,
    /// There is no such record.
    #[error("there is no such record")]
    Missing,
    /// It belongs to another transaction, or to none.
    #[error("it is not of the same transaction")]
    OtherTransaction,
    /// It is a record of the transaction, and not the last one before that.
    #[error("it is not the transaction's last record before that")]
    NotLast,
    /// It is of a type that cannot be in the middle of a transaction.
    #[error("it ends its transaction")]
    Ended,
}

/// Why a call for a transaction was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionFault {
    /// It has not begun, or is over.
    #[error("is not open")]
    NotOpen,
    /// It is open already.
    #[error("has begun before")]
    AlreadyBegun,
    /// Its last record is another one than the call gives as the one before.
    #[error("goes on after {}, not after {}", Target(*last), Target(*given))]
    NotLast {
        /// The record given.
        given: Option<Lsn>,
        /// The transaction's last record.
        last: Option<Lsn>,
    },
    /// A compensation names a record to go on with that is not one of the transaction's.
    #[error("has records {first} to {last}: undo cannot go on with record {undo_next}")]
    UndoNextOutside {
        /// The record given.
        undo_next: Lsn,
        /// The transaction's first record.
        first: Lsn,
        /// Its last.
        last: Lsn,
    },
    /// The savepoint is one of another transaction. Nothing was undone.
    #[error("cannot be rolled back to a savepoint of transaction {savepoint}")]
    ForeignSavepoint {
        /// The transaction that the savepoint is of.
        savepoint: TransactionId,
    },
    /// A caller has chosen a number that leaves too few for [`Wal::begin`](super::Wal::begin), which hands out larger ones
    /// only.
    #[error("has a number that a caller may not choose: the largest is {max}")]
    NumberTooLarge {
        /// [`TransactionId::MAX_CHOSEN`].
        max: TransactionId,
    },
}

/// A record that another one points to, for a message.
struct Target(Option<Lsn>);

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(lsn) => write!(f, "record {lsn}"),
            None => f.write_str("no record"),
        }
    }
}
