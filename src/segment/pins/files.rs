//! The files of named pins: read, and changed by one process at a time.
//!
//! A process that changes a pin holds a lock on the directory of pins, and so does the writer's trim, from before it
//! looks at the pins until the control page says what is gone. So a pin that another process makes is seen by the trim,
//! or its maker sees what the trim takes. The system releases the lock of a process that dies. Every wait for it ends.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Damage, Error, FileKind, PinFault, Result};
use crate::events::report;
use crate::format::name;
use crate::format::pin::{self, NamedPin};
use crate::storage::{self, Access, Storage, is_full};

use super::spare;

const PAUSE: Duration = Duration::from_millis(2);

/// The directory of pins of one log.
#[derive(Debug)]
pub(crate) struct PinFiles {
    log: Arc<dyn Storage>,
    /// How long to wait for other processes.
    patience: Duration,
    /// Held with the lock on the directory, so that the threads of this process wait for each other without looking again and
    /// again.
    turn: Mutex<()>,
}

/// The right to change pins.
#[derive(Debug)]
pub(crate) struct PinLock<'f> {
    log: &'f Arc<dyn Storage>,
    /// `None` where there can be none, or where there is no room for one: then there are no pins either.
    directory: Option<Arc<dyn Storage>>,
    _lock: Option<Box<dyn Debug>>,
    _turn: MutexGuard<'f, ()>,
}

/// What a pin is before it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Before<'p> {
    Nothing,
    Sound(&'p NamedPin),
    Damaged,
}

/// What is in the directory of pins.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub(crate) pins: BTreeMap<String, NamedPin>,
    pub(crate) damaged: BTreeMap<String, Damage>,
    /// Names of spares, and of pins that are not finished.
    spares: Vec<String>,
}

impl Entries {
    /// The spares of pins that are not there.
    fn strays(&self) -> impl Iterator<Item = &str> {
        let is_stray = |name: &&str| {
            let pin = name.strip_suffix(name::TEMPORARY_SUFFIX).unwrap_or(name);
            !self.pins.contains_key(pin) && !self.damaged.contains_key(pin)
        };
        self.spares.iter().map(String::as_str).filter(is_stray)
    }
}

impl PinFiles {
    pub(crate) fn new(log: Arc<dyn Storage>, patience: Duration) -> Self {
        Self { log, patience, turn: Mutex::new(()) }
    }

    /// Waits for the process that changes pins now. The directory is there then, if there can be one.
    pub(crate) fn lock(&self) -> Result<PinLock<'_>> {
        let turn = self.turn.lock();
        let directory = match self.log.subdirectory(name::PINS, true) {
            Ok(directory) => Some(directory),
            Err(error) if is_without(&error) => None,
            Err(source) => return Err(Error::io("open", &self.log.path().join(name::PINS), source)),
        };
        let lock = directory.as_deref().map(|directory| self.wait_for(directory)).transpose()?;
        Ok(PinLock { log: &self.log, directory, _lock: lock, _turn: turn })
    }

    fn wait_for(&self, directory: &dyn Storage) -> Result<Box<dyn Debug>> {
        let deadline = Instant::now() + self.patience;
        let failed = |source| Error::io("lock", directory.path(), source);
        loop {
            match directory.lock_directory().map_err(failed)? {
                Some(lock) => return Ok(lock),
                None if Instant::now() < deadline => std::thread::sleep(PAUSE),
                None => return Err(failed(io::ErrorKind::TimedOut.into())),
            }
        }
    }
}

/// No such directory can be made: there is no other than real ones, or there is no room.
fn is_without(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || is_full(error)
}

