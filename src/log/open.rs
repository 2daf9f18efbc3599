//! Opening a log: recovery, and what makes its outcome durable before anyone sees it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Log;
use super::background::Background;
use super::durability::Durability;
use super::lookout::Lookout;
use super::named_pins::NamedPins;
use super::pin_files::PinFiles;
use super::pins::Pins;
use super::plan::{Plan, Resume};
use super::preparer::Preparer;
use super::recover;
use super::report::RecoveryReport;
use super::shared::{Rotation, Shared, check_lsn};
use super::stats::Counters;
use crate::error::{Error, Result};
use crate::events::{calling, report};
use crate::format::frame::Summer;
use crate::format::link::SegmentEnd;
use crate::format::position::Position;
use crate::format::{self, name};
use crate::lsn::Lsn;
use crate::memory::{Region, Ring};
use crate::options::Options;
use crate::read::Ahead;
use crate::sabotage::{Break, is};
use crate::segment::chain::Chain;
use crate::segment::control::{ControlPage, Known};
use crate::segment::directory::{self, Found, Listing};
use crate::segment::filling::{Filling, Pages};
use crate::segment::prepare::{adopt, prepare};
use crate::segment::{MapCache, Origin, Segment, SegmentInfo, SegmentList};
use crate::storage::{Access, Disk, Lock, LockGuard, Storage, StorageFile};

/// Another process changes pins for as long as a few syncs take.
const PIN_PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn open_directory(path: &Path, options: &Options) -> Result<Log> {
    options.validate()?;
    let disk = match Disk::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.create => {
            Disk::create(path, options.file_mode).map_err(|source| Error::io("create", path, source))?;
            Disk::open(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NoLog { path: path.to_owned() });
        }
        opened => opened,
    };
    open_storage(Arc::new(disk.map_err(|source| Error::io("open", path, source))?), options)
}

pub(super) fn open_storage(storage: Arc<dyn Storage>, options: &Options) -> Result<Log> {
    let _calling = calling();
    options.validate()?;
    let began = Instant::now();
    // Looked at before anything is created: a directory of somebody else's stays as it is.
    let listing = directory::list(&*storage)?;
    if listing.segments.is_empty() && !options.create {
        return Err(Error::NoLog { path: storage.path().to_owned() });
    }
    check_file_system(&*storage, options)?;
    let like = std::iter::once(name::LOCK.to_owned()).chain(listing.segments.last().map(|&last| name::segment(last)));
    storage
        .create_like(&like.collect::<Vec<_>>(), options.file_mode)
        .map_err(|source| Error::io("read the owner of", storage.path(), source))?;
    let lock = take_lock(&*storage)?;
    let listing = directory::list(&*storage)?;
    let found = directory::inspect_all(&*storage, &listing.segments)?;
    check_features(&*storage, &found)?;
    let log_id = match found.first() {
        Some(segment) => segment.log_id,
        None => u128::from(storage.random()) << 64 | u128::from(storage.random()),
    };
    // Segments copied from elsewhere come without the page; then a first or last one that is missing cannot be told from
    // one that was not copied.
    let known = ControlPage::known(&*storage, log_id);
    let last_number = last_number(&found, known);
    let plan = recover::recover(&*storage, Chain::build(found, storage.path())?, known, options.first_lsn)?;
    check_lsn(plan.next_lsn)?;
    let opening = Opening { storage, options, log_id, listing, last_number, began };
    let log = opening.carry_out(&plan, lock)?;
    log.lock.sign().map_err(|source| Error::io("write", &log.directory().join(name::LOCK), source))?;
    Ok(log)
}

/// The largest number that a segment of the log may have had, as far as anything tells: frames may have been stored under
/// it, and it does not come back.
fn last_number(found: &[Found], known: Option<Known>) -> u64 {
    let by_page = known.map_or(0, |known| known.oldest.max(known.active).max(known.durable.segment()));
    found.last().map_or(0, |segment| segment.number).max(by_page)
}

/// An error if what a later version has written may be read, and not written on.
fn check_features(storage: &dyn Storage, found: &[Found]) -> Result<()> {
    match found.iter().find(|segment| segment.unknown_to_writers != 0) {
        None => Ok(()),
        Some(segment) => {
            let path = storage.path().join(name::segment(segment.number));
            Err(Error::UnknownFeatures { path, unknown: segment.unknown_to_writers })
        }
    }
}

/// An error if nothing on this file system would keep what a log promises, and nobody has allowed it.
fn check_file_system(storage: &dyn Storage, options: &Options) -> Result<()> {
    let path = storage.path().to_owned();
    match storage.unsupported().map_err(|source| Error::io("look at the file system of", &path, source))? {
        None => Ok(()),
        Some((file_system, reason)) if options.allow_unsupported_file_system => {
            report!(warn, directory = %path.display(), file_system, %reason, "file system unsupported");
            Ok(())
        }
        Some((file_system, reason)) => Err(Error::UnsupportedFileSystem { path, file_system, reason }),
    }
}

