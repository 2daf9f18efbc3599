//! Pins with a name, that survive a restart: for replicas. The model are the replication slots of
//! `PostgreSQL`.

pub(crate) mod files;
mod spare;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::Segments;
use crate::error::{Corruption, Damage, Error, PinFault, Result};
use crate::events::report;
use crate::format::name;
use crate::format::pin::{self, NamedPin};
use crate::lsn::Lsn;
use crate::storage::Storage;
use files::{Before, Entries, PinFiles, PinLock};

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

/// A named pin, as [`Log::pins`](crate::Log::pins) lists it.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::{Lsn, PinState, PinStatus};
///
/// # log.append(1, b"for the replica")?;
/// # log.create_pin("replica-1", "the machine in the cellar", Lsn(1), None)?;
/// for PinStatus { name, owner, lsn, retained_bytes, state, .. } in log.pins() {
///     match state {
///         PinState::Lost => println!("{name} of {owner} has lost record {lsn}"),
///         _ => println!("{name} of {owner} keeps {retained_bytes} bytes from record {lsn} on"),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinStatus {
    /// Its name.
    pub name: String,
    /// Whose it is, in the words of its maker.
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

/// The named pins of a log, as they were when they were last read.
#[derive(Debug)]
pub(crate) struct NamedPins {
    pins: BTreeMap<String, NamedPin>,
    /// Names of those whose files are damaged. What they keep is not known, so they keep everything.
    damaged: BTreeSet<String>,
}

impl NamedPins {
    /// Reads the pins when a log is opened. Neither a damaged one nor another process that changes one keeps it from opening.
    pub(crate) fn load(files: &PinFiles, log: &dyn Storage) -> Result<Self> {
        let is_there = log.subdirectory(name::PINS, false).is_ok();
        let entries = match if is_there { files.lock().and_then(|lock| lock.sweep()) } else { files::entries(log) } {
            Err(error) if is_there => {
                report!(warn, error = &error as &dyn std::error::Error, "cannot lock the pins");
                files::entries(log)?
            }
            entries => entries?,
        };
        for (pin, damage) in entries.damaged.clone() {
            report!(warn, pin, %damage, "pin damaged: nothing is trimmed until it is dropped");
        }
        Ok(Self::of(entries))
    }

    /// Reads the pins, which do not change meanwhile.
    pub(crate) fn read(lock: &PinLock<'_>) -> Result<Self> {
        lock.entries().map(Self::of)
    }

