//! Reading the log of another process, or of none: without the lock, and writing nothing but the word that asks for
//! a wake-up.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::claims::Claims;
use super::displaced;
use super::follower::Follower;
use super::known::State;
use super::look_up::get_ref;
use super::read_ahead::ReadAhead;
use super::record::RecordRef;
use super::sealed::SealedTip;
use super::snapshot::Snapshot;
use super::source::Source;
use super::visibility::Visibility;
use crate::error::{Corruption, Damage, Error, Result};
use crate::format::name;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::Process;
use crate::segment::chain::{Chain, ChainLink};
use crate::segment::control::{Channel, ControlPage, Stated};
use crate::segment::directory;
use crate::segment::{MapCache, Origin, Published, Segment, SegmentList, Segments, check_there_or_next};
use crate::storage::{Disk, Storage};

/// How often the directory is read again while the control page tells of no change.
const RELIST_INTERVAL: Duration = Duration::from_millis(500);
/// How often a follower that cannot be woken looks.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A read-only view of a log that another process may be writing. It changes no record, and its writer waits for nothing.
/// For each file that it reads it holds a shared lock on a byte of the directory, which keeps the file from being used
/// again, and a follower that waits says so in the log's `control` file, to be woken.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use std::time::Duration;
///
/// use mapwal::{LogReader, Lsn, Visibility};
///
/// log.append_batch(&[(1, b"a".as_slice()), (1, b"b")])?;
/// log.sync()?;
///
/// // In this process or another:
/// // SAFETY: only the library writes to the files of the directory, which is on a local file system.
/// let reader = unsafe { LogReader::open_timeout(dir.path(), Duration::from_secs(5)) }?; // `open` if the log is there
/// assert_eq!((reader.first_lsn()?, reader.published_lsn()?, reader.durable_lsn()), (Lsn(1), Lsn(2), Lsn(2)));
/// assert_eq!(reader.get(Lsn(2))?.expect("a record").payload(), b"b");
/// assert_eq!(reader.snapshot()?.iter().count(), 2);
/// let mut follower = reader.follow(Lsn(2), Visibility::Durable)?;
/// assert_eq!(follower.next()?.expect("a record").payload(), b"b");
/// assert!(reader.next_sealed(0)?.is_none()); // the segment still takes appends
/// let prefix = reader.durable_prefix()?.expect("what is durable of it");
/// println!("{} bytes of {}", prefix.bytes().len(), reader.directory().display());
/// # // SAFETY: as above.
/// # unsafe { LogReader::open(dir.path()) }?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct LogReader(pub(super) Arc<DirectorySource>);

