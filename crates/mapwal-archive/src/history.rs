//! What an archive holds: its epochs, and the segments that lead to the end of each.

use std::collections::{BTreeMap, BTreeSet};

use mapwal::Lsn;
use object_store::path::Path;

use crate::archive::Archive;
use crate::chain::Chain;
use crate::epoch::{EpochNote, Parent};
use crate::error::{Error, ObjectDamage, Result};
use crate::marks::{Mark, Marks};
use crate::object::{ArchivedSegment, EPOCH_MAX, Object, epoch_key};
use crate::store::Store;
use crate::strays::Stray;

/// The objects of an archive, as they were listed.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) prefix: Path,
    pub(crate) epochs: BTreeMap<u64, Epoch>,
    /// Which records may have been pruned.
    pub(crate) pruned: Marks,
    /// The epochs that were deleted by themselves, or are being deleted.
    pub(crate) forgotten: BTreeSet<u64>,
    /// The largest number that an epoch had which may be gone by now: one that was forgotten, or that a mark names.
    gone: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Epoch {
    pub(crate) note: Option<EpochNote>,
    /// What is wrong with a note that is there, and cannot be used.
    pub(crate) damage: Option<ObjectDamage>,
    /// In the log's order.
    pub(crate) segments: Vec<ArchivedSegment>,
    pub(crate) parts: Vec<ArchivedSegment>,
    /// Objects from before the beginning of the epoch: they are not among those.
    pub(crate) strays: Vec<Stray>,
}

impl History {
    /// Lists the archive at `prefix`.
    pub(crate) async fn load(store: &Store, prefix: &Path) -> Result<Self> {
        let (history, unread) = Self::look(store, prefix).await?;
        unread.map_or(Ok(history), Err)
    }

    /// As [`Self::load`], though a note cannot be read: that epoch cannot be followed, and the error is returned as well.
    pub(crate) async fn look(store: &Store, prefix: &Path) -> Result<(Self, Option<Error>)> {
        let mut unread = None;
        let (epochs, pruned) = (BTreeMap::new(), Marks::default());
        let mut history = Self { prefix: prefix.clone(), epochs, pruned, forgotten: BTreeSet::new(), gone: 0 };
        let mut marks = Vec::new();
        for meta in store.list(prefix).await? {
            history.add(Object::of(prefix, &meta), &mut marks);
        }
        for (&number, epoch) in &mut history.epochs {
            // Read by its key: a list may be late.
            match store.epoch_note(prefix, number).await {
                Err(Error::Damaged { damage, .. }) => epoch.damage = Some(damage),
                Err(error) if error.is_of_one_object() => {
                    epoch.damage = Some(ObjectDamage::Unreadable { why: error.in_one_line() });
                    unread = Some(error);
                }
                note => epoch.note = note?,
            }
        }
        history.judge_notes();
        // Of an archiver that has begun, at most.
        history.epochs.retain(|_, epoch| !epoch.is_blank());
        let end = history.objects().map(|object| object.next_lsn).max().unwrap_or_default();
        history.pruned = Marks::new(marks, end);
        history.sort_out_all();
        Ok((history, unread))
    }

    /// Sets aside the notes that cannot be those of their epochs: one that is used must not hide another history.
    fn judge_notes(&mut self) {
        let (mut log, mut seen) = (None, Vec::<(u64, EpochNote)>::new());
        for (&number, epoch) in &mut self.epochs {
            let Some(note) = &epoch.note else { continue };
            let is_other_log = note.log_id() != *log.get_or_insert(note.log_id());
            let original = seen.iter().find(|(_, seen)| seen == note);
            let copy = original.map(|&(epoch, _)| ObjectDamage::Copy { epoch });
            let fault = copy.or_else(|| is_other_log.then(|| ObjectDamage::OtherLog { log: note.log.clone() }));
            seen.push((number, note.clone()));
            if fault.is_some() {
                (epoch.note, epoch.damage) = (None, fault);
            }
        }
    }

