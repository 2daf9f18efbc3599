//! Objects that lie in an epoch and come before its beginning, such as one that was copied there from the epoch that it continues.

use object_store::path::Path;

use crate::error::{Error, ObjectDamage, Result};
use crate::history::{Epoch, History};
use crate::object::ArchivedSegment;

/// An object from before the beginning of its epoch.
#[derive(Debug)]
pub(crate) struct Stray {
    pub(crate) object: ArchivedSegment,
    /// The same one of an epoch that this one continues: the key has the length and the checksum.
    pub(crate) original: Option<Path>,
}

impl History {
    /// Sets the strays of each epoch aside.
    pub(crate) fn sort_out_all(&mut self) {
        // A parent's come first: what is not needed of it is no original.
        for epoch in self.epochs.keys().copied().collect::<Vec<_>>() {
            self.sort_out(epoch);
        }
    }

    /// Sets the strays of `epoch` aside, as its note says which those are.
    pub(crate) fn sort_out(&mut self, epoch: u64) {
        let line = self.line(epoch);
        let Some(own) = self.epochs.get_mut(&epoch) else { return };
        let mut all: Vec<_> = own.segments.drain(..).chain(own.parts.drain(..)).collect();
        all.extend(own.strays.drain(..).map(|stray| stray.object));
        let note = own.note.clone();
        let is_early = |object: &ArchivedSegment| {
            let is_of_parent = |parent: crate::epoch::Parent| object.number <= parent.number;
            note.as_ref()
                .is_some_and(|note| object.first_lsn.0 < note.first_lsn || note.parent.is_some_and(is_of_parent))
        };
        let (early, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(is_early);
        (own.segments, own.parts) = kept.into_iter().partition(|object| object.part.is_none());
        own.segments.sort_by_key(ArchivedSegment::order);
        own.parts.sort_by_key(|part| (part.number, part.part));
        let mut strays = Vec::new();
        for object in early {
            let earlier = line.keys().filter(|&&at| at < epoch).filter_map(|at| self.epochs.get(at));
            let mut same =
                earlier.flat_map(Epoch::objects).filter(|other| other.key.filename() == object.key.filename());
            let original = same.next().map(|other| other.key.clone());
            strays.push(Stray { object, original });
        }
        self.epochs.entry(epoch).or_default().strays = strays;
    }

    /// The strays of `epoch`: those that the epochs before it do not have, and that no prune has deleted there, may be the only ones.
    pub(crate) fn lone_strays(&self, epoch: u64) -> impl Iterator<Item = (&ArchivedSegment, ObjectDamage)> {
        let pruned = self.pruned.of(epoch);
        let own = self.epochs.get(&epoch).and_then(|own| Some((own, own.note.as_ref()?.first_lsn)));
        own.into_iter().flat_map(move |(own, first)| {
            let is_lone = move |stray: &&Stray| stray.original.is_none() && stray.object.next_lsn > pruned;
            own.strays.iter().filter(is_lone).map(move |stray| (&stray.object, ObjectDamage::Early { first }))
        })
    }

    /// An error if `epoch` has an object that may belong to another one, or says that its note is wrong.
    pub(crate) fn check_strays(&self, epoch: u64) -> Result<()> {
        let first = self.lone_strays(epoch).next();
        first.map_or(Ok(()), |(object, damage)| Err(Error::damaged(&object.key, damage)))
    }
}