impl LogReader {
    /// Opens the log in directory `path` for reading.
    ///
    /// # Errors
    /// [`Error::NoLog`] when there is none yet, [`Error::NotALog`], [`Error::Format`], [`Error::Corrupt`] when a
    /// segment's header is damaged or one is missing, [`Error::Io`].
    ///
    /// # Safety
    /// For as long as this value, or anything read from it, lives:
    ///
    /// - nothing but this library writes to the files of the directory or makes them shorter;
    /// - the directory is on a local file system, whose mappings and writes are coherent.
    #[expect(unsafe_code, reason = "what is borrowed from a mapping depends on what others do to the files")]
    pub unsafe fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_directory(path.as_ref(), false)
    }

    /// As [`Self::open`], of a directory that holds copies of [sealed segments](crate::Log::sealed), made one by one: the segment that
    /// the last of them names need not be there, as with [`Options::archive`](crate::Options::archive).
    ///
    /// # Errors
    /// As [`Self::open`].
    ///
    /// # Safety
    /// As [`Self::open`].
    #[expect(unsafe_code, reason = "as for `open`")]
    pub unsafe fn open_archive(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_directory(path.as_ref(), true)
    }

    fn open_directory(path: &Path, is_archive: bool) -> Result<Self> {
        let disk = Disk::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NoLog { path: path.to_owned() },
            _ => Error::io("open", path, source),
        })?;
        displaced::report_file_system(&disk)?;
        Self::open_storage(Arc::new(disk), is_archive)
    }

    /// As [`Self::open`]; waits up to `timeout` for the log to be created.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::NoLog`] when there is none by then.
    ///
    /// # Safety
    /// As [`Self::open`].
    #[expect(unsafe_code, reason = "as for `open`")]
    pub unsafe fn open_timeout(path: impl AsRef<Path>, timeout: Duration) -> Result<Self> {
        let began = Instant::now();
        loop {
            match Self::open_directory(path.as_ref(), false) {
                Err(Error::NoLog { .. }) if began.elapsed() < timeout => std::thread::sleep(POLL_INTERVAL),
                opened => return opened,
            }
        }
    }

    /// As [`Self::open`], on any storage whose files obey the contract.
    pub(crate) fn open_storage(storage: Arc<dyn Storage>, is_archive: bool) -> Result<Self> {
        let source = DirectorySource {
            is_archive,
            process: Process::current(),
            ahead: Arc::new(ReadAhead::new(&*storage)),
            storage,
            cache: Arc::default(),
            segments: SegmentList::default(),
            state: Mutex::new(State {
                log_id: None,
                found: BTreeMap::new(),
                control: None,
                claims: Claims::default(),
                generation: None,
                newest: None,
                listed: None,
            }),
        };
        source.relist(&mut source.state.lock())?;
        Ok(Self(Arc::new(source)))
    }

    /// The first record kept, or the next one's number if there is none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn first_lsn(&self) -> Result<Lsn> {
        self.0.refresh(false)?;
        Ok(self.0.segments().first_lsn())
    }

    /// The last record that can be read, or the number before the first if there is none.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn published_lsn(&self) -> Result<Lsn> {
        Ok(self.view()?.1.previous())
    }

    /// The last record that the writer has called durable, as far as it has said so; 0 in a forked child.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.0.durable().0
    }

    /// A fixed view of what is published now.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let (segments, next) = self.view()?;
        Ok(Snapshot::new(segments, next, Arc::clone(&self.0.ahead)))
    }

    /// Record `lsn`, with a share in its mapping; `None` if it was given up while it was written.
    ///
    /// # Errors
    /// [`Error::Trimmed`], [`Error::NotAppended`], [`Error::Corrupt`], [`Error::Io`].
    pub fn get(&self, lsn: Lsn) -> Result<Option<RecordRef>> {
        let (segments, next) = self.view()?;
        get_ref(&segments, next, lsn)
    }

    /// A follower that begins with record `from`, which may be the next one to come.
    ///
    /// # Errors
    /// [`Error::Trimmed`] or [`Error::NotAppended`] when `from` is not in the log nor next.
    pub fn follow(&self, from: Lsn, visibility: Visibility) -> Result<Follower> {
        let (segments, next) = self.view()?;
        check_there_or_next(from, segments.first_lsn(), next)?;
        Ok(Follower::new(Arc::clone(&self.0) as Arc<dyn Source>, from, visibility))
    }

    fn view(&self) -> Result<(Arc<Segments>, Lsn)> {
        self.0.check_process()?;
        let mut is_stale = false;
        loop {
            // Before the segments: a writer may open one, and make what is in it durable, at any moment.
            let durable = self.0.durable().1;
            self.0.refresh(is_stale)?;
            let segments = self.0.segments();
            match segments.published(durable, true) {
                // Trimmed, or truncated, since it was listed.
                Err(Error::Trimmed { .. } | Error::Corrupt(_)) if !is_stale => is_stale = true,
                Err(error) => return Err(self.0.explain(error)),
                // Listed before it was made, or lost: the next look tells.
                Ok(_) if !is_stale && self.0.lacks_successor(&segments) => is_stale = true,
                // Later frames say that something was there.
                Ok(Published { next, hole: Some(hole) }) if self.0.proven()? > Some(hole) => {
                    if is_stale {
                        let path = self.0.storage.path().join(name::segment(hole.segment()));
                        return Err(Error::corrupt(&path, hole.offset(), Some(next), Damage::MissingFrame));
                    }
                    is_stale = true;
                }
                Ok(Published { next, .. }) => return Ok((segments, next)),
            }
        }
    }
}