    fn add(&mut self, object: Object, marks: &mut Vec<Mark>) {
        match object {
            Object::Segment(segment) => {
                let epoch = self.epochs.entry(segment.epoch).or_default();
                if segment.part.is_none() { &mut epoch.segments } else { &mut epoch.parts }.push(segment);
            }
            Object::Epoch(number) | Object::Session(number) => {
                self.epochs.entry(number).or_default();
            }
            Object::Forgotten(number) => {
                self.gone = self.gone.max(number);
                self.forgotten.insert(number);
            }
            Object::Pruned(mark) => {
                self.gone = self.gone.max(mark.epoch);
                marks.push(mark);
            }
            Object::Foreign => {}
        }
    }

    /// The identity of the log whose archive this is.
    pub(crate) fn log_id(&self) -> Option<u128> {
        self.epochs.values().find_map(|epoch| epoch.note.as_ref()?.log_id())
    }

    /// What a new epoch may have as its number: one above all others, also above those of epochs that are gone: a mark that a prune left
    /// for one of them says nothing of a new one.
    pub(crate) fn next_number(&self) -> u64 {
        let above = |newest: Option<&u64>| newest.map_or(1, |newest| newest + 1);
        let next = above(self.epochs.keys().next_back()).max(self.gone + 1);
        if next <= EPOCH_MAX {
            return next;
        }
        // What is there with the largest number was not written here, where they are taken one after the other.
        let noted = self.epochs.iter().filter(|(_, epoch)| epoch.note.is_some()).map(|(number, _)| number);
        let mut free = above(noted.max());
        while self.epochs.contains_key(&free) || self.forgotten.contains(&free) {
            free += 1;
        }
        free
    }

    /// The newest epoch that leads to a record, or the newest of all.
    pub(crate) fn newest(&self) -> Option<u64> {
        // Also records that are missing: an older epoch must not be taken for it.
        let has_some = |chain: Chain| !chain.pieces.is_empty() || chain.gap.is_some();
        let has_records = |&&epoch: &&u64| self.chain(epoch).map_or(true, has_some);
        self.epochs.keys().rev().find(has_records).or_else(|| self.epochs.keys().next_back()).copied()
    }

