//! What keeps a log from being trimmed while it is copied.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use mapwal::error::PinFault;
use mapwal::inspect::Inspection;
use mapwal::{Error, Lsn, PinDirectory, PinState, PinStatus};
use rustix::fs::FlockOperation;

use super::files::failed;
use crate::arguments::Backup;
use crate::failure::{Explain, Failure, Result, describe};
use crate::pins;

const PIN: &str = "mapwal-backup";
/// How the owner of such a pin begins.
const OWNER: &str = "process ";

/// A pin for as long as this process runs. The oldest segment is locked with it, so that another backup can tell
/// whether the process that made the pin lives: a pin whose segment is not locked is left over.
pub(super) struct HeldPin {
    directory: PathBuf,
    pins: PinDirectory,
    _locked: File,
}

impl HeldPin {
    /// `None`, and a word about it, where no pin can be written: what is trimmed too early is noticed all the same.
    pub(super) fn take(arguments: &Backup) -> Result<Option<Self>> {
        let directory = &*arguments.directory;
        let pins = PinDirectory::open(directory).about(directory)?;
        let owner = format!("{OWNER}{}, to {}", std::process::id(), arguments.out.display());
        loop {
            let Some((first, locked)) = lock_oldest(directory)? else { continue };
            check_left_over(directory)?;
            match pins.remove(PIN) {
                Ok(()) | Err(Error::Pin { fault: PinFault::Missing, .. }) => {}
                Err(error) if cannot_be_written(&error) => return Ok(without(&error, directory)),
                Err(error) => return Err(Failure::of_log(&error, directory)),
            }
            let limit = arguments.limit.map_or_else(|| pins::default_limit(directory, first), Ok)?;
            match pins.create(PIN, &owner, first, Some(limit)) {
                Ok(()) => return Ok(Some(Self { directory: directory.to_owned(), pins, _locked: locked })),
                Err(error) if cannot_be_written(&error) => return Ok(without(&error, directory)),
                // Trimmed, or truncated, since it was looked at.
                Err(Error::Trimmed { .. } | Error::NotAppended { .. }) => {}
                Err(error) => return Err(Failure::of_log(&error, directory)),
            }
        }
    }

    pub(super) fn drop_it(self) -> Result<()> {
        self.pins.remove(PIN).about(&self.directory)
    }
}

/// An error if there is a pin of the name that no backup has made. What cannot be read is left to what follows.
fn check_left_over(directory: &Path) -> Result<()> {
    let pins = Inspection::open(directory).and_then(|inspection| inspection.pins()).unwrap_or_default();
    let is_other =
        |pin: &&PinStatus| pin.name == PIN && pin.state != PinState::Damaged && !pin.owner.starts_with(OWNER);
    match pins.iter().find(is_other) {
        None => Ok(()),
        Some(pin) => {
            let why = format!(
                "pin {PIN} at record {} is of no backup, and a backup needs the name: `mapwal pins DIR drop {PIN}`, or --no-pin",
                pin.lsn
            );
            Err(Failure::new("cannot copy", why, directory))
        }
    }
}

/// On a full disk, where writes are refused, and by a user that may only read.
fn cannot_be_written(error: &Error) -> bool {
    match error {
        Error::NoSpace { .. } => true,
        Error::Io { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied | io::ErrorKind::QuotaExceeded
        ),
        _ => false,
    }
}

fn without(error: &Error, directory: &Path) -> Option<HeldPin> {
    let why = match error {
        Error::Io { source, .. } => describe(source),
        _ => "the disk is full".to_owned(),
    };
    Failure::new("goes on without a pin", why, directory).tell();
    None
}

/// Locks the oldest segment that counts; its first record's number. `None` if it is gone by now.
fn lock_oldest(directory: &Path) -> Result<Option<(Lsn, File)>> {
    let inspection = Inspection::open(directory).about(directory)?;
    let oldest = inspection.segments().iter().filter(|file| file.counts).find_map(|file| Some((file, file.first_lsn?)));
    let Some((oldest, first)) = oldest else {
        return Err(Failure::new("nothing to copy", "no segment is sound", directory));
    };
    let file = match File::open(&oldest.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("open", &oldest.path))?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some((first, file))),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Failure::new("cannot copy", "another backup is under way", directory))
        }
        Err(error) => Err(failed("lock", &oldest.path)(error.into())),
    }
}