/// What is known of a directory that another process writes.
#[derive(Debug)]
pub(super) struct DirectorySource {
    /// That which has opened it.
    process: Process,
    /// Whether it is of copies of sealed segments.
    is_archive: bool,
    pub(super) storage: Arc<dyn Storage>,
    cache: Arc<MapCache>,
    segments: SegmentList,
    ahead: Arc<ReadAhead>,
    state: Mutex<State>,
}

impl Source for DirectorySource {
    fn segments(&self) -> Arc<Segments> {
        self.segments.load()
    }

    fn ahead(&self) -> &ReadAhead {
        &self.ahead
    }

    fn truncations(&self) -> u64 {
        self.segments.truncations()
    }

    fn replaced_since(&self, seen: u64) -> Option<Lsn> {
        self.segments.replaced_since(seen)
    }

    fn refresh(&self, is_stale: bool) -> Result<()> {
        self.check_process()?;
        // Held while the directory is read: refreshes are rare, and two at once would do the same.
        let mut state = self.state.lock();
        let generation = state.control.as_deref().map(ControlPage::generation);
        let is_changed = generation != state.generation;
        if is_changed || is_stale || state.listed.is_none_or(|listed| listed.elapsed() >= RELIST_INTERVAL) {
            if !is_changed {
                // A page that tells of nothing may be one that a writer has replaced.
                self.open_control(&mut state)?;
            }
            self.relist(&mut state)?;
        }
        Ok(())
    }

    fn explain(&self, error: Error) -> Error {
        displaced::explain(&*self.storage, error)
    }

    fn is_over(&self) -> bool {
        // Another writer may come.
        false
    }

    fn wait(&self, channel: Channel, timeout: Duration, ready: &mut dyn FnMut() -> Result<bool>) -> Result<()> {
        let control = self.state.lock().control.clone();
        let woken = match control {
            Some(control) => control.wait(&*self.storage, channel, timeout.min(RELIST_INTERVAL), ready)?,
            None => false,
        };
        if !woken {
            std::thread::sleep(timeout.min(POLL_INTERVAL));
        }
        Ok(())
    }

    fn durable(&self) -> (Lsn, Position) {
        let Some(state) = self.process.is_current().then(|| self.state.lock()) else {
            return (Lsn::ZERO, Position::ZERO);
        };
        match state.stated() {
            Some(Stated { lsn, position }) => (lsn, position),
            None => (Lsn::ZERO, state.claims.largest()),
        }
    }

    fn proven(&self) -> Result<Option<Position>> {
        let mut state = self.state.lock();
        let stated = state.stated().map_or(Position::ZERO, |stated| stated.position);
        state.hear_claims(&*self.storage).map(|claimed| Some(claimed.max(stated)))
    }
}

impl DirectorySource {
    pub(super) fn check_process(&self) -> Result<()> {
        if self.process.is_current() { Ok(()) } else { Err(Error::Forked) }
    }

    /// Whether the newest of `segments` ends with a seal that names a segment which has not been seen.
    fn lacks_successor(&self, segments: &Segments) -> bool {
        SealedTip::of(segments).is_some_and(|tip| self.check_successor(&self.state.lock(), &tip).is_err())
    }

    /// An error if the segment that the seal at the end of `tip` names has not been seen.
    fn check_successor(&self, state: &State, tip: &SealedTip) -> Result<()> {
        let active = state.control.as_deref().and_then(ControlPage::active_segment);
        tip.check(self.is_archive, active, |named| state.found.contains_key(&named))
    }

