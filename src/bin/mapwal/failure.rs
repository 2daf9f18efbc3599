//! Why a command has failed, and what the exit codes mean.

use std::path::Path;

pub(crate) use crate::log_fault::{BACKUP_GUARD, REPAIR_GUARD, RESTORE_GUARD, SALVAGE_PART};
pub(crate) use crate::told::{Failure, Finding, Outcome, Result, Written, counted, describe, say, shown};

/// For people.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   done; for verify: the log is sound
  1   verify: a torn end (torn tail), as a crash leaves it, and no damage; diff: the logs differ;
      dump of a file: after its records comes what is none, torn or damaged
  2   something that was durable is damaged
  3   salvage, repair: records are lost, or were trimmed before they were copied
  4   the command could not be carried out
  64  the command line is wrong";

/// Turns errors of the library into failures.
pub(crate) trait Explain<T> {
    /// About the log in `place`.
    fn about(self, place: &Path) -> Result<T>;
}

impl<T> Explain<T> for mapwal::Result<T> {
    fn about(self, place: &Path) -> Result<T> {
        self.map_err(|error| Failure::of_log(&error, place))
    }
}
