//! What can go wrong: [`Error`], with one variant for each thing that a caller can act on.

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use mapwal::Lsn;

use crate::conflict::Claims;
pub use crate::damage::ObjectDamage;
use crate::damage::at;
use crate::gaps::{MissingRecords, told};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed. An archiver tries again, and reports it in its status meanwhile.
    #[error("cannot {operation} {}", or_root(key))]
    Store {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The object, or the prefix.
        key: String,
        /// What the store said.
        source: Box<object_store::Error>,
    },
    /// Nothing is there any more of the archive in which the archiver was at work: the store is another one, such as where a disk is not mounted. An
    /// archiver waits for it.
    #[error("cannot read {}: the archive that was here is gone; is its disk mounted?", or_root(key))]
    Gone {
        /// The object, or the prefix.
        key: String,
    },
    /// A call of the log failed.
    #[error(transparent)]
    Log(#[from] mapwal::Error),
    /// A system call failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Two things claim the same records of one epoch, and differ. Nothing was overwritten, and the archiver has stopped.
    #[error("{key} and {other} both have record {lsn}, and differ{claims}")]
    Conflict {
        /// The object that is in the archive.
        key: String,
        /// Another object, or the segment's file.
        other: String,
        /// The first record that both have.
        lsn: Lsn,
        /// What else is known of them.
        claims: Claims,
    },
    /// Another archiver has this log open under this pin; or another restore into the directory is under way.
    #[error("another one holds {}", path.display())]
    Busy {
        /// The locked file.
        path: PathBuf,
    },
    /// Another archiver, with a copy of the log's directory, has gone on with the epoch.
    #[error("epoch {epoch} is being written by {by}")]
    Superseded {
        /// The epoch.
        epoch: u64,
        /// The other one: process, host and time, as it says itself.
        by: String,
    },
    /// The prefix has the archive of another log.
    #[error(
        "{} is of log {archived:032x}, and not of {log:032x}; `mapwal-archive verify` says if that is another log's note, which rebuild-note makes again",
        named(prefix)
    )]
    OtherLog {
        /// The prefix.
        prefix: String,
        /// The identity of the log that is archived there.
        archived: u128,
        /// That of the log at hand.
        log: u128,
    },
    /// The log is archived here already, under another pin: a second history of the same records would be taken for a later one.
    #[error("{} has this log already, under pin {pin}", named(prefix))]
    ArchivedAlready {
        /// The prefix.
        prefix: String,
        /// The other pin. Drop it if that archiver is to be replaced.
        pin: String,
    },
    /// The pin says that the log is archived in an epoch that is not here: the store or the prefix is another one, or objects
    /// were removed. Where they are gone for good, the way out is
    /// [`ArchiverOptions::abandon_epoch`](crate::ArchiverOptions::abandon_epoch).
    #[error("pin {pin} is of epoch {epoch}, where all before record {next} was archived, and {} {}", named(prefix), has(*objects))]
    OtherArchive {
        /// The pin.
        pin: String,
        /// The epoch that it names.
        epoch: u64,
        /// Where that was looked for.
        prefix: String,
        /// All records before it were archived.
        next: Lsn,
        /// Segments and parts of the epoch that are there, though its note is not.
        objects: u64,
    },
    /// The epoch that the pin names was pruned, or is about to be, as a history that a later one has taken the place of. With
    /// [`ArchiverOptions::abandon_epoch`](crate::ArchiverOptions::abandon_epoch) another one is begun, which is then the newest.
    #[error("epoch {epoch}, of pin {pin}, was pruned from {}, which goes on with a later one", named(prefix))]
    Pruned {
        /// The pin.
        pin: String,
        /// The epoch that it names.
        epoch: u64,
        /// Where it was.
        prefix: String,
    },
    /// The epoch that the pin names was deleted by [`Archive::forget_epoch`](crate::Archive::forget_epoch), or is about to be: call that again where it was killed. If it is refused by then,
    /// the epoch is gone on with. With
    /// [`ArchiverOptions::abandon_epoch`](crate::ArchiverOptions::abandon_epoch) another one is begun, which is then the newest.
    #[error("epoch {epoch}, of pin {pin}, was deleted from {} by forget-epoch", named(prefix))]
    Forgotten {
        /// The pin.
        pin: String,
        /// The epoch that it names.
        epoch: u64,
        /// Where it was.
        prefix: String,
    },
    /// The end of the epoch that was archived is missing, and the log does not have it any more. An archiver waits for it: a list may be
    /// late. If it cannot be put back, the way out is [`ArchiverOptions::abandon_epoch`](crate::ArchiverOptions::abandon_epoch).
    #[error(
        "epoch {} ends before record {}, and all before record {confirmed} was confirmed: {} is missing, and the log {}",
        missing.epoch, missing.lsns.start, what_is_missing(missing.key.as_deref()), has_from(&missing.lsns, *confirmed)
    )]
    Missing {
        /// What is missing, and not in the log.
        missing: MissingRecords,
        /// All before this record was confirmed.
        confirmed: Lsn,
    },
    /// The log has a record that was archived, and does not say that it is durable, as after a power cut: the control page may be an older one
    /// until a writer opens the log. An archiver waits for that.
    #[error(
        "record {lsn} was archived, and the log does not say that it is durable; it does once it is opened for writing"
    )]
    NotDurable {
        /// The last record that was archived.
        lsn: Lsn,
    },
    /// The pin is not an archiver's.
    #[error("pin {pin} belongs to {owner:?}")]
    PinTaken {
        /// The pin.
        pin: String,
        /// Whose it is.
        owner: String,
    },
    /// The segment that takes appends cannot be rotated from another process than the writer's.
    #[error("a largest age needs the writer's process")]
    NotTheWriter,
    /// Records are missing in the middle of an epoch. What comes before them can be restored.
    #[error("{} in epoch {epoch}", told(missing, ""))]
    Gap {
        /// The epoch that lacks them.
        epoch: u64,
        /// The missing ones. It is empty where only the end of a segment is missing, which has no record.
        missing: Range<Lsn>,
    },
    /// The epoch does not have this record.
    #[error("record {lsn} is not in epoch {epoch}, which has {}{}", lsns(kept), in_epoch(*other))]
    NotArchived {
        /// The record.
        lsn: Lsn,
        /// The epoch that was to be restored.
        epoch: u64,
        /// What the epoch has.
        kept: Range<Lsn>,
        /// The newest of the others that have the record.
        other: Option<u64>,
    },
    /// There is no archive, or it has no segment so far.
    #[error("{} has nothing to restore", named(prefix))]
    Empty {
        /// The prefix.
        prefix: String,
    },
    /// There is no such epoch.
    #[error("{} has no epoch {epoch}; the newest is {newest}", named(prefix))]
    NoEpoch {
        /// The prefix.
        prefix: String,
        /// The epoch that was asked for.
        epoch: u64,
        /// The newest one that there is.
        newest: u64,
    },
    /// The directory has something in it that no interrupted restore of the same records has left.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A restore of other records into the directory was interrupted. The same one can go on there; otherwise delete what it has left.
    #[error("{} has an interrupted restore of epoch {epoch} up to {}{}", path.display(), up_to(*to), of_log(other_log.as_deref()))]
    OtherRestore {
        /// The directory.
        path: PathBuf,
        /// The epoch of that restore.
        epoch: u64,
        /// The last record that it was to restore; `None` for the last one that was archived.
        to: Option<Lsn>,
        /// The identity of the log that it was of, in hexadecimal digits, if that is another one.
        other_log: Option<String>,
    },
    /// The directory has the mark of a restore that was interrupted, which does not say what that was of.
    #[error("{} does not say what was being restored", path.display())]
    UnknownRestore {
        /// The mark.
        path: PathBuf,
    },
    /// The epoch that the pin names is there, and is that of another archive of the log, such as the one that a restored log was restored from; or its
    /// note was made again, and nothing says any more whose it is. With [`ArchiverOptions::abandon_epoch`](crate::ArchiverOptions::abandon_epoch) another one is begun, which
    /// continues it where the log does.
    #[error("pin {pin} is of an epoch {epoch} that is not known to be the one of {}", named(prefix))]
    OtherEpoch {
        /// The pin.
        pin: String,
        /// The epoch that it names.
        epoch: u64,
        /// Where another one has that number.
        prefix: String,
    },
    /// The epoch has no object from which its note could be made again.
    #[error("epoch {epoch} has no object that begins a segment, from which its note could be made")]
    NoObject {
        /// The epoch.
        epoch: u64,
    },
    /// The epoch is a copy of another one, with its note. It is not made an epoch of its own, which would be taken for a later one.
    #[error("epoch {epoch} is a copy of epoch {original}, which has all of its records")]
    Copied {
        /// The epoch.
        epoch: u64,
        /// The other one.
        original: u64,
    },
    /// The epoch has a note that can be used: it needs no other one, and a prune deletes of it what is old.
    #[error("epoch {epoch} has a note that can be used")]
    Noted {
        /// The epoch.
        epoch: u64,
    },
    /// Later epochs continue the one that was to be forgotten, as far as their notes say.
    #[error("epoch {by} continues epoch {epoch}")]
    Continued {
        /// The epoch.
        epoch: u64,
        /// The newest that continues it.
        by: u64,
    },
    /// A later epoch has no note that can be used, and may continue the one that was to be forgotten. That one's note is made again first, or it is
    /// forgotten first.
    #[error("epoch {by}, which has no note that can be used, may continue epoch {epoch}")]
    MayBeContinued {
        /// The epoch.
        epoch: u64,
        /// The newest that may continue it.
        by: u64,
    },
    /// An earlier epoch has no note that can be used, and may be the one that this one continues. The earlier one's note is made again first.
    #[error("epoch {epoch} may continue epoch {earlier}, which has no note that can be used")]
    MayContinue {
        /// The epoch.
        epoch: u64,
        /// The first of those that it may continue.
        earlier: u64,
    },
    /// A later epoch continues this one from before its first object on: objects of it are missing.
    #[error("epoch {epoch} did not begin with record {first_lsn}: epoch {by} continues it with record {next}")]
    Disproven {
        /// The epoch.
        epoch: u64,
        /// The first record of its first object.
        first_lsn: Lsn,
        /// The later epoch.
        by: u64,
        /// The first record of that.
        next: Lsn,
    },
    /// What is left of the epoch does not say where it begins: its first object follows a segment that is in no other epoch.
    #[error(
        "{key} follows segment {number}, which is not there; whether epoch {epoch} began after that, and with record {first_lsn}, nothing says"
    )]
    Unproven {
        /// The epoch.
        epoch: u64,
        /// Its first object.
        key: String,
        /// The number of the segment before that.
        number: u64,
        /// The first record of the object.
        first_lsn: Lsn,
    },
    /// An object is not what its key says, or a part of the archive's own notes cannot be read.
    #[error("{key} {}{}: {damage}", damage.verdict(), at_unless_told(damage, *offset, *lsn))]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        damage: ObjectDamage,
        /// Where in it the first frame is that is not sound, where that is known: a byte offset in the object.
        offset: Option<u64>,
        /// The record that is expected there.
        lsn: Option<Lsn>,
    },
}

