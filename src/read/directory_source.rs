//! What a reader knows of a directory that another process writes, and how it finds out more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::claims::Claims;
use super::displaced;
use super::known::State;
use super::read_ahead::ReadAhead;
use super::sealed::SealedTip;
use super::source::Source;
use super::torn;
use crate::error::{Corruption, Damage, Error, Result};
use crate::format::name;
use crate::format::position::Position;
use crate::lsn::Lsn;
use crate::memory::Process;
use crate::segment::chain::{Chain, ChainLink};
use crate::segment::control::{Channel, ControlPage, Stated};
use crate::segment::directory;
use crate::segment::{MapCache, Origin, Published, Segment, SegmentList, Segments};
use crate::storage::Storage;

/// How often the directory is read again while the control page tells of no change.
const RELIST_INTERVAL: Duration = Duration::from_millis(500);

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
    pub(super) ahead: Arc<ReadAhead>,
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

    fn wait(&self, channel: Channel, timeout: Duration, ready: &mut dyn FnMut() -> Result<bool>) -> Result<bool> {
        let control = self.state.lock().control.clone();
        control.map_or(Ok(false), |control| control.wait(&*self.storage, channel, timeout.min(RELIST_INTERVAL), ready))
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
    /// An error if there is no log in `storage`, or none that can be read.
    pub(super) fn open(storage: Arc<dyn Storage>, is_archive: bool) -> Result<Self> {
        let source = Self {
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
        Ok(source)
    }

    pub(super) fn check_process(&self) -> Result<()> {
        if self.process.is_current() { Ok(()) } else { Err(Error::Forked) }
    }

    /// What there is, and the number of the record after what is published of it.
    pub(super) fn view(&self) -> Result<(Arc<Segments>, Lsn)> {
        self.check_process()?;
        let mut is_stale = false;
        loop {
            // Before the segments: a writer may open one, and make what is in it durable, at any moment.
            let durable = self.durable().1;
            self.refresh(is_stale)?;
            let segments = self.segments();
            match segments.published(durable, true) {
                // Trimmed, or truncated, since it was listed.
                Err(Error::Trimmed { .. } | Error::Corrupt(_)) if !is_stale => is_stale = true,
                Err(error) => return Err(self.explain(error)),
                // Listed before it was made, or lost: the next look tells.
                Ok(_) if !is_stale && self.lacks_successor(&segments) => is_stale = true,
                // Later frames say that something was there.
                Ok(Published { next, hole: Some(hole), .. }) if self.proven()? > Some(hole) => {
                    if is_stale {
                        let path = self.storage.path().join(name::segment(hole.segment()));
                        return Err(Error::corrupt(&path, hole.offset(), Some(next), Damage::MissingFrame));
                    }
                    is_stale = true;
                }
                // Nothing says which of the two is right. A writer goes on after what is sound.
                Ok(Published { cut: Some(_), .. }) if !is_stale => is_stale = true,
                Ok(Published { next, hole, cut }) => {
                    if hole.is_some() {
                        // A control page that is damaged cannot say so.
                        torn::check_page(&*self.storage, &self.state.lock(), || Ok(Some(next)))?;
                    }
                    return Ok((cut.map(|cut| Arc::new(segments.cut_at(cut))).unwrap_or(segments), next));
                }
            }
        }
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
        torn::check_page(&*self.storage, state, || torn::torn_from(&*self.storage, chain))?;
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
