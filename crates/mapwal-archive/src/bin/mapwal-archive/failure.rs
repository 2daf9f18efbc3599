//! What can go wrong with an archive, and what the exit codes mean.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use mapwal_archive::{EpochFault, Error, ObjectDamage};
use serde_json::Value;

pub(crate) use crate::told::{Failure, Outcome, Result, counted, shown};

/// For people.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   done; for list, verify and prune: and nothing is wrong with the archive
  2   an object or a segment is damaged, or is not what it was
  3   records are missing from the archive
  4   the command could not be carried out
  64  the command line is wrong";

/// What can be done about an object that is damaged.
pub(crate) const AFTER_DAMAGE: &str = "put a sound copy in its place, or delete it: `run` uploads it again, at its next start or check, if the log \
     still has it";

/// What can be done about parts that are of two logs.
pub(crate) const AFTER_CONFLICT: &str = "two copies of the log were archived here: each `run`, started again, begins an epoch with what its own log has; \
     then delete one of the two objects: not the one that others go on from, and if one is in another epoch as well, that one";

/// What can be done about the note of an epoch that is missing or damaged.
pub(crate) const AFTER_NOTE: &str = "put a sound copy in its place; or let rebuild-note make it again from the epoch's objects; or, if a later epoch has \
     taken its place, let forget-epoch delete what is left of it";

/// What can be done about the notes of two logs.
pub(crate) const AFTER_OTHER_NOTE: &str = "move the one that does not belong here away, and put a sound copy in its place, or let rebuild-note make it \
     again from the epoch's objects";

/// The way out where an epoch cannot go on, and what it costs.
pub(crate) fn new_epoch(epoch: u64) -> String {
    format!(
        "`run --abandon-epoch {epoch}` begins another epoch with what the log still has, from which nothing can be restored that only \
         epoch {epoch} had"
    )
}

/// Whether the object is the note of an epoch.
pub(crate) fn is_note(key: &str) -> bool {
    key.ends_with("epoch.json")
}

impl Failure {
    /// What the library says about the archive, or the log, in `place`.
    pub(crate) fn of_archive(error: &Error, place: impl fmt::Display) -> Self {
        let place = place.to_string();
        match error {
            Error::Store { operation, key, source } => {
                let place = if key.is_empty() { place } else { key.clone() };
                // What a server says may have several lines.
                let why = source.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
                Self::new(format!("cannot {operation}"), why, place)
            }
            Error::Io { operation, path, source } => Self::of_io(format!("cannot {operation}"), source, path),
            Error::Log(error) => Self::of_log(error, Path::new(&place)),
            Error::Damaged { key, damage: damage @ ObjectDamage::Frame { .. }, .. } => {
                Self::new("damaged", damage, key).ending_with(Outcome::Damaged)
            }
            Error::Damaged { key, damage: damage @ ObjectDamage::Version { .. }, .. } => {
                Self::new("refused", damage, key)
            }
            Error::Damaged { key, damage: ObjectDamage::Unreadable { why }, .. } => Self::new("cannot read", why, key),
            Error::Damaged { key, damage: damage @ ObjectDamage::OtherLog { .. }, .. } if is_note(key) => {
                let why = format!("{damage}, or the note of an earlier epoch is; {AFTER_OTHER_NOTE}");
                Self::new("damaged", why, key).ending_with(Outcome::Damaged)
            }
            Error::Damaged { key, damage, .. } if is_note(key) => {
                Self::new("damaged", format!("{damage}; {AFTER_NOTE}"), key).ending_with(Outcome::Damaged)
            }
            Error::Damaged { key, damage, offset, lsn } => {
                let at = offset.map_or(String::new(), |offset| format!(", from byte {offset} on"));
                let of = lsn.map_or(String::new(), |lsn| format!(", where record {lsn} is expected"));
                Self::new("damaged", format!("{damage}{at}{of}"), key).ending_with(Outcome::Damaged)
            }
            Error::Conflict { key, other, lsn, claims } => {
                let why = format!("it differs from {other} in record {lsn} or after it{claims}");
                Self::new("other contents", why, key).ending_with(Outcome::Damaged)
            }
            Error::Gap { .. } | Error::NotArchived { .. } => {
                Self::new("records are missing", error, place).ending_with(Outcome::Gaps)
            }
            Error::Busy { .. } | Error::Superseded { .. } => Self::new("another archiver", error, place),
            Error::OtherRestore { path, epoch, to } => {
                let (last, to) = to.map_or(("its latest record".to_owned(), "latest".to_owned()), |lsn| {
                    (format!("record {lsn}"), lsn.to_string())
                });
                let why = format!(
                    "an interrupted restore of epoch {epoch} up to {last} is there; with --epoch {epoch} --to {to} it goes on, and without \
                     the directory another one can begin"
                );
                Self::new("cannot restore", why, path)
            }
            Error::NotEmpty { path } => Self::new("cannot restore", "the directory is not empty", path),
            Error::MayBeContinued { epoch, by } => {
                let what = format!(
                    "first let rebuild-note make that of epoch {by} again, or forget-epoch delete it; nothing was deleted of epoch {epoch}"
                );
                Self::new("refused", error, place).and(&what)
            }
            Error::MayContinue { earlier, .. } => {
                let what = format!("first let rebuild-note make that of epoch {earlier} again, or put it back");
                Self::new("refused", error, place).and(&what)
            }
            Error::Disproven { epoch, .. } => Self::new("refused", error, place)
                .and(&format!("put back the first objects of epoch {epoch}, or its note")),
            other => Self::new("refused", other, place),
        }
    }
}

/// What can be done about epochs without a note, and about objects of two logs, if there are any.
pub(crate) fn tell_ways_out(out: &mut impl Write, faults: &[EpochFault]) -> io::Result<()> {
    if faults.iter().any(|fault| matches!(fault, EpochFault::Broken { .. })) {
        writeln!(out, "of a note: {AFTER_NOTE}")?;
    }
    if faults.iter().any(|fault| matches!(fault, EpochFault::Conflict { .. })) {
        writeln!(out, "of objects that differ: {AFTER_CONFLICT}")?;
    }
    Ok(())
}

/// One of the documents of `docs/mapwal-archive.schema.json`, of this kind.
pub(crate) fn document(kind: &str, mut members: Value) -> Value {
    let object = members.as_object_mut().expect("an object");
    object.insert("kind".to_owned(), kind.into());
    object.insert("version".to_owned(), 1.into());
    members
}

/// How a command ends that has found these faults.
pub(crate) fn outcome_of(faults: &[EpochFault]) -> Outcome {
    let is_gap = |fault: &EpochFault| matches!(fault, EpochFault::Gap { .. } | EpochFault::Lost { .. });
    match faults {
        [] => Outcome::Done,
        faults if faults.iter().all(is_gap) => Outcome::Gaps,
        _ => Outcome::Damaged,
    }
}

/// Turns errors of the library into failures.
pub(crate) trait Explain<T> {
    /// About the archive, or the log, in `place`.
    fn about(self, place: impl fmt::Display) -> Result<T>;
}

impl<T> Explain<T> for mapwal_archive::Result<T> {
    fn about(self, place: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::of_archive(&error, place))
    }
}
