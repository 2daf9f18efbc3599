//! What an archive holds, for people.

use std::ops::Range;

use mapwal::Lsn;

use crate::error::Error;
use crate::faults::listed_faults;
use crate::history::{Epoch, History};
use crate::object::ArchivedSegment;
use crate::verify::EpochFault;

/// What an archive holds.
#[derive(Debug)]
#[non_exhaustive]
pub struct Listing {
    /// The identity of the log.
    pub log_id: Option<u128>,
    /// By number: the newest is last.
    pub epochs: Vec<EpochListing>,
    /// Records before it may have been pruned, of epochs that were there then; 0 if none were.
    pub pruned_before: Lsn,
    /// All that keeps epochs from being restored to their ends, as far as keys, lengths and notes show it.
    pub faults: Vec<EpochFault>,
}

/// One history of the log. The next one begins after a restore, a truncation or a reset, or when records were lost.
#[derive(Debug)]
#[non_exhaustive]
pub struct EpochListing {
    /// Its number.
    pub epoch: u64,
    /// The epoch that it continues.
    pub parent: Option<u64>,
    /// The first record of its own; earlier ones are its parent's.
    pub begins_at: Lsn,
    /// When it was begun, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Records before it that no epoch leads to: they were trimmed before they were archived, or have vanished with their epoch. Also
    /// those that a prune has given up; not those that an earlier epoch has again.
    pub lost: Option<Range<Lsn>>,
    /// The first record that can be restored.
    pub first_lsn: Lsn,
    /// The number after the last that can be.
    pub next_lsn: Lsn,
    /// Its own segments.
    pub segments: Vec<ArchivedSegment>,
    /// Parts of its own segments.
    pub parts: Vec<ArchivedSegment>,
    /// Segments of which there are parts that a restore leaves out, since a sealed segment or other parts have the same records. A verification
    /// compares them.
    pub overlaps: u64,
    /// What keeps it from being restored to its end: the first gap, a conflict, an object that does not have its length, a note that is missing
    /// or damaged.
    pub fault: Option<Error>,
}

impl Listing {
    pub(crate) fn of(history: &History) -> Self {
        let epochs = history.epochs.iter().map(|(&number, epoch)| EpochListing::of(history, number, epoch)).collect();
        Self {
            log_id: history.log_id(),
            epochs,
            pruned_before: history.pruned.latest(),
            faults: listed_faults(history),
        }
    }

    /// Bytes of all segments and parts.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        let objects = self.epochs.iter().flat_map(|epoch| epoch.segments.iter().chain(&epoch.parts));
        objects.map(|object| object.len_bytes).sum()
    }
}

impl EpochListing {
    fn of(history: &History, number: u64, epoch: &Epoch) -> Self {
        let note = epoch.note.as_ref();
        let begins_at = note.map_or(Lsn(0), |note| Lsn(note.first_lsn));
        let (lsns, fault) = match history.reach(number) {
            Ok(chain) => match chain.damage() {
                Some((object, damage)) => {
                    let end = object.first_lsn.max(chain.lsns.start);
                    (chain.lsns.start..end, Some(Error::damaged(&object.key, damage)))
                }
                None => (chain.lsns.clone(), chain.fault()),
            },
            Err(error) => (begins_at..begins_at, Some(error)),
        };
        let (segments, parts) = epoch.all_objects().cloned().partition(|object| object.part.is_none());
        Self {
            epoch: number,
            parent: note.and_then(|note| note.parent).map(|parent| parent.epoch),
            begins_at,
            created_unix_ms: note.map_or(0, |note| note.created_unix_ms),
            lost: history.ever_lost_before(number),
            first_lsn: lsns.start,
            next_lsn: lsns.end,
            segments,
            parts,
            overlaps: epoch.overlaps().len() as u64,
            fault,
        }
    }
}
