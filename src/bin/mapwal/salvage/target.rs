//! Where records are copied to.

use std::fs::File;
use std::path::Path;

use mapwal::{Log, Lsn};

use crate::stop::Stop;

/// Where records are copied to.
pub(crate) struct Target<'a> {
    /// The directory.
    pub(crate) part: &'a Path,
    /// The log there, if it has been begun.
    pub(crate) log: Option<Log>,
    /// The number that the damaged log goes on with, as far as that is known.
    pub(crate) next: Option<Lsn>,
    /// The segment that it names, if it ends with a seal.
    pub(crate) sealed_into: Option<u64>,
    /// The newest segment that is in it already, or 0.
    pub(crate) kept: u64,
    /// Where what is lost is listed as well.
    pub(crate) list: Option<File>,
    /// Whether people have been told which files are missing.
    pub(crate) is_told: bool,
    /// What tells whether to stop; without it, this goes on to its end.
    pub(crate) stop: Option<&'a Stop>,
}