fn take_lock(storage: &dyn Storage) -> Result<Box<dyn LockGuard>> {
    let path = storage.path().join(name::LOCK);
    match storage.lock(name::LOCK) {
        Ok(Lock::Held(guard)) => Ok(guard),
        Ok(Lock::Busy(pid)) => Err(Error::Locked { path, pid }),
        Err(source) => Err(Error::io("lock", &path, source)),
    }
}

struct Opening<'o> {
    storage: Arc<dyn Storage>,
    options: &'o Options,
    log_id: u128,
    listing: Listing,
    /// The largest number that a segment may have had.
    last_number: u64,
    began: Instant,
}

impl Opening<'_> {
    fn carry_out(self, plan: &Plan, lock: Box<dyn LockGuard>) -> Result<Log> {
        self.remove_all(&self.listing.temporaries);
        let cache = Arc::new(MapCache::default());
        let mut next_number = self.last_number + 1;
        let size = self.options.segment_size_bytes;
        let fresh = match plan.resume {
            Resume::InPlace { .. } => None,
            Resume::Fresh(previous) => {
                // Taking over a spare needs no room on a disk that may be full.
                let spare = plan.spare.as_ref().filter(|spare| spare.size == size);
                let prepared = if let Some(spare) = spare {
                    adopt(&*self.storage, spare)?
                } else {
                    next_number += 1;
                    prepare(&*self.storage, self.log_id, next_number - 1, size)?
                };
                Some((prepared, previous))
            }
        };
        let adopted = fresh.as_ref().map(|(prepared, _)| prepared.number);
        let active = match &plan.resume {
            Resume::InPlace { info, .. } => info.number,
            Resume::Fresh(_) => adopted.expect("prepared above"),
        };
        let (shared, mut rotation) = self.build(plan, &cache, next_number, active)?;
        match (fresh, &plan.resume) {
            (Some((prepared, previous)), _) => {
                shared.open_segment(&mut rotation, prepared, previous, plan.next_lsn, None);
            }
            (None, Resume::InPlace { info, end, origin }) => {
                self.resume(&shared, &mut rotation, *info, (*end, *origin))?;
            }
            (None, Resume::Fresh(_)) => unreachable!("a fresh segment was prepared above"),
        }
        let log = Log::assemble(shared, rotation, lock)?;
        // The new segment's link is what makes the outcome of recovery final: durable before what it replaces goes, and
        // before the caller sees a record.
        if !is(Break::RemoveBeforeLink) {
            log.shared.wait(log.shared.everything())?;
        }
        let remove = plan.remove.iter().filter(|&&number| Some(number) != adopted);
        let names: Vec<String> = remove.map(|&number| name::segment(number)).collect();
        self.remove_all(&names);
        log.shared.control.show();
        log.shared.control.wake_all(&*self.storage);
        // Until then a follower is woken in time all but always: whoever has gone to sleep meanwhile looks once more.
        let (storage, log_id) = (Arc::clone(&self.storage), self.log_id);
        self.storage.register_for_barriers(Box::new(move || {
            if let Some(control) = ControlPage::open(&*storage, log_id) {
                control.wake_all(&*storage);
            }
        }));
        Ok(log)
    }

    fn build(&self, plan: &Plan, cache: &Arc<MapCache>, next_number: u64, active: u64) -> Result<(Shared, Rotation)> {
        let path = self.storage.path();
        let at_rest = |&(info, end)| {
            let (storage, cache) = (Arc::clone(&self.storage), Arc::clone(cache));
            Arc::new(Segment::at_rest(info, end, Origin::Recovered, storage, cache))
        };
        let segments: Vec<_> = plan.sealed.iter().map(at_rest).collect();
        let durable = match &plan.resume {
            Resume::InPlace { info, end, .. } => Position::new(info.number, end.offset),
            Resume::Fresh(Some(previous)) => Position::new(previous.number, previous.end),
            Resume::Fresh(None) => Position::ZERO,
        };
        // What is not there any more was trimmed, or the open would have failed: not to be missed at the next one either.
        let oldest = segments.first().map_or(active, |segment| segment.number());
        let report = RecoveryReport {
            clean: plan.clean,
            first_lsn: segments.first().map_or(plan.first_lsn(), |segment| segment.base_lsn()),
            next_lsn: plan.next_lsn,
            segments: segments.len() + 1,
            bytes_scanned: plan.bytes_scanned,
            torn_bytes: plan.torn_bytes,
            duration: self.began.elapsed(),
        };
        report_recovery(path, &report);
        let pin_files = PinFiles::new(Arc::clone(&self.storage), PIN_PATIENCE);
        let named = NamedPins::load(&pin_files, &*self.storage)?;
        let control = ControlPage::create(&*self.storage, self.log_id, oldest)?;
        let durable_lsn = plan.next_lsn.previous();
        control.set_durable(durable_lsn, durable);
        let size = self.options.segment_size_bytes;
        let preparer = Preparer::start(Arc::clone(&self.storage), self.log_id, size, next_number)
            .map_err(|source| Error::io("start the preparing thread for", path, source))?;
        let (ring, rotor) = Ring::new();
        let rotation = Rotation { rotor, oldest, trimmed: VecDeque::new(), begin: Position::ZERO };
        let shared = Shared {
            storage: Arc::clone(&self.storage),
            cache: Arc::clone(cache),
            ring,
            segments: SegmentList::new(segments),
            durability: Durability::new(durable_lsn, durable),
            rotation: Mutex::new(None),
            meta: Mutex::new(plan.meta.clone()),
            preparer,
            ahead: Arc::new(Ahead::new(&*self.storage)),
            background: Background::new(self.options.sync_interval, self.options.sync_bytes),
            control,
            is_over: AtomicBool::new(false),
            pins: Pins::new(pin_files, named),
            lookout: Lookout::new(),
            counters: Counters::default(),
            small_syncs: AtomicU32::new(0),
            payload_len_max: format::payload_len_max(size),
            summer: Summer::new(),
            report,
        };
        Ok((shared, rotation))
    }

    /// Goes on in a segment that was closed.
    fn resume(
        &self,
        shared: &Shared,
        rotation: &mut Rotation,
        info: SegmentInfo,
        earlier: (SegmentEnd, Origin),
    ) -> Result<()> {
        let name = name::segment(info.number);
        let failed = |operation| {
            let path = self.storage.path().join(&name);
            move |source| Error::io(operation, &path, source)
        };
        let (end, _) = earlier;
        let offset = usize::try_from(end.offset).expect("within a segment that was mapped");
        let file: Arc<dyn StorageFile> = self.storage.open(&name, Access::Write).map_err(failed("open"))?.into();
        let mapping = file.map(info.size, Access::Write).map_err(failed("map"))?;
        // Recovery has seen that the rest of the page in which this begins are zeros.
        let mut filling = Filling::going_on(Arc::clone(&file), info.size, offset);
        let first_end = filling.first_end(offset);
        filling.fill_to(first_end, &*self.storage, &mapping, Pages::Single).map_err(failed("write"))?;
        let region = Arc::new(Region::live(mapping, offset));
        let (storage, cache) = (Arc::clone(&self.storage), Arc::clone(&shared.cache));
        let segment = Segment::live(info, Some(earlier), Arc::clone(&region), file, storage, cache);
        shared.segments.change(|segments| segments.push(Arc::new(segment)));
        let ordinal = u32::try_from(end.next_lsn.0 - info.base_lsn.0).expect("a segment has fewer records");
        let room = shared.preparer.begin(info.number, filling, Arc::clone(&region));
        rotation.open(info, region, room, ordinal);
        shared.counters.segment_opened(ordinal, offset);
        shared.control.set_active_segment(info.number);
        Ok(())
    }

    /// Removes files that do not count. What stays is removed at the next open.
    fn remove_all(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.storage.remove(name) {
                let file = name.clone();
                report!(warn, error = &error as &dyn std::error::Error, file, "cannot remove a file");
            }
        }
        if !names.is_empty()
            && let Err(error) = self.storage.sync_directory()
        {
            report!(warn, error = &error as &dyn std::error::Error, "cannot sync the directory");
        }
    }
}

impl Plan {
    /// The number of the first record kept.
    fn first_lsn(&self) -> Lsn {
        match (self.sealed.first(), &self.resume) {
            (Some((info, _)), _) | (None, Resume::InPlace { info, .. }) => info.base_lsn,
            (None, Resume::Fresh(_)) => self.next_lsn,
        }
    }
}

fn report_recovery(path: &Path, report: &RecoveryReport) {
    let directory = path.display().to_string();
    let RecoveryReport { clean, torn_bytes, segments, .. } = *report;
    let (first, next) = (report.first_lsn.0, report.next_lsn.0);
    if torn_bytes > 0 {
        let directory = directory.clone();
        report!(warn, directory, torn_bytes, next_lsn = next, "torn end dropped");
    }
    report!(info, directory, clean, segments, first_lsn = first, next_lsn = next, "log opened");
}