    /// All segments and parts, but for strays.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &ArchivedSegment> {
        self.epochs.values().flat_map(Epoch::objects)
    }

    /// All segments and parts.
    pub(crate) fn all_objects(&self) -> impl Iterator<Item = &ArchivedSegment> {
        self.epochs.values().flat_map(Epoch::all_objects)
    }

    /// What the list shows to be damaged of what `epoch` and those that it continues need, and the note without which nothing of it can be
    /// restored.
    pub(crate) fn damaged(&self, epoch: u64) -> Vec<(String, ObjectDamage)> {
        let notes = self.line(epoch).into_keys().filter_map(|at| match self.noted(at) {
            Err(Error::Damaged { key, damage, .. }) => Some((key, damage)),
            _ => None,
        });
        let objects =
            self.needed(epoch).into_iter().filter_map(|object| Some((object.key.to_string(), object.damage()?)));
        let strays = self.line(epoch).into_keys().flat_map(|at| self.lone_strays(at));
        let strays = strays.map(|(object, damage)| (object.key.to_string(), damage));
        notes.chain(objects).chain(strays).collect()
    }

    /// What a restore to the end of `epoch` may need, of it and of those that it continues.
    pub(crate) fn needed(&self, epoch: u64) -> Vec<&ArchivedSegment> {
        let line = self.line(epoch);
        let own = line.into_iter().filter_map(|(at, limit)| Some((self.epochs.get(&at)?, limit)));
        own.flat_map(|(own, limit)| own.needed().filter(move |object| object.first_lsn < limit)).collect()
    }

    /// The keys of the segments and parts of `epoch` itself.
    pub(crate) fn keys(&self, epoch: u64) -> BTreeSet<&Path> {
        self.epochs
            .get(&epoch)
            .into_iter()
            .flat_map(|own| own.segments.iter().chain(&own.parts))
            .map(|it| &it.key)
            .collect()
    }

    /// The notes that cannot be read, and why.
    pub(crate) fn unread(&self) -> Vec<(String, String)> {
        let why = |(&number, epoch): (&u64, &Epoch)| match &epoch.damage {
            Some(ObjectDamage::Unreadable { why }) => Some((epoch_key(&self.prefix, number).to_string(), why.clone())),
            _ => None,
        };
        self.epochs.iter().filter_map(why).collect()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.all_objects().any(|object| object.key.as_ref() == key)
    }

    /// Adds what has been uploaded since it was listed.
    pub(crate) fn insert(&mut self, uploaded: &[ArchivedSegment]) {
        for segment in uploaded {
            let segments = &mut self.epochs.entry(segment.epoch).or_default().segments;
            if segments.iter().all(|listed| listed.key != segment.key) {
                segments.push(segment.clone());
                segments.sort_by_key(ArchivedSegment::order);
            }
        }
    }

    /// As if `epoch` had this note.
    pub(crate) fn set_note(&mut self, epoch: u64, note: EpochNote) {
        let own = self.epochs.entry(epoch).or_default();
        (own.note, own.damage) = (Some(note), None);
        self.sort_out(epoch);
    }

    /// As if that were wrong with the note of `epoch`.
    pub(crate) fn set_aside(&mut self, epoch: u64, damage: ObjectDamage) {
        let own = self.epochs.entry(epoch).or_default();
        (own.note, own.damage) = (None, Some(damage));
        self.sort_out(epoch);
    }

    /// Leaves out an object.
    pub(crate) fn remove(&mut self, key: &str) {
        for epoch in self.epochs.values_mut() {
            epoch.segments.retain(|listed| listed.key.as_ref() != key);
            epoch.parts.retain(|listed| listed.key.as_ref() != key);
            epoch.strays.retain(|stray| stray.object.key.as_ref() != key);
        }
    }

    /// Whether each epoch can be restored to its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.epochs.keys().all(|&epoch| self.chain(epoch).is_ok_and(|chain| chain.gap.is_none()))
    }

    /// What leads to the end of `epoch`, or to the first gap.
    ///
    /// # Errors
    /// [`Error::Conflict`] when two objects have the same records; [`Error::Damaged`] when a note is missing or cannot be used.
    pub(crate) fn chain(&self, epoch: u64) -> Result<Chain> {
        let chain = self.reach(epoch)?;
        match chain.fault() {
            Some(conflict @ Error::Conflict { .. }) => Err(conflict),
            _ => Ok(chain),
        }
    }

    /// As [`Self::chain`], or what comes before two objects that have the same records.
    pub(crate) fn reach(&self, epoch: u64) -> Result<Chain> {
        let (own, note) = self.noted(epoch)?;
        self.check_strays(epoch)?;
        let first = Lsn(note.first_lsn);
        let mut chain = Chain::at(epoch, first);
        let pruned = self.pruned.of(epoch);
        if let Some(parent) = self.parent_of(epoch, note) {
            let before = self.reach(parent.epoch)?;
            chain = before.up_to(parent.number, first, epoch, pruned);
        }
        if chain.fault().is_none() {
            chain.extend(own, pruned);
        }
        Ok(chain)
    }

    /// Whether two segments of `epoch` itself have the same records: an archiver of it must not go on with that, though the epochs before
    /// it may be as they like.
    pub(crate) fn has_conflict(&self, epoch: u64) -> Result<bool> {
        let (own, note) = self.noted(epoch)?;
        let mut chain = Chain::at(epoch, Lsn(note.first_lsn));
        chain.extend(own, self.pruned.of(epoch));
        Ok(chain.conflict.is_some())
    }

    /// Whether a prune has deleted all of `epoch` but its notes, and deletes those as well: a later one has taken its place, and none needs it.
    pub(crate) fn is_spent(&self, epoch: u64) -> bool {
        let Ok((own, note)) = self.noted(epoch) else { return false };
        let is_past = |epoch, note: &EpochNote| note.first_lsn <= self.pruned.of(epoch).0;
        let needs_it = |(&later, other): (&u64, &Epoch)| match &other.note {
            Some(note) => !is_past(later, note) && note.parent.is_some_and(|parent| parent.epoch == epoch),
            // It may continue any earlier one.
            None => true,
        };
        let mut later = self.epochs.range(epoch + 1..);
        let is_left = later.clone().any(|(&later, _)| self.reach(later).is_ok_and(|chain| !chain.pieces.is_empty()));
        own.all_objects().next().is_none() && is_past(epoch, note) && is_left && !later.any(needs_it)
    }

    /// Whether nothing is left of the epoch that the one with this number continues as its note says.
    pub(crate) fn is_cut_off(&self, epoch: u64) -> bool {
        let parent = self.epochs.get(&epoch).and_then(|own| self.parent_of(epoch, own.note.as_ref()?));
        parent.is_some_and(|parent| !self.epochs.contains_key(&parent.epoch))
    }

    /// What is there of `epoch`, whose note cannot be used, and what is wrong with that; an error if it can be.
    pub(crate) fn unnoted(&self, archive: &Archive, epoch: u64) -> Result<(&Epoch, ObjectDamage)> {
        let newest = *self.epochs.keys().next_back().ok_or_else(|| archive.empty())?;
        let prefix = || archive.prefix.to_string();
        let own = self.epochs.get(&epoch).ok_or_else(|| Error::NoEpoch { prefix: prefix(), epoch, newest })?;
        if own.note.is_some() {
            return Err(Error::Noted { epoch });
        }
        Ok((own, own.damage.clone().unwrap_or(ObjectDamage::Missing)))
    }

    /// Epoch `epoch`, and its note; an error if that cannot be used.
    pub(crate) fn noted(&self, epoch: u64) -> Result<(&Epoch, &EpochNote)> {
        let own = self.epochs.get(&epoch);
        if let Some((own, note)) = own.and_then(|own| Some((own, own.note.as_ref()?))) {
            return Ok((own, note));
        }
        let damage = own.and_then(|own| own.damage.clone()).unwrap_or(ObjectDamage::Missing);
        Err(Error::damaged(&epoch_key(&self.prefix, epoch), damage))
    }

    /// Where `epoch`, which cannot be followed, begins, with those that it continues, as far as that is known; `None` if it has no record.
    pub(crate) fn begin_of_lost(&self, epoch: u64) -> Option<Lsn> {
        let own = self.epochs.get(&epoch)?;
        let first = own.segments.iter().chain(&own.parts).map(|object| object.first_lsn).min();
        // Nothing says where an epoch began that is not there.
        let earlier = own.note.as_ref().and_then(|note| self.parent_of(epoch, note));
        let earlier = earlier.map(|parent| self.begin_of_lost(parent.epoch).unwrap_or(Lsn::FIRST));
        first.into_iter().chain(earlier).min()
    }

    /// The history that `epoch` with this note continues, unless all of that may have been pruned, and cannot be followed.
    pub(crate) fn parent_of(&self, epoch: u64, note: &EpochNote) -> Option<Parent> {
        let is_pruned =
            |parent: &Parent| note.first_lsn <= self.pruned.of(epoch).0 && self.noted(parent.epoch).is_err();
        note.parent.filter(|parent| !is_pruned(parent))
    }
}

