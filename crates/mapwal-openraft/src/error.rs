//! What can go wrong.

use std::io;
use std::path::PathBuf;

use mapwal::Lsn;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a store did not do what it was asked to. The calls of openraft's traits return it inside a [`StorageError`](openraft::StorageError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the log says.
    #[error(transparent)]
    Log(#[from] mapwal::Error),
    /// The log has records or metadata, and they are not those of a store: also a metadata slot that the application has set before the first
    /// store was opened.
    #[error("the log in {} is not one of a raft log store: it has records or metadata, and not what a store puts first", path.display())]
    Foreign {
        /// The log's directory.
        path: PathBuf,
    },
    /// The log has a store already: a clone of that is another handle. It is free again when all of them are dropped.
    #[error("the log in {} has a store: use a clone of that", path.display())]
    InUse {
        /// The log's directory.
        path: PathBuf,
    },
    /// The log was written by another version of this crate, in a way that this one cannot read.
    #[error("the log in {} has format {found}; this version reads format {}", path.display(), crate::stored::FORMAT)]
    Format {
        /// The log's directory.
        path: PathBuf,
        /// The format that it says it has.
        found: u8,
    },
    /// The entry does not follow the last one. It was not appended, nor any after it.
    #[error("entry {index} does not follow: the next one is {expected}")]
    NotNext {
        /// The entry's index.
        index: u64,
        /// The index that follows.
        expected: u64,
    },
    /// The entry was purged: it is not dropped by a truncation. Nothing was changed.
    #[error("cannot truncate from entry {index} on: all up to {purged} was purged")]
    Purged {
        /// The first entry to be dropped.
        index: u64,
        /// The last entry that was purged.
        purged: u64,
    },
    /// The log has no entry where there must be one: something else has written to it.
    #[error("entry {index} is missing in the log")]
    Missing {
        /// The entry's index.
        index: u64,
    },
    /// The log lacks its first entries: something else has trimmed it, and so the id of the last one that was purged is not known. A purge up to
    /// where the log begins, or beyond, makes it whole again; a node that is started is to be replaced by an empty one.
    #[error(
        "the log begins with record {lsn}, and entry {index}, its record {}, must be there: something else has trimmed it",
        crate::stored::lsn_of(*index)
    )]
    Trimmed {
        /// The index of the first entry that must be there.
        index: u64,
        /// The number of the log's first record.
        lsn: Lsn,
    },
    /// The record is no entry: something else has written to the log.
    #[error("record {lsn} is no entry of a raft log: something else has written to it")]
    NotAnEntry {
        /// The record's number.
        lsn: Lsn,
    },
    /// The codec cannot encode or decode something, or what is stored is not what the store has written.
    #[error("cannot {verb} {what}")]
    Codec {
        /// *encode* or *decode*.
        verb: &'static str,
        /// What.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A thread for a call that waits for the disk cannot be started, or has panicked.
    #[error("no thread to work on the log")]
    Thread(#[source] io::Error),
}

impl Error {
    pub(crate) fn encode(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Codec { verb: "encode", what, source }
    }

    pub(crate) fn decode(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Codec { verb: "decode", what, source }
    }
}