impl PinLock<'_> {
    pub(crate) fn entries(&self) -> Result<Entries> {
        self.directory.as_deref().map_or_else(|| Ok(Entries::default()), entries_of)
    }

    /// As [`Self::entries`]; removes the spares of pins that are not there: their makers are gone, or have dropped the pins.
    pub(crate) fn sweep(&self) -> Result<Entries> {
        let entries = self.entries()?;
        for name in entries.strays() {
            if let Some(directory) = &self.directory
                && let Err(error) = directory.remove(name)
            {
                let file = name.to_owned();
                report!(warn, error = &error as &dyn std::error::Error, file, "cannot remove a file");
            }
        }
        Ok(entries)
    }

    /// Durable on return: another file takes the place of the old one, if there is one, in one step. If it fails, the pin is as it was
    /// `before`, or that it is not is reported.
    pub(crate) fn write(&self, name: &str, pin: &NamedPin, before: Before<'_>) -> Result<()> {
        self.replace(name, pin, !matches!(before, Before::Nothing)).inspect_err(|_| {
            let Some(directory) = &self.directory else { return };
            // It may have been replaced, and not durably.
            let taken_back = match (read(&**directory, name), before) {
                (Ok(None), Before::Nothing) | (Err(_), Before::Damaged) => Ok(()),
                (Ok(Some(now)), Before::Sound(before)) if now == *before => Ok(()),
                (_, Before::Nothing) => self.remove(name),
                (_, Before::Sound(before)) => self.replace(name, before, true),
                // What is damaged cannot be written again.
                (_, Before::Damaged) => Err(Error::pin(name, PinFault::Damaged)),
            };
            if let Err(error) = taken_back {
                report_changed(error, name);
            }
        })
    }

    fn replace(&self, name: &str, pin: &NamedPin, is_there: bool) -> Result<()> {
        let path = self.log.path().join(name::PINS).join(name);
        let failed = |source| storage::failed(&**self.log, "write", &path, pin::LEN as u64, source);
        let directory = match &self.directory {
            Some(directory) => Arc::clone(directory),
            None => self.log.subdirectory(name::PINS, true).map_err(failed)?,
        };
        spare::write(&*directory, name, &spare(name), &pin.encode(), is_there).map_err(failed)
    }

    /// Durable on return.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let removed = directory.remove(name).and_then(|()| {
            // One that stays is removed when the log is opened.
            let _ = directory.remove(&spare(name));
            directory.sync_directory()
        });
        removed.map_err(|source| Error::io("remove", &directory.path().join(name), source))
    }
}

/// Called when pin `name`, whose change has failed, may not be as it was.
pub(super) fn report_changed(error: Error, name: &str) {
    let pin = name.to_owned();
    report!(warn, error = &error as &dyn std::error::Error, pin, "a pin stays changed");
}

/// The name of the spare of pin `name`.
fn spare(name: &str) -> String {
    format!("{name}{}", name::TEMPORARY_SUFFIX)
}

/// What is in the directory of pins of the log in `log`, if there is one. Nothing is locked: a change that is under way
/// may be seen or not.
pub(crate) fn entries(log: &dyn Storage) -> Result<Entries> {
    match log.subdirectory(name::PINS, false) {
        Ok(directory) => entries_of(&*directory),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) => {
            Ok(Entries::default())
        }
        Err(source) => Err(Error::io("open", &log.path().join(name::PINS), source)),
    }
}

fn entries_of(directory: &dyn Storage) -> Result<Entries> {
    let mut entries = Entries::default();
    let names;
    (names, entries.spares) = self::names(directory)?;
    for name in names {
        match read(directory, &name) {
            Ok(Some(pin)) => drop(entries.pins.insert(name, pin)),
            // Dropped meanwhile, where nothing is locked.
            Ok(None) => {}
            Err(damage) => drop(entries.damaged.insert(name, damage)),
        }
    }
    Ok(entries)
}

/// The names of the pins in `directory`, and of spares. Other entries are not the log's.
fn names(directory: &dyn Storage) -> Result<(Vec<String>, Vec<String>)> {
    let mut names = Vec::new();
    let mut spares = Vec::new();
    let listed = directory.entries(&mut |name, kind| {
        let Ok(name) = str::from_utf8(name) else { return };
        match name.strip_suffix(name::TEMPORARY_SUFFIX) {
            _ if kind != FileKind::Regular => {}
            Some(stem) if pin::is_name(stem) => spares.push(name.to_owned()),
            None if pin::is_name(name) => names.push(name.to_owned()),
            _ => {}
        }
    });
    listed.map_err(|source| Error::io("list", directory.path(), source))?;
    Ok((names, spares))
}

/// `None` if there is no such pin any more.
fn read(directory: &dyn Storage, name: &str) -> Result<Option<NamedPin>, Damage> {
    let mut bytes = vec![0; pin::LEN + 1];
    match directory.open(name, Access::Read).and_then(|file| file.read_at(&mut bytes, 0)) {
        Ok(len) => NamedPin::parse(&bytes[..len]).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Damage::Unreadable(error.kind())),
    }
}