impl Error {
    pub(crate) fn store(operation: &'static str, key: &object_store::path::Path, source: object_store::Error) -> Self {
        Self::Store { operation, key: key.to_string(), source: Box::new(source) }
    }

    pub(crate) fn io(operation: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    pub(crate) fn damaged(key: &object_store::path::Path, damage: ObjectDamage) -> Self {
        Self::Damaged { key: key.to_string(), damage, offset: None, lsn: None }
    }
}

/// The key, or the prefix, which is empty where the archive is all of a store.
fn or_root(key: &str) -> &str {
    if key.is_empty() { "the archive" } else { key }
}

/// The archive at `prefix`, which is empty where a store is that of one log alone.
fn named(prefix: &str) -> String {
    if prefix.is_empty() { "the archive".to_owned() } else { format!("the archive at {prefix}") }
}

fn of_log(log: Option<&str>) -> String {
    log.map_or_else(String::new, |log| format!(", of log {log}"))
}

fn up_to(to: Option<Lsn>) -> String {
    to.map_or("its latest record".to_owned(), |lsn| format!("record {lsn}"))
}

/// What an archive has of an epoch without its note.
fn has(objects: u64) -> String {
    match objects {
        0 => "does not have it".to_owned(),
        1 => "has one object of it without its note, epoch.json".to_owned(),
        _ => format!("has {objects} objects of it without its note, epoch.json"),
    }
}

fn lsns(lsns: &Range<Lsn>) -> String {
    if lsns.is_empty() { "no record".to_owned() } else { format!("{} up to {}", lsns.start, Lsn(lsns.end.0 - 1)) }
}

fn what_is_missing(key: Option<&str>) -> String {
    key.map_or_else(|| "what came then".to_owned(), |key| format!("{key}*"))
}

/// What a log has of what was confirmed before record `confirmed`, of which `missing` is nowhere.
fn has_from(missing: &Range<Lsn>, confirmed: Lsn) -> String {
    if missing.end < confirmed {
        format!("has records from {} on, which it keeps as far as the pin may, and none before", missing.end)
    } else {
        "does not have it any more".to_owned()
    }
}

fn in_epoch(epoch: Option<u64>) -> String {
    epoch.map_or(String::new(), |epoch| format!("; epoch {epoch} has it"))
}

/// The place in an object with this damage, unless that says where it is.
fn at_unless_told(damage: &ObjectDamage, offset: Option<u64>, lsn: Option<Lsn>) -> String {
    let offset = offset.filter(|_| !matches!(damage, ObjectDamage::Frame { .. }));
    at(offset, lsn)
}