    pub(crate) fn of(entries: Entries) -> Self {
        Self { pins: entries.pins, damaged: entries.damaged.into_keys().collect() }
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

    /// Reports the pins whose records a trim from `before` to `first` has taken. That they are lost need not be written: it shows by
    /// the first record that is left, and a full disk can be trimmed.
    pub(crate) fn report_lost(&self, before: Lsn, first: Lsn) {
        report_lost(self.names(|pin| !is_lost(pin, before) && pin.lsn < first), first);
    }

    /// Runs `change`; if that fails, makes the pins what they were before. One whose file cannot be written stays as it is.
    pub(crate) fn change(&mut self, lock: &PinLock<'_>, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let before = self.pins.clone();
        change(self).inspect_err(|_| {
            for (name, pin) in before {
                if self.pins.get(&name) != Some(&pin)
                    && let Err(error) = self.update(lock, &name, |changed| *changed = pin)
                {
                    files::report_changed(error, &name);
                }
            }
        })
    }

    /// Marks all pins as lost, durably, before the records go that they keep, and others get their numbers. Not reported.
    pub(crate) fn lose_all(&mut self, lock: &PinLock<'_>) -> Result<()> {
        let names = self.names(|pin| !pin.lost);
        names.iter().try_for_each(|name| self.update(lock, name, |pin| pin.lost = true))
    }

    /// The pins of a log that begins with record `first` which are not lost.
    pub(crate) fn kept_from(&self, first: Lsn) -> Vec<String> {
        self.names(|pin| !is_lost(pin, first))
    }

    /// Moves the pins beyond record `next` back to it, durably: it is the next that their owners will want.
    pub(crate) fn rewind_to(&mut self, lock: &PinLock<'_>, next: Lsn) -> Result<()> {
        let names = self.names(|pin| !pin.lost && pin.lsn > next);
        names.iter().try_for_each(|name| self.update(lock, name, |pin| pin.lsn = next))
    }

    fn names(&self, which: impl Fn(&NamedPin) -> bool) -> Vec<String> {
        self.pins.iter().filter(|(_, pin)| which(pin)).map(|(name, _)| name.clone()).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.pins.contains_key(name) || self.damaged.contains(name)
    }

    fn get(&self, name: &str) -> Result<&NamedPin> {
        if self.damaged.contains(name) {
            return Err(Error::pin(name, PinFault::Damaged));
        }
        self.pins.get(name).ok_or_else(|| Error::pin(name, PinFault::Missing))
    }

    fn update(&mut self, lock: &PinLock<'_>, name: &str, change: impl FnOnce(&mut NamedPin)) -> Result<()> {
        let mut pin = self.get(name)?.clone();
        change(&mut pin);
        self.write(lock, name, pin)
    }

    fn write(&mut self, lock: &PinLock<'_>, name: &str, pin: NamedPin) -> Result<()> {
        let before = match self.pins.get(name) {
            Some(before) => Before::Sound(before),
            None if self.damaged.contains(name) => Before::Damaged,
            None => Before::Nothing,
        };
        lock.write(name, &pin, before)?;
        self.damaged.remove(name);
        self.pins.insert(name.to_owned(), pin);
        Ok(())
    }

    pub(crate) fn create(&mut self, lock: &PinLock<'_>, name: &str, pin: NamedPin) -> Result<()> {
        if self.has(name) {
            return Err(Error::pin(name, PinFault::Exists));
        }
        self.write(lock, name, pin)
    }

    /// As [`Self::create`], in the place of the pin of that name if there is one, whatever it is worth.
    pub(crate) fn replace(&mut self, lock: &PinLock<'_>, name: &str, pin: NamedPin) -> Result<()> {
        self.write(lock, name, pin)
    }

    /// Moves pin `name` of a log that begins with record `first` to record `lsn`, which is there or next if `check` says so.
    pub(crate) fn advance(
        &mut self,
        lock: &PinLock<'_>,
        name: &str,
        lsn: Lsn,
        first: Lsn,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let pin = self.get(name)?;
        if is_lost(pin, first) {
            return Err(Error::pin(name, PinFault::Lost { lsn: pin.lsn, first }));
        }
        if lsn <= pin.lsn {
            return Ok(());
        }
        check()?;
        self.update(lock, name, |pin| pin.lsn = lsn)
    }

    /// Moves pin `name` of a log with `segments` back to record `lsn`, or to the oldest one after it that is there and within half of the pin's limit: the log
    /// grows, and beyond its limit the pin keeps nothing.
    pub(crate) fn rewind(&mut self, lock: &PinLock<'_>, name: &str, lsn: Lsn, segments: &Segments) -> Result<()> {
        let (pin, first) = (self.get(name)?, segments.first_lsn());
        if is_lost(pin, first) {
            return Err(Error::pin(name, PinFault::Lost { lsn: pin.lsn, first }));
        }
        let lsn = lsn.max(first).max(pin.limit_bytes.map_or(first, |limit| oldest_within(limit / 2, segments)));
        if lsn >= pin.lsn {
            return Ok(());
        }
        self.update(lock, name, |pin| pin.lsn = lsn)
    }

    pub(crate) fn assign(&mut self, lock: &PinLock<'_>, name: &str, owner: &str) -> Result<()> {
        self.update(lock, name, |pin| owner.clone_into(&mut pin.owner))
    }

    /// Of a log that begins with record `first`. Not of a pin that is lost: without a limit it would prove that the log was damaged.
    pub(crate) fn limit(&mut self, lock: &PinLock<'_>, name: &str, limit_bytes: Option<u64>, first: Lsn) -> Result<()> {
        let pin = self.get(name)?;
        if is_lost(pin, first) {
            return Err(Error::pin(name, PinFault::Lost { lsn: pin.lsn, first }));
        }
        self.update(lock, name, |pin| pin.limit_bytes = limit_bytes)
    }

    pub(crate) fn remove(&mut self, lock: &PinLock<'_>, name: &str) -> Result<()> {
        if !self.has(name) {
            return Err(Error::pin(name, PinFault::Missing));
        }
        lock.remove(name)?;
        self.pins.remove(name);
        self.damaged.remove(name);
        Ok(())
    }

    pub(crate) fn statuses(&self, segments: &Segments) -> Vec<PinStatus> {
        statuses(&self.pins, self.damaged.iter(), segments)
    }
}

/// An error if no pin may have this name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if pin::is_name(name) { Ok(()) } else { Err(Error::pin(name, PinFault::InvalidName)) }
}

/// The pins of the log in `log`, which has `segments`. Changes nothing.
pub(crate) fn list(log: &Arc<dyn Storage>, segments: &Segments) -> Result<Vec<PinStatus>> {
    let entries = readable_entries(&**log)?;
    Ok(statuses(&entries.pins, entries.damaged.keys(), segments))
}

/// What is wrong with the pins of the log in `log`, which began with record `first` before they are read here, if it has any. Those
/// that prove that records are missing are among them: a pin without a limit lets no trim pass, and a reset marks it.
pub(crate) fn damage(log: &dyn Storage, first: Option<Lsn>) -> Result<Vec<Corruption>> {
    let entries = readable_entries(log)?;
    let directory = log.path().join(name::PINS);
    let corruption = |(name, lsn, damage)| {
        let path = directory.join(name);
        Corruption { path, offset: 0, lsn, damage, evidence: None }
    };
    let unreadable = entries.damaged.into_iter().map(|(name, damage)| (name, None, damage));
    let passed = entries.pins.into_iter().filter_map(|(name, pin)| {
        let first = first.filter(|&first| !pin.lost && pin.limit_bytes.is_none() && pin.lsn < first)?;
        Some((name, Some(pin.lsn), Damage::PinnedMissing { first }))
    });
    Ok(unreadable.chain(passed).map(corruption).collect())
}

/// The pins of the log in `log`, for a look that nothing depends on: a pin that the caller may not read does not count
/// as damaged.
fn readable_entries(log: &dyn Storage) -> Result<Entries> {
    let entries = files::entries(log)?;
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

fn retained_bytes(lsn: Lsn, segments: &Segments) -> u64 {
    let from = segments.find(lsn).unwrap_or(0);
    segments.as_slice()[from..].iter().map(|segment| segment.info().size).sum()
}

/// The oldest record from which on the log takes no more than `limit_bytes`.
fn oldest_within(limit_bytes: u64, segments: &Segments) -> Lsn {
    let mut size = 0;
    let within = segments.as_slice().iter().rev().take_while(|segment| {
        size += segment.info().size;
        size <= limit_bytes
    });
    within.last().map_or(Lsn(u64::MAX), |segment| segment.base_lsn())
}

/// Called once for each pin, after it has lost something.
pub(crate) fn report_lost(names: Vec<String>, first: Lsn) {
    for pin in names {
        report!(warn, pin, first_lsn = first.0, "pin lost");
    }
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
