//! What can go wrong, one variant for each thing a caller can act on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ids::TransactionId;
use crate::lsn::Lsn;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what it was asked to.
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
        source: io::Error,
    },
    /// The disk is full. Nothing was reserved or written; reads go on, and appends work again once there is room.
    #[error("no space for {needed_bytes} bytes in {}{}", path.display(), Left(*left))]
    NoSpace {
        /// The directory of the log.
        path: PathBuf,
        /// What one more segment takes.
        needed_bytes: u64,
        /// What the file system said then that it had left; `None` where it does not say so.
        left: Option<SpaceLeft>,
    },
    /// The payload, or the batch, does not fit into one segment. Nothing was written.
    #[error("payload of {len} bytes exceeds the largest of {max}")]
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
    #[error("log is poisoned; durable up to {durable}")]
    Poisoned {
        /// The last record known to be durable.
        durable: Lsn,
        /// The failure.
        source: Arc<io::Error>,
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
    /// Something other than a regular file stands in the place of one of the log's files.
    #[error("{} is {found}, not a regular file", path.display())]
    NotARegularFile {
        /// Its path.
        path: PathBuf,
        /// What it is.
        found: FileKind,
    },
    /// A file was written by a version of the format that this library does not read.
    #[error("{} has format version {found}, this library reads none after {supported}", path.display())]
    Version {
        /// The segment, or the named pin.
        path: PathBuf,
        /// The version that it states.
        found: u32,
        /// The newest version supported.
        supported: u32,
    },
    /// A segment uses features of the format that this library does not know, and that it would have to: a later one has
    /// written it. Nothing was changed.
    #[error("{} uses features that this library does not know: {unknown:#x}", path.display())]
    UnknownFeatures {
        /// The segment.
        path: PathBuf,
        /// The features, as bits.
        unknown: u32,
    },
    /// An option is out of range.
    #[error("option {option} = {value} is not {expected}")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// The value given.
        value: u64,
        /// What would do.
        expected: &'static str,
    },
    /// The record has been trimmed away.
    #[error("record {lsn} has been trimmed; the log starts at {first}")]
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
    /// The log was dropped before the record became durable, or before there was another one.
    #[error("log was closed")]
    Closed,
    /// A metadata slot's number or the length of its value is out of range. Nothing was written.
    #[error(
        "metadata of {len} bytes in slot {slot}; a log has {slots} slots, and room for {len_max} bytes in this one"
    )]
    MetaTooLarge {
        /// The slot asked for.
        slot: usize,
        /// The value's length in bytes.
        len: usize,
        /// Slots of a log.
        slots: usize,
        /// The most bytes in this one, beside what the others hold.
        len_max: usize,
    },
    /// The log, or what reads it, was opened by the process that this one was forked from: it belongs to that one. This process
    /// can drop it. It may use logs of its own, this one included once the other has closed it, if no other thread existed
    /// at the fork, as POSIX has it: otherwise only after it has become another program.
    #[error("opened before this process was forked")]
    Forked,
    /// A call from inside an `append_with` closure of the same thread, that would wait for that closure.
    #[error("called from inside an append_with closure")]
    InsideAppend,
    /// All 2^64 record or transaction numbers, or all 2^32 segment numbers, are used up.
    #[error("log has used up its {0}")]
    Exhausted(&'static str),
    /// Shipped frames are not what was shipped. Nothing was appended.
    #[error("shipped frames are damaged at offset {offset}: {damage}")]
    InvalidFrames {
        /// Byte offset in what was given.
        offset: u64,
        /// The record expected there, where that is known.
        lsn: Option<Lsn>,
        /// What is wrong.
        damage: Damage,
    },
    /// Records are missing before the shipped ones. Nothing was appended.
    #[error("shipped frames begin with record {found}; the log goes on with {expected}")]
    ReplicaGap {
        /// The number that the log goes on with.
        expected: Lsn,
        /// The first number shipped.
        found: Lsn,
    },
    /// A shipped record differs from the one of this number here, or somebody else has appended meanwhile.
    #[error("shipped record {lsn} differs from the one in the log")]
    ReplicaConflict {
        /// The record.
        lsn: Lsn,
    },
    /// A named pin's name is empty, longer than 64 bytes, or has other characters than `a-z`, `A-Z`, `0-9`, `-` and `_`.
    #[error("{name:?} is no name for a pin")]
    InvalidPinName {
        /// The name.
        name: String,
    },
    /// There is a named pin of this name already.
    #[error("pin {name} exists already")]
    PinExists {
        /// Its name.
        name: String,
    },
    /// There is no named pin of this name.
    #[error("there is no pin {name}")]
    NoPin {
        /// The name asked for.
        name: String,
    },
    /// A named pin fell behind its limit, or the log was reset, and records that it kept are gone.
    #[error("pin {name} at record {lsn} is lost; the log starts at {first}")]
    PinLost {
        /// Its name.
        name: String,
        /// The record that it kept.
        lsn: Lsn,
        /// The first record still there.
        first: Lsn,
    },
    /// A named pin's file is damaged, so that what it keeps is not known: it has to be dropped, and made anew.
    #[error("pin {name} is damaged")]
    PinDamaged {
        /// Its name.
        name: String,
    },
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
    /// A record's type number is none of the transactional layer's, nor one of those left to the application.
    #[error("record {lsn} has unknown type {code}")]
    UnknownRecordType {
        /// The record.
        lsn: Lsn,
        /// Its tag.
        code: u16,
    },
    /// The call does not log records of this type, or the type number is not one of those left to the application.
    /// Nothing was written.
    #[error("records of type {code} are not logged by this call")]
    RecordTypeNotAllowed {
        /// The type's number.
        code: u16,
    },
    /// A record of the transactional layer is shorter than its header.
    #[error("record {lsn} has {len} bytes, its header takes {needed}")]
    RecordTooShort {
        /// The record.
        lsn: Lsn,
        /// Its payload's length in bytes.
        len: usize,
        /// The header's length in bytes.
        needed: usize,
    },
    /// The header of a transaction's record contradicts itself.
    #[error("header of record {lsn} is invalid: {reason}")]
    RecordHeader {
        /// The record.
        lsn: Lsn,
        /// What contradicts.
        reason: HeaderFault,
    },
    /// The counts in a checkpoint do not fit its length.
    #[error("checkpoint {lsn} has {len} bytes of lists, its counts say {needed}")]
    CheckpointLayout {
        /// The checkpoint record.
        lsn: Lsn,
        /// Bytes there are.
        len: u64,
        /// Bytes that the counts ask for.
        needed: u64,
    },
    /// A metadata slot of the transactional layer holds something else.
    #[error("metadata slot {slot} holds {len} bytes, {expected} belong there")]
    WalMetadata {
        /// The slot.
        slot: usize,
        /// Bytes in it.
        len: usize,
        /// Bytes that belong there.
        expected: usize,
    },
    /// The record that the log names as its last checkpoint is not there, or is no checkpoint: the log was trimmed, truncated or
    /// reset past it by another way than those of [`Wal`](crate::Wal).
    /// [`RecoverFrom::OldestRecord`](crate::RecoverFrom::OldestRecord) opens what is kept, and the next checkpoint puts an end to
    /// this. Changes whose records are gone, and that are in no page on disk, are lost.
    #[error(
        "record {lsn} is named as the last checkpoint and is none: recover what is kept with `RecoverFrom::OldestRecord`"
    )]
    NoCheckpoint {
        /// The record named.
        lsn: Lsn,
    },
    /// A caller has chosen a number for a transaction that leaves too few for [`Wal::begin`](crate::Wal::begin), which hands out
    /// larger ones only. Nothing was written.
    #[error("transaction number {transaction} was chosen, the largest that may be is {max}")]
    TransactionNumber {
        /// The number.
        transaction: TransactionId,
        /// [`TransactionId::MAX_CHOSEN`](crate::TransactionId::MAX_CHOSEN).
        max: TransactionId,
    },
    /// A checkpoint has more open transactions and dirty pages than one record can list: 32 bytes for each of the former, 16 for
    /// each of the latter. Nothing was written.
    #[error(
        "checkpoint of {active} open transactions and {dirty} dirty pages takes {len} bytes, of {max}: \
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
    /// A checkpoint begins before the engine has said that what recovery found is redone. Nothing was written.
    #[error("no checkpoint yet: records from {from} on are to be redone, and `Recovery::redone` has not been called")]
    NotRedone {
        /// The oldest record to be redone.
        from: Lsn,
    },
    /// A record points to another one that cannot be its transaction's record before.
    #[error("record {lsn} points to {}: {fault}", Target(*target))]
    BrokenChain {
        /// The record that points.
        lsn: Lsn,
        /// Where to.
        target: Option<Lsn>,
        /// What is wrong with that.
        fault: ChainFault,
    },
    /// The call names another record than the transaction's last one as the one before. Nothing was written.
    #[error("{} is not the last record of transaction {transaction}, which is {}", Target(*given), Target(*last))]
    NotLastRecord {
        /// The transaction.
        transaction: TransactionId,
        /// The record given.
        given: Option<Lsn>,
        /// The transaction's last record.
        last: Option<Lsn>,
    },
    /// A compensation names a record to go on with that is none of its transaction's, which are from `first` to `last`.
    /// Nothing was written.
    #[error("undo of transaction {transaction} cannot go on with record {undo_next}, outside of {first} to {last}")]
    UndoNextOutside {
        /// The transaction.
        transaction: TransactionId,
        /// The record given.
        undo_next: Lsn,
        /// The transaction's first record.
        first: Lsn,
        /// Its last.
        last: Lsn,
    },
    /// A transaction ends, or is compensated, that has not begun or is over.
    #[error("{}transaction {transaction} is not open", During(*lsn))]
    UnknownTransaction {
        /// The transaction.
        transaction: TransactionId,
        /// The record that says so; `None` if the call would have written it.
        lsn: Option<Lsn>,
    },
    /// A transaction begins that is open already.
    #[error("{}transaction {transaction} has begun before", During(*lsn))]
    AlreadyBegun {
        /// The transaction.
        transaction: TransactionId,
        /// The second begin; `None` if the call would have written it.
        lsn: Option<Lsn>,
    },
    /// A savepoint of another transaction. Nothing was undone.
    #[error("savepoint of transaction {savepoint} is used in transaction {transaction}")]
    ForeignSavepoint {
        /// The transaction that was to be rolled back.
        transaction: TransactionId,
        /// The one that the savepoint is of.
        savepoint: TransactionId,
    },
}

