//! What was wrong with what a call was given or asked for, where several things can be.

use std::fmt;

use super::Damage;
use crate::lsn::Lsn;

/// Why a call about a named pin was refused.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::error::PinFault;
/// use mapwal::{Error, Lsn};
///
/// log.create_pin("replica", "", Lsn(1), None)?;
/// let Err(Error::Pin { name, fault }) = log.create_pin("replica", "", Lsn(1), None) else { panic!("there is one") };
/// assert_eq!((name.as_str(), fault), ("replica", PinFault::Exists));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinFault {
    /// The name is empty, longer than 64 bytes, or has other characters than `a-z`, `A-Z`, `0-9`, `-` and `_`.
    #[error("is not a valid name: a pin's has 1 to 64 of a-z, A-Z, 0-9, - and _")]
    InvalidName,
    /// There is a pin of this name already.
    #[error("exists already")]
    Exists,
    /// There is no pin of this name.
    #[error("does not exist")]
    Missing,
    /// The pin held back more than its limit, or the log was reset, and records that it kept are gone.
    #[error("has lost record {lsn}: the log starts at {first}")]
    Lost {
        /// The record that it kept.
        lsn: Lsn,
        /// The first record still there.
        first: Lsn,
    },
    /// The pin's file is damaged, so that what it keeps is not known: drop it, and create it again.
    #[error("is damaged")]
    Damaged,
}

/// Why a request to trim came to nothing.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::error::RequestFault;
/// use mapwal::{Error, Lsn};
///
/// match mapwal::request_trim(dir.path(), Lsn(1)) {
///     Err(Error::Request(RequestFault::NotTaken)) => println!("Options::trim_on_request is not set"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFault {
    /// No process has the log open for writing.
    #[error("no process has the log open")]
    NoWriter,
    /// The process that has it open takes no requests, or has no control page that others see.
    #[error("the process that has the log open takes no requests to trim it")]
    NotTaken,
    /// It did not answer in time. The request has been taken back; what it may have begun goes on.
    #[error("the process that has the log open did not answer")]
    NoAnswer,
    /// It tried, and could not trim. Its events say why.
    #[error("the process that has the log open could not trim it")]
    Failed,
}

/// Why shipped frames were not appended.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::Error;
/// use mapwal::error::ReplicaFault;
///
/// match log.append_frames(b"not what was shipped") {
///     Err(Error::Replica { lsn, fault: ReplicaFault::Gap { next } }) => println!("send {next} to {lsn:?} first"),
///     Err(Error::Replica { fault: ReplicaFault::Conflict, .. }) => println!("truncate, and send again"),
///     Err(Error::Replica { fault: ReplicaFault::Damaged { offset, .. }, .. }) => println!("damaged at {offset}"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaFault {
    /// They are not what was shipped. Nothing was appended.
    #[error("damaged at offset {offset}: {damage}")]
    Damaged {
        /// Byte offset in what was given.
        offset: u64,
        /// What is wrong.
        damage: Damage,
    },
    /// Records are missing before them. Nothing was appended.
    #[error("the log goes on with record {next}")]
    Gap {
        /// The number that the log goes on with.
        next: Lsn,
    },
    /// The record of this number in the log is another one, or something else has appended to the log meanwhile.
    #[error("the log has another record of this number")]
    Conflict,
}

/// Why a metadata slot was not set.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::Error;
/// use mapwal::error::MetaFault;
///
/// let refused = log.put_meta(16, b"a value");
/// assert!(matches!(refused, Err(Error::Meta { slot: 16, fault: MetaFault::NoSlot { slots: 16 } })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaFault {
    /// There is no slot of this number.
    #[error("does not exist: a log has {slots}")]
    NoSlot {
        /// Slots of a log, numbered from 0.
        slots: usize,
    },
    /// The value does not fit beside those of the other slots.
    #[error("has room for {len_max} bytes, not for {len}")]
    TooLong {
        /// The value's length in bytes.
        len: usize,
        /// The most bytes in this slot, beside what the others hold.
        len_max: usize,
    },
}

/// What a file has that this library does not read: another version of it has written the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatFault {
    /// The version of the format.
    #[error("format version {found}, this library reads versions up to {supported}")]
    Version {
        /// The version that the file states.
        found: u32,
        /// The newest version supported.
        supported: u32,
    },
    /// Features that have to be known to read the file, or to write to it.
    #[error("features that this library does not know: {unknown:#x}")]
    Features {
        /// The features, as bits.
        unknown: u32,
    },
}

/// Numbers that a log can use up.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::error::NumberSpace;
/// use mapwal::{Error, Lsn};
///
/// let refused = log.reset_to(Lsn(u64::MAX));
/// assert!(matches!(refused, Err(Error::Exhausted(NumberSpace::Records))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NumberSpace {
    /// Of records: 2^64 - 2^33.
    Records,
    /// Of segments: 2^32 - 1.
    Segments,
}

impl fmt::Display for NumberSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Records => "record numbers",
            Self::Segments => "segment numbers",
        })
    }
}

/// Why a payload is not a value of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutMismatch {
    /// The payload's length is not the type's.
    Size,
    /// The type needs a stricter alignment than a payload's 8 bytes.
    Alignment,
    /// The bytes are not a valid value.
    Validity,
}

impl fmt::Display for LayoutMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "wrong size",
            Self::Alignment => "misaligned",
            Self::Validity => "invalid value",
        })
    }
}
