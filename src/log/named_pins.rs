//! Pins with a name, that survive a restart: for replicas. The model are the replication slots of
//! `PostgreSQL`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::Log;
use crate::error::{Corruption, Damage, Error, FileKind, Result};
use crate::events::report;
use crate::format::name;
use crate::format::pin::{self, NamedPin};
use crate::lsn::Lsn;
use crate::segment::Segments;
use crate::storage::{Access, Storage};

/// What a named pin is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PinState {
    /// It keeps its records.
    Reserved,
    /// It holds back more than its limit: its records are still there, and the next trim may take them.
    Extended,
    /// Records that it kept are gone.
    Lost,
    /// Its file is damaged, and does not say which record it keeps: nothing is trimmed until it is dropped.
    Damaged,
}

/// A named pin, as [`Log::pins`] lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinStatus {
    /// Its name.
    pub name: String,
    /// Whose it is, in the words of whoever made it.
    pub owner: String,
    /// The first record that it keeps; of a damaged one, the log's first.
    pub lsn: Lsn,
    /// The most disk space that it may hold back, in bytes.
    pub limit_bytes: Option<u64>,
    /// The disk space of the segments from its record on, in bytes.
    pub retained_bytes: u64,
    /// What it is worth.
    pub state: PinState,
}

/// The named pins of a log, and their files.
#[derive(Debug)]
pub(crate) struct NamedPins {
    log: Arc<dyn Storage>,
    /// The directory of pins, once there is one.
    directory: Option<Arc<dyn Storage>>,
    pins: BTreeMap<String, NamedPin>,
    /// Names of those whose files are damaged. What they keep is not known, so they keep everything.
    damaged: BTreeSet<String>,
}

impl NamedPins {
    /// Reads the pins of the log in `log`. A damaged one keeps no log from opening.
    pub(crate) fn load(log: Arc<dyn Storage>) -> Result<Self> {
        let (directory, entries) = entries(&*log)?;
        if let Some(directory) = &directory {
            remove_all(&**directory, &entries.temporaries);
        }
        for (pin, damage) in entries.damaged.clone() {
            report!(warn, pin, %damage, "pin damaged: nothing is trimmed until it is dropped");
        }
        Ok(Self { log, directory, pins: entries.pins, damaged: entries.damaged.into_keys().collect() })
    }

    pub(crate) fn len(&self) -> usize {
        self.pins.len() + self.damaged.len()
    }

    /// The oldest record that a pin keeps which is within its limit.
    pub(crate) fn oldest(&self, segments: &Segments) -> Option<Lsn> {
        if !self.damaged.is_empty() {
            return Some(segments.first_lsn());
        }
        let reserved = self.pins.values().filter(|pin| state(pin, segments) == PinState::Reserved);
        reserved.map(|pin| pin.lsn).min()
    }

    /// Reports the pins whose records a trim from `before` to `first` takes. That they are lost need not be written: it shows by the
    /// first record that is left, and a full disk can be trimmed.
    pub(crate) fn report_lost(&self, before: Lsn, first: Lsn) {
        for (name, _) in self.pins.iter().filter(|(_, pin)| !pin.lost && pin.lsn >= before && pin.lsn < first) {
            let pin = name.clone();
            report!(warn, pin, first_lsn = first.0, "pin lost");
        }
    }

    /// Marks all pins as lost, durably, before the records go that they keep, and others get their numbers.
    pub(crate) fn lose_all(&mut self) -> Result<()> {
        self.update_all(|pin| !pin.lost, |pin| pin.lost = true)
    }

    /// Moves the pins behind record `next` back to it, durably: it is the next that their owners will want.
    pub(crate) fn rewind_to(&mut self, next: Lsn) -> Result<()> {
        self.update_all(|pin| !pin.lost && pin.lsn > next, |pin| pin.lsn = next)
    }

    fn update_all(&mut self, which: impl Fn(&NamedPin) -> bool, change: impl Fn(&mut NamedPin)) -> Result<()> {
        let names: Vec<String> = self.pins.iter().filter(|(_, pin)| which(pin)).map(|(name, _)| name.clone()).collect();
        names.iter().try_for_each(|name| self.update(name, &change))
    }

    fn has(&self, name: &str) -> bool {
        self.pins.contains_key(name) || self.damaged.contains(name)
    }

    fn get(&self, name: &str) -> Result<&NamedPin> {
        if self.damaged.contains(name) {
            return Err(Error::PinDamaged { name: name.to_owned() });
        }
        self.pins.get(name).ok_or_else(|| Error::NoPin { name: name.to_owned() })
    }

    fn update(&mut self, name: &str, change: impl FnOnce(&mut NamedPin)) -> Result<()> {
        let mut pin = self.get(name)?.clone();
        change(&mut pin);
        self.write(name, &pin)?;
        self.pins.insert(name.to_owned(), pin);
        Ok(())
    }