impl Error {
    /// An [`Error::Io`] of `operation` on `path`.
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, lsn: Option<Lsn>, damage: Damage) -> Self {
        Self::Corrupt(Box::new(Corruption { path: path.to_owned(), offset, lsn, damage, evidence: None }))
    }
}

/// What a file system has left for who is not its administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaceLeft {
    /// Bytes.
    pub bytes: u64,
    /// Files that can still be made; `None` where their number has no limit.
    pub inodes: Option<u64>,
}

impl SpaceLeft {
    pub(crate) fn new(bytes: u64, inodes: Option<u64>) -> Self {
        Self { bytes, inodes }
    }
}

struct Left(Option<SpaceLeft>);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(SpaceLeft { inodes: Some(0), .. }) => f.write_str(": no inodes left"),
            Some(SpaceLeft { bytes, .. }) => write!(f, ": {bytes} bytes left"),
        }
    }
}

struct Target(Option<Lsn>);

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(lsn) => write!(f, "record {lsn}"),
            None => f.write_str("no record"),
        }
    }
}

struct During(Option<Lsn>);

impl fmt::Display for During {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |lsn| write!(f, "at record {lsn}: "))
    }
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) if pid == std::process::id() => write!(f, "by this process"),
            Some(pid) => write!(f, "by process {pid}"),
            None => write!(f, "by another process"),
        }
    }
}

