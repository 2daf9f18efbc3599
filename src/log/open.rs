//! Opening a log: recovery, and what makes its outcome durable before it is shown.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::Log;
use super::durability::Durability;
use super::durability::background::Background;
use super::durability::lookout::Lookout;
use super::housekeeping::Housekeeper;
use super::mark;
#[cfg(feature = "metrics")]
use super::meter::Meter;
use super::page_cache::PageCache;
use super::pin_table::Pins;
use super::preparer::Preparer;
use super::preparer::growth::{Extent, Growth, Sizes};
use super::preparer::pool::Pool;
use super::recovery::plan::{Pending, Plan, Resume};
use super::recovery::recover;
use super::recovery::report::RecoveryReport;
use super::request_task::Requests;
use super::shared::{Rotation, Shared, check_lsn};
use super::stats::Counters;
use crate::error::{Error, FormatFault, Result};
use crate::events::{calling, report};
use crate::format::frame::FrameHasher;
use crate::format::link::{Predecessor, SegmentEnd};
use crate::format::position::Position;
use crate::format::tally::Tally;
use crate::format::{self, name};
use crate::memory::{AppendCursor, Process};
use crate::options::Options;
use crate::read::ReadAhead;
use crate::segment::chain::Chain;
use crate::segment::control::{self, ControlPage, Known};
use crate::segment::directory::{self, Found, Listing};
use crate::segment::leftovers::{remove_all, remove_in_order, remove_unfinished};
use crate::segment::pins::NamedPins;
use crate::segment::pins::files::PinFiles;
use crate::segment::prepare::{GoneOn, Prepared, adopt, go_on, prepare, renew};
use crate::segment::{MapCache, Origin, Segment, SegmentInfo, SegmentList, retire};
use crate::storage::{self, Disk, Lock, LockGuard, Storage};

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
    open_storage(Arc::new(disk.map_err(|source| Error::io("open", path, source))?.beside(options.beside)), options)
}

pub(super) fn open_storage(storage: Arc<dyn Storage>, options: &Options) -> Result<Log> {
    let _calling = calling();
    options.validate()?;
    let began = Instant::now();
    // Looked at before anything is created: a directory that is not a log's stays as it is.
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
    directory::check_begun(&*storage, &found)?;
    check_features(&*storage, &found)?;
    let log_id = match found.first() {
        Some(segment) => segment.log_id,
        None => u128::from(storage.random()) << 64 | u128::from(storage.random()),
    };
    // Segments copied from elsewhere come without the page; then a first or last one that is missing cannot be told from
    // one that was not copied.
    let known = ControlPage::known(&*storage, log_id)?;
    let page_fault = control::page_fault(&*storage, log_id, directory::is_old(found.iter()))?;
    let page_fault = page_fault.filter(|_| !found.is_empty());
    let plan = recover::recover(&*storage, Chain::build(found, storage.path())?, (known, page_fault), options)?;
    check_lsn(plan.next_lsn)?;
    check_metadata(&plan, options)?;
    let last_number = plan.last_number.max(listing.temporary_number());
    let opening = Opening { storage, options, log_id, listing, last_number, known, began };
    let log = opening.carry_out(plan, lock)?;
    if options.requests_up_to.is_some() {
        log.shared.take_requests()?;
    }
    // The number is for processes that find the lock taken. A full disk has no room for it.
    if let Err(error) = log.owner.write_pid() {
        report!(warn, error = &error as &dyn std::error::Error, file = name::LOCK, "cannot sign the lock");
    }
    Ok(log)
}

/// An error if segments of this size have no room for the metadata that the log holds.
fn check_metadata(plan: &Plan, options: &Options) -> Result<()> {
    let (value, len) = (options.segment_size_bytes, plan.meta.encoded_len() as u64);
    let expected = "at least four times the length of the log's metadata";
    let fits = len <= format::meta_len_max(value);
    if fits { Ok(()) } else { Err(Error::InvalidArgument { name: "segment_size_bytes", value, expected }) }
}

/// An error if what a later version has written may be read, and not written on.
fn check_features(storage: &dyn Storage, found: &[Found]) -> Result<()> {
    match found.iter().find(|segment| segment.unknown_to_writers != 0) {
        None => Ok(()),
        Some(segment) => {
            let path = storage.path().join(name::segment(segment.number));
            Err(Error::Format { path, fault: FormatFault::Features { unknown: segment.unknown_to_writers } })
        }
    }
}

/// An error if a log's promises do not hold on this file system, unless the options allow it.
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
        Err(source) => Err(storage::failed(storage, "lock", &path, 0, source)),
    }
}

struct Opening<'o> {
    storage: Arc<dyn Storage>,
    options: &'o Options,
    log_id: u128,
    listing: Listing,
    /// The largest number that a segment may have had.
    last_number: u64,
    known: Option<Known>,
    began: Instant,
}

