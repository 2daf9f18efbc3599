//! What is wrong with a log, in the words of the programs. Shared with `mapwal-archive`.

use std::path::Path;

use mapwal::Error;
use mapwal::error::{Damage, Evidence, FormatFault};

use crate::told::{Failure, Outcome, describe};

/// The file that says that a repair is under way. Ends like a segment's, and is none's: no log opens in a directory that has it.
pub(crate) const REPAIR_GUARD: &str = "repair-under-way.seg";
/// Where a salvage makes its copy.
pub(crate) const SALVAGE_PART: &str = "salvage.part";

/// The same for a copy that is not finished.
pub(crate) const BACKUP_GUARD: &str = "backup-under-way.seg";

/// The same for a restore of `mapwal-archive` that is not finished.
pub(crate) const RESTORE_GUARD: &str = "restore-under-way.seg";

impl Failure {
    /// What the library says about the log in `place`.
    pub(crate) fn of_log(error: &Error, place: &Path) -> Self {
        let told = |what: &str, why: String, place: &Path| Self::new(what, why, place);
        match error {
            Error::Io { operation, path, source } => told(&format!("cannot {operation}"), describe(source), path),
            Error::Corrupt(corruption) => {
                let at = corruption.lsn.map_or(String::new(), |lsn| format!(", record {lsn}"));
                let mut why = match corruption.damage {
                    Damage::AllSegmentsMissing { .. } | Damage::MissingSegment { .. } | Damage::MissingEnd { .. } => {
                        format!("{}{at}", corruption.damage)
                    }
                    _ => format!("{} at offset {}{at}", corruption.damage, corruption.offset),
                };
                if let Some(page @ Evidence::ControlPage { .. }) = &corruption.evidence {
                    why = format!("{why}; {page}");
                }
                // What keeps a torn end from being dropped.
                if let (true, Some(lsn)) = (corruption.path.ends_with("control"), corruption.lsn) {
                    let at = format!("{} at offset {}", corruption.damage, corruption.offset);
                    why = format!(
                        "{at}; the log has a torn end from record {lsn} on, and only this file could tell whether that was durable"
                    );
                }
                let (what, place) = ("damaged".to_owned(), corruption.path.clone());
                Self::Told {
                    what,
                    why,
                    place,
                    outcome: Outcome::Damaged,
                    damage: Some(Box::new((&**corruption).into())),
                }
            }
            Error::Locked { path, pid } => {
                let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
                told("cannot open for writing", format!("{who} has the log open"), path)
            }
            Error::NotALog { path } if path.ends_with(BACKUP_GUARD) => {
                told("not a log", "a copy was not finished; delete the directory".to_owned(), path)
            }
            Error::NotALog { path } if path.ends_with(SALVAGE_PART) => {
                told("not a log", "a salvage was not finished; delete the directory".to_owned(), path)
            }
            Error::NotALog { path } if path.ends_with(RESTORE_GUARD) => told(
                "not a log",
                "a restore was not finished; the same `mapwal-archive restore` goes on from there".to_owned(),
                path,
            ),
            Error::NotALog { path } if path.ends_with(REPAIR_GUARD) => told(
                "not a log",
                "a repair was not finished; `mapwal repair` with --apply or --undo goes on from there".to_owned(),
                path,
            ),
            Error::NotALog { path } => {
                told("not a log", "this is no file of mapwal, and a log needs a directory of its own".to_owned(), path)
            }
            Error::NoLog { path } if !path.exists() => told("no log", "nothing is there".to_owned(), path),
            Error::NoLog { path } => told("no log", "there are no segments".to_owned(), path),
            Error::NotARegularFile { path, found } if path.ends_with("pins") => {
                told("not a log", format!("this is {found}, where a directory belongs"), path)
            }
            Error::NotARegularFile { path, found } => {
                told("not a log", format!("this is {found}, where a regular file belongs"), path)
            }
            Error::Format { path, fault: FormatFault::Version { found, supported } } => {
                told("unknown version", format!("written in format {found}; this mapwal reads {supported}"), path)
            }
            Error::Displaced { path } => {
                told("not where it was", "removed or replaced while the log is open".to_owned(), path)
            }
            Error::UnsupportedFileSystem { path, file_system, reason } => {
                told("no place for a log", format!("{file_system}, {reason}"), path)
            }
            Error::NoSpace { path, needed_bytes, left } => {
                let left = left.as_ref().map_or(String::new(), |left| match left.inodes {
                    Some(0) => ", and no inodes are left".to_owned(),
                    _ => format!(", and {} are left", left.bytes),
                });
                told("disk full", format!("{needed_bytes} bytes are needed{left}"), path)
            }
            Error::Poisoned { source, .. } => told("cannot sync", describe(source), place),
            other => told("refused", other.to_string(), place),
        }
    }
}