/// Why a log cannot be written on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// Other machines may write the same files, and mappings do not see it; a lock may be this machine's alone.
    Network,
    /// What a process of its own, or the host of a virtual machine, makes of mappings, locks and syncs is not known.
    Relayed,
    /// It is mounted so that syncs do nothing.
    SyncsOmitted,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "a file system across a network, whose mappings other machines do not share",
            Self::Relayed => "a file system whose mappings, locks and syncs another program relays",
            Self::SyncsOmitted => "mounted so that syncs are omitted",
        })
    }
}

/// What stands in a directory under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device.
    Other,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Other => "a special file",
        })
    }
}

/// Why a payload is no value of a type.
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

/// What contradicts in the header of a transaction's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderFault {
    /// A flag is set that has no meaning.
    UnknownFlag,
    /// Reserved bytes are not zero.
    Reserved,
    /// A field has a value, and its flag says that it has none.
    AbsentField,
    /// A field that only compensations have.
    UndoNext,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownFlag => "unknown flag",
            Self::Reserved => "reserved bytes are not zero",
            Self::AbsentField => "a field that is flagged as absent is not zero",
            Self::UndoNext => "only a compensation names what to undo next",
        })
    }
}

/// Why a record cannot be the one before in the chain of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainFault {
    /// It does not lie before.
    Forward,
    /// There is no such record.
    Missing,
    /// It belongs to another transaction, or to none.
    OtherTransaction,
    /// It is a record of the transaction, and not the last one before.
    NotLast,
    /// It is of a type that cannot be in the middle of a transaction.
    Ended,
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "it does not lie before",
            Self::Missing => "there is no such record",
            Self::OtherTransaction => "it is not of the same transaction",
            Self::NotLast => "it is not the last record before of its transaction",
            Self::Ended => "it ends its transaction",
        })
    }
}

