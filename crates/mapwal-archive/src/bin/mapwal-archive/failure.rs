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
pub(crate) const AFTER_DAMAGE: &str = "put a sound copy in its place; or move it out of the archive, and keep it: `run` uploads it again, at its next \
     start or check, if it is of the epoch that the log is archived in, and the log still has it";

/// What can be done about parts that are of two logs.
pub(crate) const AFTER_CONFLICT: &str = "two copies of the log were archived here: each `run`, started again, begins an epoch with what its own log has; \
     then delete one of the two objects: not the one that others go on from, and if one is in another epoch as well, that one";

/// What can be done about an object that has the contents of another one.
const AFTER_MISNAMED: &str =
    "give it the name of that one; first move aside what is there, which may have the contents of another one as well";

/// What can be done about an object from before its epoch.
const AFTER_EARLY: &str = "move it to the epoch that it belongs to, which may lack it; or, if it was put back after the epoch's note had been made \
     again without it, delete that note, and let rebuild-note make it again";

/// What can be done about an object that another epoch has where it belongs.
const AFTER_EXTRA: &str =
    "no restore needs it; if the other one is damaged, put it in the place of that, and otherwise delete it";

/// What can be done about the note of an epoch that is missing or damaged.
const AFTER_NOTE: &str = "put a sound copy in its place; or let rebuild-note make it again from the epoch's objects; or, if a later epoch has \
     taken its place, let forget-epoch delete what is left of it; if nothing is left, rebuild-note with --begins has the epoch that continues it \
     begin with what that has";

/// What can be done about the notes of two logs.
const AFTER_OTHER_NOTE: &str = "let rebuild-note make it again, or that of the earlier epoch: it does so where the epoch's own objects are of another \
     log than the note; an epoch whose objects are of another log than the others' does not belong here: move all of it away";

/// What can be done about a note that is a copy.
const AFTER_COPY: &str = "let rebuild-note make it again from the epoch's objects; it says if all of the epoch is a copy, which forget-epoch deletes, as \
     it does with one in whose place `run --abandon-epoch` has begun another";

/// What can be done about the note of a later version.
pub(crate) const AFTER_VERSION: &str = "use that; nothing is said to be wrong with the epoch";

/// What can be done about what cannot be read.
const AFTER_UNREAD: &str = "see to it that it can be read, by this user and from its disk";

/// What can be done about a newest epoch that has less than an older one.
const AFTER_LESS: &str = "restore --epoch restores the older one; if the newest is that of an old copy of the log's directory, stop the archiver of that \
     and let forget-epoch delete it; if it is that of the log itself, which was shortened, it has more as soon as something is appended";

/// What can be done about a note with this damage.
fn after_note(damage: &ObjectDamage) -> &'static str {
    match damage {
        ObjectDamage::Version { .. } => AFTER_VERSION,
        ObjectDamage::Unreadable { .. } => AFTER_UNREAD,
        ObjectDamage::OtherLog { .. } => AFTER_OTHER_NOTE,
        ObjectDamage::Copy { .. } => AFTER_COPY,
        _ => AFTER_NOTE,
    }
}

/// What can be done about an object with this damage.
pub(crate) fn after_damage(damage: &ObjectDamage) -> &'static str {
    match damage {
        ObjectDamage::Misnamed { .. } => AFTER_MISNAMED,
        ObjectDamage::Early { .. } => AFTER_EARLY,
        _ => AFTER_DAMAGE,
    }
}

/// What can be done about damaged objects, told once for each kind.
pub(crate) fn tell_after_damage<'a>(
    out: &mut impl Write,
    damaged: impl Iterator<Item = &'a ObjectDamage>,
) -> io::Result<()> {
    let mut ways_out: Vec<_> = damaged.map(after_damage).collect();
    // That one last: it would delete what is to be kept.
    ways_out.sort_by_key(|&way_out| (way_out == AFTER_DAMAGE, way_out));
    ways_out.dedup();
    for way_out in ways_out {
        let of = match way_out {
            AFTER_MISNAMED => "an object that has the contents of another one",
            AFTER_EARLY => "an object that comes before its epoch",
            _ => "a damaged object",
        };
        writeln!(out, "of {of}: {way_out}")?;
    }
    Ok(())
}