impl Opening<'_> {
    fn carry_out(self, mut plan: Plan, lock: Box<dyn LockGuard>) -> Result<Log> {
        // Those of segments as well: whether all that was written to them reached the device is not known.
        remove_unfinished(&*self.storage, &self.listing.temporaries);
        self.remove_trimmed(&plan)?;
        let cache = Arc::new(MapCache::default());
        let mut next_number = self.last_number + 1;
        let start = self.start(&mut plan, &mut next_number)?;
        let adopted = if let Start::Fresh(prepared, _) = &start { Some(prepared.number) } else { None };
        let remove = plan.remove.iter().filter(|&&number| Some(number) != adopted);
        let leftovers: Vec<String> = remove.map(|&number| name::segment(number)).collect();
        let (shared, mut rotation) = self.build(&plan, &cache, next_number, start.number())?;
        let leftovers = match start {
            Start::InPlace(info, earlier, tally, opened) => {
                self.resume(&shared, &mut rotation, info, earlier, tally, opened);
                leftovers
            }
            Start::Fresh(prepared, previous) => {
                let prepared = shared.ready_for_link(prepared, plan.meta.encoded_len())?;
                shared.open_segment(&mut rotation, prepared, previous, plan.next_lsn, None);
                leftovers
            }
            Start::Pending(previous) => {
                let last = shared.segments.last().expect("one that counts");
                shared.wait_for_room(&mut rotation, &last, Pending { previous, next_lsn: plan.next_lsn, leftovers })?;
                Vec::new()
            }
        };
        let log = Log::assemble(shared, rotation, lock)?;
        // The new segment's link is what makes the outcome of recovery final: durable before what it replaces goes, and
        // before the caller sees a record.
        plan.unused.iter().for_each(|&unused| log.shared.note_unused(unused));
        log.shared.wait(log.shared.everything())?;
        log.shared.preparer.forget_syncs();
        remove_all(&*self.storage, &leftovers);
        let failed = |source| control::write_error(&*self.storage, source);
        if !log.shared.is_pending() {
            let oldest = log.shared.lock_rotation().oldest;
            log.shared.control.set_oldest_segment(oldest).map_err(failed)?;
        }
        log.shared.control.show().map_err(failed)?;
        log.shared.control.wake_all(&*self.storage);
        #[cfg(feature = "metrics")]
        log.shared.meter.opened(log.shared.extent(), plan.torn_bytes);
        // Before this is done a wake-up may be missed, rarely: followers that have gone to sleep meanwhile look once
        // more.
        let (storage, control) = (Arc::clone(&self.storage), Arc::clone(&log.shared.control));
        self.storage.register_for_barriers(Box::new(move || control.wake_all(&*storage)));
        Ok(log)
    }

    /// Removes what was trimmed, before the control page, which says so, could lose its name.
    fn remove_trimmed(&self, plan: &Plan) -> Result<()> {
        let Some(oldest) = self.known.and_then(|known| known.oldest) else { return Ok(()) };
        let mut trimmed: Vec<u64> = plan.remove.iter().copied().filter(|&number| number < oldest).collect();
        if trimmed.is_empty() {
            return Ok(());
        }
        trimmed.sort_unstable();
        let is_durable = ControlPage::is_retained_durably(&*self.storage, self.log_id, oldest);
        if is_durable.map_err(|source| control::write_error(&*self.storage, source))? {
            let names: Vec<String> = trimmed.into_iter().map(name::segment).collect();
            remove_in_order(&*self.storage, &names);
        }
        Ok(())
    }

    /// Makes ready what appends go to. Without room the log waits for it, if there is something to be trimmed.
    fn start(&self, plan: &mut Plan, next_number: &mut u64) -> Result<Start> {
        if let Resume::InPlace { info, end, origin, tally } = plan.resume {
            match go_on(&*self.storage, &info, end) {
                Ok(Some(opened)) => return Ok(Start::InPlace(info, (end, origin), tally, opened)),
                Ok(None) | Err(Error::NoSpace { .. }) => plan.leave(info, end),
                Err(error) => return Err(error),
            }
        }
        let Resume::Fresh(previous) = plan.resume else { unreachable!("it was left") };
        match (self.fresh(plan, next_number), previous.filter(|_| !plan.sealed.is_empty())) {
            (Err(Error::NoSpace { .. }), Some(previous)) => Ok(Start::Pending(previous)),
            (prepared, _) => Ok(Start::Fresh(prepared?, previous)),
        }
    }

    /// A segment that holds nothing.
    fn fresh(&self, plan: &Plan, next_number: &mut u64) -> Result<Prepared> {
        let (sizes, needed) = (Sizes::of(self.options), format::segment_size_for(0, plan.meta.encoded_len()));
        let fits = |spare: &&Found| (sizes.first.max(needed)..=sizes.max).contains(&spare.size);
        // Taking over a spare needs no room on a disk that may be full.
        if let Some(spare) = plan.spare.as_ref().filter(fits)
            && let Some(prepared) = adopt(&*self.storage, spare)?
        {
            return Ok(prepared);
        }
        let size = sizes.next(plan.used_bytes(), plan.last_size(), needed);
        let number = *next_number;
        *next_number += 1;
        // As fast from the first byte on as those that are kept. What is in the way of this is met again, and reported.
        if self.options.spare_segments > 0
            && let Ok(stocked) = retire::stock(&*self.storage, number, size)
        {
            return renew(&*self.storage, &stocked, self.log_id, number, size);
        }
        prepare(&*self.storage, self.log_id, number, size)
    }

    fn build(
        &self,
        plan: &Plan,
        cache: &Arc<MapCache>,
        mut next_number: u64,
        active: u64,
    ) -> Result<(Shared, Rotation)> {
        let is_begun = plan.sealed.last().is_none_or(|(last, _)| last.number != active);
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
            segments: segments.len() + usize::from(is_begun),
            bytes_scanned: plan.bytes_scanned,
            torn_bytes: plan.torn_bytes,
            duration: self.began.elapsed(),
        };
        report.tell(path);
        let pin_files = PinFiles::new(Arc::clone(&self.storage), PIN_PATIENCE);
        let named = NamedPins::load(&pin_files, &*self.storage)?;
        // As long as the link is not durable that leaves others out, what was retained before is.
        let retained = self.known.and_then(|known| known.oldest).or(self.listing.segments.first().copied());
        let control = Arc::new(ControlPage::create(&*self.storage, self.log_id, retained.unwrap_or(oldest))?);
        let durable_lsn = plan.next_lsn.previous();
        control.set_durable(durable_lsn, durable).map_err(|source| control::write_error(&*self.storage, source))?;
        let size = self.options.segment_size_bytes;
        let counters = Arc::new(Counters::default());
        let growth = Growth::new(Sizes::of(self.options), Extent::of(&segments), plan.last_size());
        let pool = Pool::stocked(&self.storage, &counters, size, self.options.spare_segments, &mut next_number);
        let pool = Arc::new(pool);
        let (storage, files, counts) = (Arc::clone(&self.storage), Arc::clone(&pool), Arc::clone(&counters));
        let preparer = Preparer::start(storage, self.log_id, growth, next_number, files, counts)
            .map_err(|source| Error::io("start a thread for", path, source))?;
        let (cursor, cursor_control) = AppendCursor::new();
        let rotation = Rotation { cursor_control, oldest, begin: Position::ZERO, room: 0, ask_at: 0, pending: None };
        let housekeeper = Housekeeper::new(Arc::clone(&self.storage), pool, preparer.waker(), Arc::clone(&counters));
        let shared = Shared {
            number: mark::number_log(),
            storage: Arc::clone(&self.storage),
            cache: Arc::clone(cache),
            cursor,
            segments: SegmentList::new(segments),
            durability: Durability::new(self.storage.path().to_owned(), durable_lsn, durable),
            rotation: Mutex::new(None),
            meta: Mutex::new(plan.meta.clone()),
            preparer,
            page_cache: PageCache::new(self.options),
            housekeeper,
            ahead: Arc::new(ReadAhead::new(&*self.storage)),
            background: Background::new(self.options.sync_interval, self.options.sync_bytes),
            control,
            replaced_seen: AtomicU32::new(0),
            calls: RwLock::new(()),
            is_closed: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            process: Process::current(),
            pins: Pins::new(pin_files, named),
            lookout: Lookout::new(),
            requests: Requests::new(self.options.requests_up_to),
            #[cfg(feature = "metrics")]
            meter: Meter::new(path, Arc::clone(&counters)),
            counters,
            payload_len_max: AtomicU64::new(format::payload_len_max(size, plan.meta.encoded_len())),
            meta_len_max: format::meta_len_max(size),
            hasher: FrameHasher::new(),
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
        tally: Option<Tally>,
        opened: GoneOn,
    ) {
        let (end, _) = earlier;
        let GoneOn { file, region, filling } = opened;
        let (storage, cache) = (Arc::clone(&self.storage), Arc::clone(&shared.cache));
        let segment = Arc::new(Segment::live(info, Some(earlier), tally, Arc::clone(&region), file, storage, cache));
        shared.segments.change(|segments| segments.push(Arc::clone(&segment)));
        let ordinal = u32::try_from(end.next_lsn.0 - info.base_lsn.0).expect("a segment has fewer records");
        let room = shared.preparer.begin(&segment, filling, shared.extent_before());
        let offset = region.published();
        rotation.open(info, region, room, ordinal);
        shared.counters.segment_opened(ordinal, offset);
        shared.control.set_active_segment(info.number);
    }
}

/// What appends go to.
enum Start {
    /// The newest segment, after its close.
    InPlace(SegmentInfo, (SegmentEnd, Origin), Option<Tally>, GoneOn),
    /// A new segment.
    Fresh(Prepared, Option<Predecessor>),
    /// Nothing yet, since there is no room for a segment.
    Pending(Predecessor),
}

impl Start {
    /// The number of the last segment.
    fn number(&self) -> u64 {
        match self {
            Self::InPlace(info, ..) => info.number,
            Self::Fresh(prepared, _) => prepared.number,
            Self::Pending(previous) => previous.number,
        }
    }
}