    /// Durable on return: a new file takes the place of the old one.
    fn write(&mut self, name: &str, pin: &NamedPin) -> Result<()> {
        let path = self.log.path().join(name::PINS).join(name);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::NoSpace { path: self.log.path().to_owned(), needed_bytes: pin::LEN as u64 }
            }
            _ => Error::io("write", &path, source),
        };
        let directory = match &self.directory {
            Some(directory) => Arc::clone(directory),
            None => self.log.subdirectory(name::PINS, true).map_err(failed)?,
        };
        let temporary = format!("{name}{}", name::TEMPORARY_SUFFIX);
        let written = directory.create(&temporary).and_then(|file| {
            file.write_at(&pin.encode(), 0)?;
            file.sync()?;
            directory.replace(&temporary, name)?;
            directory.sync_directory()
        });
        if written.is_err() {
            // What is left of it is removed when the log is opened at the latest.
            let _ = directory.remove(&temporary);
        }
        written.map_err(failed)?;
        self.directory = Some(directory);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        if !self.has(name) {
            return Err(Error::NoPin { name: name.to_owned() });
        }
        let path = self.log.path().join(name::PINS).join(name);
        if let Some(directory) = &self.directory {
            let removed = directory.remove(name).and_then(|()| directory.sync_directory());
            removed.map_err(|source| Error::io("remove", &path, source))?;
        }
        self.pins.remove(name);
        self.damaged.remove(name);
        Ok(())
    }
}

/// What stands in the directory of pins.
#[derive(Default)]
struct Entries {
    pins: BTreeMap<String, NamedPin>,
    damaged: BTreeMap<String, Damage>,
    /// Names of unfinished files.
    temporaries: Vec<String>,
}

/// The directory of pins of the log in `log`, if there is one, and what stands in it.
fn entries(log: &dyn Storage) -> Result<(Option<Arc<dyn Storage>>, Entries)> {
    let mut entries = Entries::default();
    let directory = match log.subdirectory(name::PINS, false) {
        Ok(directory) => directory,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) => {
            return Ok((None, entries));
        }
        Err(source) => return Err(Error::io("open", &log.path().join(name::PINS), source)),
    };
    let names;
    (names, entries.temporaries) = self::names(&*directory)?;
    for name in names {
        match read(&*directory, &name) {
            Ok(Some(pin)) => drop(entries.pins.insert(name, pin)),
            // A log that is only looked at may drop one meanwhile.
            Ok(None) => {}
            Err(damage) => drop(entries.damaged.insert(name, damage)),
        }
    }
    Ok((Some(directory), entries))
}

/// The names of the pins in `directory`, and of files that are not finished. What else stands there is none of the log's.
fn names(directory: &dyn Storage) -> Result<(Vec<String>, Vec<String>)> {
    let mut names = Vec::new();
    let mut temporaries = Vec::new();
    let listed = directory.entries(&mut |name, kind| {
        let Ok(name) = str::from_utf8(name) else { return };
        match name.strip_suffix(name::TEMPORARY_SUFFIX) {
            _ if kind != FileKind::Regular => {}
            Some(stem) if pin::is_name(stem) => temporaries.push(name.to_owned()),
            None if pin::is_name(name) => names.push(name.to_owned()),
            _ => {}
        }
    });
    listed.map_err(|source| Error::io("list", directory.path(), source))?;
    Ok((names, temporaries))
}

/// Removes files that do not count. What stays is removed at the next open.
fn remove_all(directory: &dyn Storage, names: &[String]) {
    for name in names {
        if let Err(error) = directory.remove(name) {
            let file = name.clone();
            report!(warn, error = &error as &dyn std::error::Error, file, "cannot remove a file");
        }
    }
}

/// The pins of the log in `log`, which has `segments`. Changes nothing.
pub(super) fn list(log: &Arc<dyn Storage>, segments: &Segments) -> Result<Vec<PinStatus>> {
    let entries = readable_entries(&**log)?;
    Ok(statuses(&entries.pins, entries.damaged.keys(), segments))
}

/// What is wrong with the pins of the log in `log`.
pub(super) fn damage(log: &dyn Storage) -> Result<Vec<Corruption>> {
    let entries = readable_entries(log)?;
    let directory = log.path().join(name::PINS);
    let corruption = |(name, damage)| {
        let path = directory.join(name);
        Corruption { path, offset: 0, lsn: None, damage, evidence: None }
    };
    Ok(entries.damaged.into_iter().map(corruption).collect())
}

/// As [`entries`], for a look that nothing depends on: a pin that the caller may not read is none that is damaged.
fn readable_entries(log: &dyn Storage) -> Result<Entries> {
    let (_, entries) = entries(log)?;
    let denied = Damage::Unreadable(io::ErrorKind::PermissionDenied);
    match entries.damaged.iter().find(|(_, damage)| **damage == denied) {
        None => Ok(entries),
        Some((name, _)) => {
            let path = log.path().join(name::PINS).join(name);
            Err(Error::io("read", &path, io::ErrorKind::PermissionDenied.into()))
        }
    }
}