/// The way out where an epoch cannot go on, and what it costs.
pub(crate) fn new_epoch(epoch: u64) -> String {
    format!(
        "`run --abandon-epoch {epoch}` begins another epoch with what the log still has, which is the newest from then on, and what \
         `restore` gives without --epoch; from that nothing can be restored that only epoch {epoch} had"
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
            Error::Damaged { key, damage, .. } if is_note(key) => of_note(key, damage),
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
            Error::OtherRestore { path, epoch, other_log: Some(log), .. } => {
                let why = format!(
                    "an interrupted restore of epoch {epoch} of another log, {log}, is there; without the directory another one can begin"
                );
                Self::new("cannot restore", why, path)
            }
            Error::UnknownRestore { path } => {
                let why = "it does not say what was being restored; without the directory another one can begin";
                Self::new("cannot restore", why, path)
            }
            Error::OtherRestore { path, epoch, to, .. } => {
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
            Error::NoObject { epoch } => Self::new("refused", error, place)
                .and(&format!("put its note back, or let forget-epoch delete what is left of epoch {epoch}")),
            Error::Copied { .. } => Self::new("refused", error, place).and("forget-epoch deletes it"),
            other => Self::new("refused", other, place),
        }
    }
}

fn of_note(key: &str, damage: &ObjectDamage) -> Failure {
    let (what, outcome) = match damage {
        ObjectDamage::Version { .. } => ("refused", Outcome::Failed),
        ObjectDamage::Unreadable { .. } => ("cannot read", Outcome::Failed),
        _ => ("damaged", Outcome::Damaged),
    };
    let why = match damage {
        ObjectDamage::Unreadable { why } => why.clone(),
        ObjectDamage::OtherLog { .. } => format!("{damage}, or that of an earlier epoch is"),
        damage => damage.to_string(),
    };
    Failure::new(what, format!("{why}; {}", after_note(damage)), key).ending_with(outcome)
}

/// What can be done about epochs without a note, and about objects of two logs, if there are any.
pub(crate) fn tell_ways_out(out: &mut impl Write, faults: &[EpochFault]) -> io::Result<()> {
    let damages = |fault: &EpochFault| match fault {
        EpochFault::Note { damage, .. } => Some(after_note(damage)),
        _ => None,
    };
    let mut notes: Vec<_> = faults.iter().filter_map(damages).collect();
    notes.sort_unstable();
    notes.dedup();
    for way_out in notes {
        writeln!(out, "of a note: {way_out}")?;
    }
    if faults.iter().any(|fault| matches!(fault, EpochFault::Less { .. })) {
        writeln!(out, "of a newest epoch that has less: {AFTER_LESS}")?;
    }
    if faults.iter().any(|fault| matches!(fault, EpochFault::Copy { .. })) {
        writeln!(out, "of a copy: {AFTER_EXTRA}")?;
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
    let outcomes = faults.iter().map(|fault| match fault {
        EpochFault::Gap { .. } | EpochFault::Lost { .. } | EpochFault::Less { .. } => Outcome::Gaps,
        // What could not be read may be damaged, or not.
        EpochFault::Note { damage: ObjectDamage::Version { .. } | ObjectDamage::Unreadable { .. }, .. } => {
            Outcome::Failed
        }
        _ => Outcome::Damaged,
    });
    worst(outcomes)
}

/// Damage comes before what could not be read, and that before what is missing.
pub(crate) fn worst(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    let rank = |outcome: &Outcome| match outcome {
        Outcome::Damaged => 3,
        Outcome::Failed => 2,
        Outcome::Gaps => 1,
        _ => 0,
    };
    outcomes.max_by_key(rank).unwrap_or(Outcome::Done)
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