impl Epoch {
    /// Its segments and parts, but for strays.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &ArchivedSegment> {
        self.segments.iter().chain(&self.parts)
    }

    /// Its segments and parts.
    pub(crate) fn all_objects(&self) -> impl Iterator<Item = &ArchivedSegment> {
        self.objects().chain(self.strays.iter().map(|stray| &stray.object))
    }

    /// Whether there is neither a note nor a record.
    pub(crate) fn is_blank(&self) -> bool {
        let has_note = self.note.is_some() || self.damage.is_some();
        !has_note && self.segments.is_empty() && self.parts.is_empty()
    }

    /// What a restore may need of it.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &ArchivedSegment> {
        self.segments.iter().chain(self.unsealed().flatten())
    }

    /// The parts that no sealed segment supersedes, by segment: of the one that takes appends, and of those whose objects have vanished.
    pub(crate) fn unsealed(&self) -> impl Iterator<Item = &[ArchivedSegment]> {
        let is_sealed = |number| self.segments.iter().any(|segment| segment.number == number);
        self.parts.chunk_by(|a, b| a.number == b.number).filter(move |parts| !is_sealed(parts[0].number))
    }

    /// The parts after all sealed segments.
    pub(crate) fn later_parts(&self) -> impl Iterator<Item = &ArchivedSegment> {
        let last = self.segments.iter().map(|segment| segment.number).max();
        self.parts.iter().filter(move |part| last.is_none_or(|last| part.number > last))
    }
}