    fn relist(&self, state: &mut State) -> Result<()> {
        // Both are read before the directory: a change in between is seen the next time, and what was durable is found.
        state.generation = state.control.as_deref().map(ControlPage::generation);
        let began = Instant::now();
        state.listed = None;
        let sealed = SealedTip::of(&self.segments.load());
        displaced::check_place(&*self.storage)?;
        let (stated, mut chain) = self.list(state)?;
        // Without it, records that are damaged would look like ones that have not come yet.
        let durable = match stated {
            Some(Stated { position, .. }) => position,
            None => state.hear_claims(&*self.storage)?,
        };
        let mut looks = 1;
        while let Err(error) = self.check_whole(state, &chain, (durable, stated), sealed.as_ref()) {
            if looks == directory::LOOKS_MAX {
                return Err(error);
            }
            (_, chain) = self.list(state)?;
            looks += 1;
        }
        let known = self.segments.load();
        // A trim says so before it removes the files.
        let trimmed = chain.trimmed(state.control.as_deref().and_then(ControlPage::oldest_segment));
        if let Some(newest) = chain.links.last() {
            displaced::check_newest(&*self.storage, &mut state.newest, newest.info.number)?;
        }
        let segments = self.follow_chain(&known, &chain.links[trimmed..]);
        match Segments::replaced_from(known.as_slice(), &segments) {
            None => self.segments.change(|current| *current = segments),
            Some(lsn) => drop(self.segments.truncate(lsn, segments)),
        }
        state.listed = Some(began);
        Ok(())
    }

    /// Reads the directory, and opens the control page if it has not been there before.
    /// What was stated as durable, and then the segments.
    fn list(&self, state: &mut State) -> Result<(Option<Stated>, Chain)> {
        let stated = state.stated();
        // The others may have become segments that are in use.
        state.found.retain(|_, segment| segment.is_linked());
        let (listing, inspected) = directory::find(&*self.storage, |number| state.found.contains_key(&number))?;
        state.found.retain(|number, _| listing.segments.binary_search(number).is_ok());
        if let Some(first) = inspected.first() {
            let log_id = *state.log_id.get_or_insert(first.log_id);
            directory::check_identity(&inspected, log_id, self.storage.path())?;
        }
        state.found.extend(inspected.into_iter().map(|segment| (segment.number, segment)));
        if state.found.is_empty() {
            return Err(Error::NoLog { path: self.storage.path().to_owned() });
        }
        if state.control.is_none() && self.open_control(state)? {
            return self.list(state);
        }
        let chain = Chain::build(state.found.values().cloned().collect(), self.storage.path())?;
        Ok((stated, chain.of_copies(self.is_archive)))
    }

    /// Opens the control page as it is now, and keeps the one there was if there is none. Whether it has been opened.
    fn open_control(&self, state: &mut State) -> Result<bool> {
        let opened = state.log_id.map(|log_id| ControlPage::open(&*self.storage, log_id)).transpose()?.flatten();
        Ok(opened.map(|control| state.control = Some(Arc::new(control))).is_some())
    }

    /// An error if segments are missing, or damaged at their start, that hold what was durable.
    fn check_whole(
        &self,
        state: &State,
        chain: &Chain,
        (durable, stated): (Position, Option<Stated>),
        sealed: Option<&SealedTip>,
    ) -> Result<()> {
        let path = self.storage.path();
        // Read after the directory: a trim says so before it removes the files.
        chain.check_start(path, state.control.as_deref().and_then(ControlPage::oldest_segment))?;
        if let Some(lost) = chain.lost_end(path, durable) {
            return Err(Corruption { evidence: stated.map(Stated::evidence), ..lost }.into());
        }
        let is_tip = |sealed: &&SealedTip| chain.links.last().is_some_and(|tip| tip.info.number == sealed.number());
        sealed.filter(is_tip).map_or(Ok(()), |sealed| self.check_successor(state, sealed))
    }

    /// The segments of `links`, with what is known of those that are `known` already.
    fn follow_chain(&self, known: &Segments, links: &[ChainLink]) -> Vec<Arc<Segment>> {
        let known: BTreeMap<u64, &Arc<Segment>> = known.as_slice().iter().map(|s| (s.number(), s)).collect();
        let follow = |link: &ChainLink| {
            let (storage, cache) = (Arc::clone(&self.storage), Arc::clone(&self.cache));
            match (known.get(&link.info.number), link.end) {
                (Some(segment), None) => Arc::clone(segment),
                (Some(segment), Some(end)) if segment.try_end(end) => Arc::clone(segment),
                (Some(segment), Some(end)) => Arc::new(segment.cut(end)),
                (None, Some(end)) => Arc::new(Segment::at_rest(link.info, end, Origin::Foreign, storage, cache)),
                (None, None) => Arc::new(Segment::followed(link.info, storage, cache)),
            }
        };
        links.iter().map(follow).collect()
    }
}
