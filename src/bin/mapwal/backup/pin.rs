//! What keeps a log from being trimmed while it is copied.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
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

/// A pin for as long as this process runs. Its file is locked, so that another backup can tell whether the process that made the
/// pin lives: a pin that is not locked is left over.
pub(super) struct HeldPin {
    directory: PathBuf,
    pins: PinDirectory,
    owner: String,
    _locked: File,
}

impl HeldPin {
    /// `None`, and a word about it, where no pin can be written: what is trimmed too early is noticed all the same.
    pub(super) fn take(arguments: &Backup) -> Result<Option<Self>> {
        let directory = &*arguments.directory;
        let pins = PinDirectory::open(directory).about(directory)?;
        let owner = format!("{OWNER}{}, to {}", std::process::id(), arguments.out.display());
        loop {
            let first = oldest(directory)?;
            if let Some(error) = remove_left_over(&pins, directory)? {
                return Ok(without(&error, directory));
            }
            let limit = arguments.limit.map_or_else(|| pins::default_limit(directory, first), Ok)?;
            match pins.create(PIN, &owner, first, Some(limit)) {
                Ok(()) => match lock(directory)? {
                    Locked::Now(locked) if is_of(&pins, &owner) => {
                        return Ok(Some(Self { directory: directory.to_owned(), pins, owner, _locked: locked }));
                    }
                    // Another backup has taken it for one that is left over, or is about to.
                    _ => {}
                },
                Err(error) if cannot_be_written(&error) => return Ok(without(&error, directory)),
                // Trimmed, or truncated, since it was looked at; or another backup has made one since.
                Err(Error::Trimmed { .. } | Error::NotAppended { .. } | Error::Pin { fault: PinFault::Exists, .. }) => {
                }
                Err(error) => return Err(Failure::of_log(&error, directory)),
            }
        }
    }

    /// Removes the pin, and no other that has taken its place.
    pub(super) fn drop_it(self) -> Result<()> {
        if is_of(&self.pins, &self.owner) {
            match self.pins.remove(PIN) {
                Err(Error::Pin { fault: PinFault::Missing, .. }) => {}
                removed => return removed.about(&self.directory),
            }
        }
        let why = "it was dropped or replaced before the backup had ended";
        Failure::new(format!("pin {PIN} is gone"), why, &self.directory).tell();
        Ok(())
    }
}

/// Whether the pin is there, and has this owner.
fn is_of(pins: &PinDirectory, owner: &str) -> bool {
    pins.list().is_ok_and(|pins| pins.iter().any(|pin| pin.name == PIN && pin.owner == owner))
}

/// Removes the pin of a backup that was killed; why it cannot be removed, where nothing can be written. An error if it is that of a
/// backup that lives, or of none.
fn remove_left_over(pins: &PinDirectory, directory: &Path) -> Result<Option<Error>> {
    check_left_over(directory)?;
    let _locked = match lock(directory)? {
        Locked::Now(file) => file,
        Locked::Missing => return Ok(None),
        Locked::Already => return Err(Failure::new("cannot copy", "another backup is under way", directory)),
    };
    match pins.remove(PIN) {
        Ok(()) | Err(Error::Pin { fault: PinFault::Missing, .. }) => Ok(None),
        Err(error) if cannot_be_written(&error) => Ok(Some(error)),
        Err(error) => Err(Failure::of_log(&error, directory)),
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

/// The first record of the oldest segment that counts.
fn oldest(directory: &Path) -> Result<Lsn> {
    let inspection = Inspection::open(directory).about(directory)?;
    let oldest = inspection.segments().iter().filter(|file| file.counts).find_map(|file| file.first_lsn);
    oldest.ok_or_else(|| Failure::new("nothing to copy", "no segment is sound", directory))
}

/// What came of locking the file of the pin.
enum Locked {
    /// By this process, and it is the one that has the name.
    Now(File),
    Already,
    Missing,
}

fn lock(directory: &Path) -> Result<Locked> {
    let path = directory.join("pins").join(PIN);
    loop {
        let file = match File::open(&path) {
            // One that may not be looked at may not be removed either, which is told then.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                return Ok(Locked::Missing);
            }
            opened => opened.map_err(failed("open", &path))?,
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at(&file, &path) => return Ok(Locked::Now(file)),
            // Another has taken its place since.
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Locked::Already),
            Err(error) => return Err(failed("lock", &path)(error.into())),
        }
    }
}

/// Whether `path` is the name of an open file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: io::Result<std::fs::Metadata>| found.map(|found| (found.dev(), found.ino())).ok();
    identity(file.metadata()).is_some_and(|open| identity(path.metadata()) == Some(open))
}
