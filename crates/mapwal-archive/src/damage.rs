//! What can be wrong with an object of an archive.

use mapwal::Lsn;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ObjectDamage {
    /// It has another length than when it was listed, or was uploaded.
    #[error("{found} bytes instead of {expected}")]
    Length {
        /// What it should have, in bytes.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// Its bytes do not have the checksum in its key; or it is the note of an epoch, and does not say what has the checksum in it.
    #[error("checksum {found:08x} instead of {expected:08x}")]
    Checksum {
        /// The one in its key, or in the note.
        expected: u32,
        /// That of its bytes.
        found: u32,
    },
    /// Its bytes have the checksum in its key, and were damaged before that was taken: a frame in it is not sound, or not there.
    #[error("{fault}{}", at(*offset, lsn.map(Lsn)))]
    Frame {
        /// What is wrong with the frame.
        fault: String,
        /// Where it is, where that is known: a byte offset in the object.
        offset: Option<u64>,
        /// The record that is expected there, where that is known.
        lsn: Option<u64>,
    },
    /// It comes before the beginning of its epoch, and no epoch that this one continues has it: it belongs elsewhere, or the epoch's note is wrong.
    #[error("it comes before record {first}, with which its epoch begins")]
    Early {
        /// The epoch's first record.
        first: u64,
    },
    /// Its first frames say that it is another segment.
    #[error("it is not the segment that its key says")]
    Identity,
    /// It does not follow the one before it in the archive: a segment without a record is missing between them, or that one is
    /// not what it was.
    #[error("it follows byte {} of segment {}, and the archive has segment {} up to byte {} before it", names.1, names.0, found.0, found.1)]
    Link {
        /// The number of the segment that it names as the one before, and where that ends.
        names: (u64, u64),
        /// The same of the one that the archive has before it.
        found: (u64, u64),
    },
    /// It is not there any more, or not yet.
    #[error("it is missing")]
    Missing,
    /// It cannot be understood.
    #[error("its contents cannot be read")]
    Contents,
    /// It is a note that cannot be understood.
    #[error("it cannot be read from line {line}, column {column} on")]
    Note {
        /// The line, from 1 on.
        line: u64,
        /// The column, from 1 on.
        column: u64,
    },
    /// It is the note of an epoch, written by a later version of this crate.
    #[error("it is in version {version}, which needs a newer mapwal-archive")]
    Version {
        /// That version.
        version: u32,
    },
    /// It is a part, and has other bytes than the sealed segment: that, or the part, is another log's.
    #[error("it differs from {key} in record {lsn} or after it")]
    Other {
        /// The sealed segment.
        key: String,
        /// The first record that both have.
        lsn: u64,
    },
    /// It has the contents that another object should have, which is damaged: the way to restore those.
    #[error("it has the contents that {other} should have")]
    Misnamed {
        /// The other object.
        other: String,
    },
    /// It may not be read, or its disk has failed there: the note of an epoch, or an object that an archiver has found to be damaged before.
    #[error("it cannot be read: {why}")]
    Unreadable {
        /// What the store said.
        why: String,
    },
    /// It is the note of an epoch, and a copy of another one's.
    #[error("it is a copy of that of epoch {epoch}")]
    Copy {
        /// The other epoch.
        epoch: u64,
    },
    /// It is the note of an epoch of another log.
    #[error("it is of another log: {log}")]
    OtherLog {
        /// The identity of that log, in hexadecimal digits.
        log: String,
    },
}

impl ObjectDamage {
    /// What it is called: not all of it is damage.
    pub(crate) fn verdict(&self) -> &'static str {
        match self {
            Self::Version { .. } | Self::Unreadable { .. } => "cannot be used",
            _ => "is damaged",
        }
    }
}

/// The place in a damaged object.
pub(crate) fn at(offset: Option<u64>, lsn: Option<Lsn>) -> String {
    match (offset, lsn) {
        (Some(offset), Some(lsn)) => format!(" at byte {offset}, where record {lsn} is expected"),
        (Some(offset), None) => format!(" at byte {offset}"),
        (None, _) => String::new(),
    }
}
