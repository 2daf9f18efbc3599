//! What can go wrong: [`Error`], with one variant for each thing that a caller can act on, and the facts that it carries.

mod damage;
mod fault;
mod io;
mod system;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use damage::{Corruption, Damage, Evidence};
pub use fault::{FormatFault, LayoutMismatch, MetaFault, NumberSpace, PinFault, ReplicaFault, RequestFault};
pub use system::{FileKind, SpaceLeft, Unsupported};

use crate::lsn::Lsn;
use damage::At;
use system::{Given, Gone, Holder, Left};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what it was asked to.
///
/// # Example
/// ```
/// use mapwal::error::{FileKind, FormatFault, SpaceLeft, Unsupported};
/// use mapwal::{Error, Log, Options};
///
/// /// What an operator is to do.
/// fn advice(error: &Error) -> String {
///     match error {
///         Error::NoSpace { left: Some(SpaceLeft { bytes, .. }), .. } => format!("make room: {bytes} bytes are left"),
///         Error::Corrupt(corruption) => format!("restore a copy: {} is damaged", corruption.path.display()),
///         Error::Poisoned { durable, .. } => format!("look at the disk, open it again: it has all up to {durable}"),
///         Error::UnsupportedFileSystem { reason: Unsupported::Network, .. } => "use a local disk".to_owned(),
///         Error::NotARegularFile { path, found: FileKind::Symlink } => format!("remove {}", path.display()),
///         Error::Format { fault: FormatFault::Version { found, .. }, .. } => format!("use a program that reads {found}"),
///         other => other.to_string(),
///     }
/// }
///
/// # let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("notes.txt"), "not a log")?;
/// // SAFETY: nothing else writes to the directory.
/// let refused = unsafe { Log::open(dir.path(), &Options::new()) }.expect_err("a directory with something else in it");
/// assert!(advice(&refused).starts_with("not a log"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed. The log is as it was before the call, unless that says otherwise.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The disk is full. Nothing was reserved or written; reads go on, and appends work again once there is room.
    #[error("no space for {needed_bytes} bytes in {}{}", path.display(), Left(*left))]
    NoSpace {
        /// The directory of the log.
        path: PathBuf,
        /// What was to be reserved: one more segment or a part of it, a control page, or a pin. 0 where that is not known.
        needed_bytes: u64,
        /// What the file system said then that it had left; `None` where it does not say so.
        left: Option<SpaceLeft>,
    },
    /// The payload, or the batch, does not fit into one segment. Nothing was written.
    #[error("a record or batch of {len} bytes exceeds the largest of {max}")]
    RecordTooLarge {
        /// Bytes asked for.
        len: u64,
        /// The most that one segment of this log can hold.
        max: u64,
    },
    /// Bytes that were acknowledged as durable, or a file's identity, are damaged. Nothing was changed.
    #[error(transparent)]
    Corrupt(Box<Corruption>),
    /// A sync failed, or a file of the log was removed, replaced or lost: the log refuses all writes until it is dropped and opened
    /// again.
    #[error("log is poisoned; durable up to {durable}: {}", path.display())]
    Poisoned {
        /// The log's directory.
        path: PathBuf,
        /// The last record known to be durable.
        durable: Lsn,
        /// The failure.
        source: Arc<std::io::Error>,
    },
    /// Another `Log` has the directory open.
    #[error("log is already open for writing {}: {}", Holder(*pid), path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, where it left its number.
        pid: Option<u32>,
    },
    /// What a log promises does not hold on this file system. Nothing was changed.
    #[error("{} is on {file_system}: {reason}", path.display())]
    UnsupportedFileSystem {
        /// The directory.
        path: PathBuf,
        /// The name of the file system.
        file_system: &'static str,
        /// What is wrong with it.
        reason: Unsupported,
    },
    /// The directory, or a file of the log, was removed or replaced while the log was read: what is there now is not what is
    /// open. To go on, open it again.
    #[error("{} has been removed or replaced while the log is open", path.display())]
    Displaced {
        /// Its path.
        path: PathBuf,
    },
    /// The directory holds something, and that is not a log.
    #[error("not a log: {} is not a file of mapwal; a log needs a directory of its own", path.display())]
    NotALog {
        /// The first thing found that does not belong.
        path: PathBuf,
    },
    /// There is no log here, and the call does not create one.
    #[error("no log in {}", path.display())]
    NoLog {
        /// The directory.
        path: PathBuf,
    },
    /// Something other than a regular file is in the place of one of the log's files.
    #[error("{} is {found}, not a regular file", path.display())]
    NotARegularFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        found: FileKind,
    },
    /// A file was written by another version of this library, in a way that this one cannot read, or cannot write on. Nothing
    /// was changed.
    #[error("{} has {fault}", path.display())]
    Format {
        /// The segment.
        path: PathBuf,
        /// What is unknown.
        fault: FormatFault,
    },
    /// An option, or an argument of the call, is out of range. Nothing was changed.
    #[error("{name} = {} is not {expected}", Given(name, *value))]
    InvalidArgument {
        /// The name of the option or the argument.
        name: &'static str,
        /// The value given.
        value: u64,
        /// What would do.
        expected: &'static str,
    },
    /// The record has been trimmed away, or is below the first that the log had.
    #[error("{}; the log starts at {first}", Gone(*lsn))]
    Trimmed {
        /// The record asked for.
        lsn: Lsn,
        /// The first record still there.
        first: Lsn,
    },
    /// The record does not exist yet.
    #[error("record {lsn} has not been appended; the next will be {next}")]
    NotAppended {
        /// The record asked for.
        lsn: Lsn,
        /// The next number to be handed out.
        next: Lsn,
    },
    /// The next record would not have had the number that was asked for. Nothing was written.
    #[error("the next record is {next}, not {expected}")]
    NotNext {
        /// The number that the caller expected.
        expected: Lsn,
        /// The number that the next record would have had.
        next: Lsn,
    },
    /// The record was removed by a truncation of the log's suffix while the call waited for it.
    #[error("record {lsn} was truncated while it was waited for")]
    Truncated {
        /// The record.
        lsn: Lsn,
    },
    /// Records that the follower had handed out, or passed, were truncated. It goes on with record `to`.
    #[error("the log was truncated; the follower goes back to record {to}")]
    Rewound {
        /// The next record that the follower will hand out.
        to: Lsn,
    },
    /// The log is closed; or it was dropped before the record became durable, or before there was another one.
    #[error("log was closed")]
    Closed,
    /// A metadata slot cannot hold the value. Nothing was written.
    #[error("metadata slot {slot} {fault}")]
    Meta {
        /// The slot asked for.
        slot: usize,
        /// Why not.
        fault: MetaFault,
    },
    /// The log, or what reads it, was opened by the process that this one was forked from: it belongs to that one. This process
    /// can drop it. It may use logs of its own, this one included once the other has closed it, if no other thread existed
    /// at the fork, as POSIX has it: otherwise only after it has become another program.
    #[error("opened before this process was forked")]
    Forked,
    /// The closure of [`Log::append_with_writer`](crate::Log::append_with_writer) failed, or did not write as many bytes as it was
    /// to: there is no such record.
    #[error("given up after {written} of {len} bytes of a payload{}", At(*lsn))]
    GivenUp {
        /// The number that the record had got, which is used up: readers pass over it. `None` if it had none yet.
        lsn: Option<Lsn>,
        /// Bytes that its payload was to have.
        len: u64,
        /// Bytes that were written; more than `len` where some had no room.
        written: u64,
        /// Why the closure failed, if it did.
        source: Option<std::io::Error>,
    },
    /// A call from inside an `append_with` or `append_with_writer` closure of the same thread, that would wait for that closure.
    #[error("called from inside a closure that writes a record")]
    InsideAppend,
    /// The log has used up all numbers of a kind.
    #[error("log has used up its {0}")]
    Exhausted(NumberSpace),
    /// Shipped frames were not appended, or not all of them: `fault` says which.
    #[error("shipped frames{}: {fault}", At(*lsn))]
    Replica {
        /// The shipped record concerned, where that is known.
        lsn: Option<Lsn>,
        /// What is wrong.
        fault: ReplicaFault,
    },
    /// A call about a named pin was refused. Nothing was changed.
    #[error("pin {name:?} {fault}")]
    Pin {
        /// The pin's name.
        name: String,
        /// Why.
        fault: PinFault,
    },
    /// A request to trim came to nothing.
    #[error("{0}")]
    Request(RequestFault),
    /// The payload is not a valid value of the type asked for.
    #[error("payload of record {lsn} ({len} bytes) cannot be viewed as {type_name}: {reason}")]
    PayloadLayout {
        /// The record.
        lsn: Lsn,
        /// Its payload's length in bytes.
        len: usize,
        /// The type asked for.
        type_name: &'static str,
        /// What does not fit.
        reason: LayoutMismatch,
    },
}

impl Error {
    /// An [`Error::Io`] of `operation` on `path`.
    pub(crate) fn io(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    /// An [`Error::Pin`].
    pub(crate) fn pin(name: &str, fault: PinFault) -> Self {
        Self::Pin { name: name.to_owned(), fault }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, lsn: Option<Lsn>, damage: Damage) -> Self {
        Self::Corrupt(Box::new(Corruption { path: path.to_owned(), offset, lsn, damage, evidence: None }))
    }
}