fn statuses<'n>(
    pins: &BTreeMap<String, NamedPin>,
    damaged: impl Iterator<Item = &'n String>,
    segments: &Segments,
) -> Vec<PinStatus> {
    let sound = pins.iter().map(|(name, pin)| status(name, pin, segments));
    let mut all: Vec<PinStatus> = sound.chain(damaged.map(|name| status_of_damaged(name, segments))).collect();
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all
}

fn status_of_damaged(name: &str, segments: &Segments) -> PinStatus {
    let lsn = segments.first_lsn();
    PinStatus {
        name: name.to_owned(),
        owner: String::new(),
        lsn,
        limit_bytes: None,
        retained_bytes: retained_bytes(lsn, segments),
        state: PinState::Damaged,
    }
}

fn status(name: &str, pin: &NamedPin, segments: &Segments) -> PinStatus {
    PinStatus {
        name: name.to_owned(),
        owner: pin.owner.clone(),
        lsn: pin.lsn,
        limit_bytes: pin.limit_bytes,
        retained_bytes: if is_lost(pin, segments.first_lsn()) { 0 } else { retained_bytes(pin.lsn, segments) },
        state: state(pin, segments),
    }
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

fn retained_bytes(lsn: Lsn, segments: &Segments) -> u64 {
    let from = segments.find(lsn).unwrap_or(0);
    segments.as_slice()[from..].iter().map(|segment| segment.info().size).sum()
}

/// Whether records that `pin` kept are gone from a log that starts at `first`.
fn is_lost(pin: &NamedPin, first: Lsn) -> bool {
    pin.lost || pin.lsn < first
}

fn state(pin: &NamedPin, segments: &Segments) -> PinState {
    if is_lost(pin, segments.first_lsn()) {
        PinState::Lost
    } else if pin.limit_bytes.is_some_and(|limit| retained_bytes(pin.lsn, segments) > limit) {
        PinState::Extended
    } else {
        PinState::Reserved
    }
}

impl Log {
    /// Makes a pin `name` that keeps record `lsn` and all behind it from being trimmed, until it is moved or dropped, also
    /// after a restart. It may hold back `limit_bytes` of disk space, counted in whole segments: beyond, trim goes on
    /// without it, and the pin is lost. `owner` is for whoever lists the pins: 64 bytes are kept. Durable on return.
    ///
    /// # Errors
    /// [`Error::InvalidPinName`], [`Error::PinExists`]; [`Error::Trimmed`] or [`Error::NotAppended`] when `lsn` is not in
    /// the log nor next; [`Error::NoSpace`], [`Error::Io`].
    pub fn create_pin(&self, name: &str, owner: &str, lsn: Lsn, limit_bytes: Option<u64>) -> Result<()> {
        if !pin::is_name(name) {
            return Err(Error::InvalidPinName { name: name.to_owned() });
        }
        let mut pins = self.shared.pins.lock();
        self.check_pinnable(lsn)?;
        if pins.named.has(name) {
            return Err(Error::PinExists { name: name.to_owned() });
        }
        let pin = NamedPin { owner: owner.to_owned(), lsn, limit_bytes, lost: false };
        pins.named.write(name, &pin)?;
        pins.named.pins.insert(name.to_owned(), pin);
        Ok(())
    }

    /// Moves pin `name` forward to record `lsn`, which may be the next one to come: what lies before may be trimmed. A
    /// number below its own is ignored. Durable on return.
    ///
    /// # Errors
    /// [`Error::NoPin`]; [`Error::PinLost`] when records that it kept are gone; [`Error::PinDamaged`];
    /// [`Error::NotAppended`];
    /// [`Error::NoSpace`], [`Error::Io`], with the pin as it was.
    pub fn advance_pin(&self, name: &str, lsn: Lsn) -> Result<()> {
        let mut pins = self.shared.pins.lock();
        let pin = pins.named.get(name)?;
        let first = self.first_lsn();
        if is_lost(pin, first) {
            return Err(Error::PinLost { name: name.to_owned(), lsn: pin.lsn, first });
        }
        if lsn <= pin.lsn {
            return Ok(());
        }
        self.check_pinnable(lsn)?;
        pins.named.update(name, |pin| pin.lsn = lsn)
    }

    /// Removes pin `name`, also a damaged one. Durable on return.
    ///
    /// # Errors
    /// [`Error::NoPin`]; [`Error::Io`].
    pub fn drop_pin(&self, name: &str) -> Result<()> {
        self.shared.pins.lock().named.remove(name)
    }

    /// The named pins, by name.
    #[must_use]
    pub fn pins(&self) -> Vec<PinStatus> {
        let pins = self.shared.pins.lock();
        let segments = self.shared.segments.load();
        statuses(&pins.named.pins, pins.named.damaged.iter(), &segments)
    }
}