/// Damage to a log, with where it is and what shows that it is damage rather than a torn end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{} is damaged at offset {offset}{}: {damage}{}", path.display(), At(*lsn), Proof(evidence.as_ref()))]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// Byte offset in the file.
    pub offset: u64,
    /// The record expected there, where that is known.
    pub lsn: Option<Lsn>,
    /// What is wrong.
    pub damage: Damage,
    /// A later frame that proves that the damaged bytes had been durable.
    pub evidence: Option<Evidence>,
}

impl From<Corruption> for Error {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(Box::new(corruption))
    }
}

/// A frame written later, whose header says that the log was durable beyond the damage when it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The number of the segment that holds the frame.
    pub segment: u64,
    /// Its byte offset there.
    pub offset: u64,
    /// The LSN in its header.
    pub lsn: Lsn,
}

struct At(Option<Lsn>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |lsn| write!(f, " (record {lsn})"))
    }
}

struct Proof<'a>(Option<&'a Evidence>);

impl fmt::Display for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |e| {
            write!(f, "; record {} in segment {} at offset {} proves that it was durable", e.lsn, e.segment, e.offset)
        })
    }
}

/// What is wrong with a file or a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A segment does not start with the magic bytes.
    #[error("wrong magic bytes")]
    Magic,
    /// A segment's header states another version than the one by which its checksum is right.
    #[error("version {0} contradicts the checksum")]
    HeaderVersion(u32),
    /// A named pin is of a version of the format that this library does not know; its last magic byte.
    #[error("version {0} is not known")]
    UnknownVersion(u32),
    /// A checksum does not match.
    #[error("checksum is {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// Computed from the bytes.
        expected: u32,
        /// Stored with them.
        found: u32,
    },
    /// Reserved bytes or bits, or padding, are not zero.
    #[error("reserved bytes are not zero")]
    Reserved,
    /// A segment's header states a size that is no power of two in range.
    #[error("segment size {0} is not a power of two from 64 KiB to 4 GiB")]
    SegmentSize(u64),
    /// A file is not as long as its header says.
    #[error("file is {found} bytes long, its header says {expected}")]
    FileLength {
        /// From the header.
        expected: u64,
        /// From the file system.
        found: u64,
    },
    /// A segment's header has another number than its file name.
    #[error("segment number is {found}, its name says {expected}")]
    SegmentNumber {
        /// From the name.
        expected: u64,
        /// From the header.
        found: u64,
    },
    /// A segment belongs to another log.
    #[error("segment belongs to log {found:032x}, this is log {expected:032x}")]
    ForeignSegment {
        /// This log's identity.
        expected: u128,
        /// The segment's.
        found: u128,
    },
    /// A segment is missing that a later one, or a record, refers to.
    #[error("segment is missing; {referrer} refers to it")]
    MissingSegment {
        /// The number of the segment that refers to it.
        referrer: u64,
    },
    /// No segment is left of a log; the record is the last that is known to have been there. To begin a new log in the directory, remove the
    /// witness too.
    #[error("all segments are missing; {witness} says that there were some")]
    AllSegmentsMissing {
        /// The file beside them that says so: the control page, or a named pin.
        witness: String,
    },
    /// There are bytes where a frame must be, and nothing at all was written.
    #[error("frame is missing")]
    MissingFrame,
    /// A frame's length is below its header's or beyond the segment.
    #[error("frame length {0} is out of range")]
    FrameLength(u32),
    /// A frame's kind is unknown, or not allowed in its place.
    #[error("frame kind {0} is not expected here")]
    FrameKind(u8),
    /// A frame has another number than its place.
    #[error("frame has number {found}, expected {expected}")]
    FrameLsn {
        /// From its place.
        expected: Lsn,
        /// From its header.
        found: Lsn,
    },
    /// The frames of a segment are not those that its seal or its close has counted and summed.
    #[error("frames before it are not those that it counts")]
    SegmentSum,
    /// The contents of a link, seal or metadata frame make no sense.
    #[error("contents of the frame are invalid")]
    FrameContents,
    /// A segment does not end where and as its successor says.
    #[error("segment ends at offset {found}, its successor says {expected}")]
    SegmentEnd {
        /// From the successor.
        expected: u64,
        /// From the walk.
        found: u64,
    },
    /// A batch has no last frame, and more follows.
    #[error("batch is incomplete")]
    IncompleteBatch,
    /// Bytes that are not zero follow the close with which the log was shut down, and no writer has come after it.
    #[error("bytes follow the close with which the log was shut down")]
    AfterClose,
    /// The device holds other bytes than were read through the page cache.
    #[error("device and page cache differ")]
    DeviceMismatch,
    /// A named pin's file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}
