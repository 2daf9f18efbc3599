//! Which prunes are refused: those that would pass over what is missing or damaged as if it had been pruned.

use mapwal::Lsn;

use super::{PruneGaps, PruneLimits};
use crate::archive::Archive;
use crate::conflict::{Claims, judge};
use crate::error::Error;
use crate::gaps::MissingRecords;
use crate::history::History;
use crate::object::ArchivedSegment;

/// The archive that is to be pruned: its newest epoch, and the first record of the last segment of that, which stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) history: &'a History,
    pub(super) newest: u64,
    pub(super) last: Lsn,
}

/// Why it deletes nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    error: Error,
    /// The first record that cannot be restored.
    from: Lsn,
    /// A prune before this record, or a later one, can give it up. `None` if none can, since it is the last that there is.
    to: Option<Lsn>,
}

/// Two objects of an epoch that have the same records.
struct Conflict {
    error: Error,
    from: Lsn,
    to: Lsn,
    /// Whether nothing of the epoch comes before them.
    is_first: bool,
    /// Whether one of them is of the last segment.
    is_last: bool,
}

impl Refusal {
    /// The error, with what is found when objects that have the same records are read.
    pub(super) async fn explained(self, archive: &Archive, history: &History) -> Error {
        let from = self.from;
        match judge(archive, history, self.error).await {
            Error::Damaged { key, damage, offset, lsn: _ } => Error::Damaged { key, damage, offset, lsn: Some(from) },
            error => error,
        }
    }
}

impl Asked<'_> {
    pub(super) fn check(&self, before: Lsn, gaps: PruneGaps) -> Result<(), Box<Refusal>> {
        self.check_end(before)?;
        let before = before.min(self.last);
        self.check_conflict(before, gaps)?;
        self.check_gaps(before, gaps)?;
        self.check_damage(before, gaps)
    }

    /// What is accepted instead of a prune before record `before`.
    pub(super) fn limits(&self, before: Lsn) -> PruneLimits {
        let Err(refusal) = self.check(before, PruneGaps::Refuse) else { return PruneLimits::default() };
        // Also what an epoch has that the newest does not continue, such as before records that are in none.
        let chains = self.history.epochs.keys().filter_map(|&epoch| self.history.reach(epoch).ok());
        let begins = chains.filter(|chain| !chain.pieces.is_empty()).map(|chain| chain.lsns.start);
        let begin = begins.min().unwrap_or(Lsn::FIRST);
        let (mut keeps, mut gives_up) = (Lsn(refusal.from.0.saturating_sub(1)), refusal.to);
        while let Err(refusal) = self.check(keeps, PruneGaps::Refuse) {
            keeps = Lsn(refusal.from.0.saturating_sub(1)).min(Lsn(keeps.0.saturating_sub(1)));
        }
        while let Some(least) = gives_up
            && let Err(refusal) = self.check(least, PruneGaps::GiveUp)
        {
            gives_up = refusal.to.filter(|&to| to > least);
        }
        PruneLimits { keeps: (keeps >= begin).then_some(keeps), gives_up }
    }

    /// Whether a prune takes `epoch` as one that can be followed: its note can be used, and what two of its objects have alike is kept, or
    /// given up.
    pub(super) fn is_followed(&self, epoch: u64, before: Lsn, gaps: PruneGaps) -> bool {
        let passes = |conflict: Conflict| conflict.is_passed(before, gaps);
        self.history.reach(epoch).is_ok() && self.conflict(epoch).is_none_or(passes)
    }

    /// An error if the newest epoch ends before that: a prune before a record that is not there keeps nothing that was asked for.
    fn check_end(&self, before: Lsn) -> Result<(), Box<Refusal>> {
        let Self { history, newest, .. } = *self;
        let Ok(chain) = history.reach(newest) else { return Ok(()) };
        let mut kept = chain.lsns;
        // Also what comes after a gap.
        let last = history.needed(newest).into_iter().map(|object| object.next_lsn).max();
        kept.end = kept.end.max(last.unwrap_or_default());
        if before <= kept.end {
            return Ok(());
        }
        let (from, other) = (kept.end.next(), history.other_with(before, newest));
        let error = Error::NotArchived { lsn: before, epoch: newest, kept, other };
        Err(Box::new(Refusal { error, from, to: None }))
    }

    /// The first two objects on the way to the end of `epoch` that have the same records.
    fn conflict(&self, epoch: u64) -> Option<Conflict> {
        let chain = self.history.reach(epoch).ok()?;
        let (key, other, lsn) = chain.conflict?;
        let both = || self.history.objects().filter(|object| [&*key, &*other].contains(&object.key.as_ref()));
        let last = self.history.epochs.get(&self.newest).and_then(|newest| newest.segments.last());
        let is_last =
            both().any(|object| last.is_some_and(|last| (last.epoch, last.number) == (object.epoch, object.number)));
        let to = both().map(|object| object.next_lsn).max().unwrap_or(lsn);
        let (from, is_first) = (chain.lsns.end, chain.pieces.is_empty());
        let error = Error::Conflict { key, other, lsn, claims: Claims::default() };
        Some(Conflict { error, from, to, is_first, is_last })
    }

    /// An error if two objects of the newest epoch have the same records, and that would be passed over.
    fn check_conflict(&self, before: Lsn, gaps: PruneGaps) -> Result<(), Box<Refusal>> {
        match self.conflict(self.newest) {
            Some(conflict) if !conflict.is_passed(before, gaps) => {
                let Conflict { error, from, to, is_last, .. } = conflict;
                Err(Box::new(Refusal { error, from, to: (!is_last).then_some(to) }))
            }
            _ => Ok(()),
        }
    }

    /// An error if a gap would be passed over as if its records had been pruned.
    fn check_gaps(&self, before: Lsn, gaps: PruneGaps) -> Result<(), Box<Refusal>> {
        let history = self.history;
        let refused = |epoch, lsns: std::ops::Range<Lsn>| {
            let (from, to) = (lsns.start, Some(lsns.end));
            Err(Box::new(Refusal { error: Error::Gap { epoch, missing: lsns }, from, to }))
        };
        for &epoch in history.epochs.keys().filter(|&&epoch| self.is_followed(epoch, before, gaps)) {
            let (Ok(chain), Ok(missing)) = (history.reach(epoch), history.missing(epoch, Lsn(0))) else { continue };
            for MissingRecords { epoch, lsns, .. } in missing {
                // Something before the gap is kept, if there is anything.
                let is_kept = before < lsns.start || before == lsns.start && chain.pieces.is_empty();
                let is_given_up = gaps == PruneGaps::GiveUp && before >= lsns.end;
                if !is_kept && !is_given_up {
                    return refused(epoch, lsns);
                }
            }
        }
        // Between epochs: what is before them is of no use to the later ones, and would be deleted as a whole.
        for (epoch, lsns) in history.lost() {
            let is_given_up = gaps == PruneGaps::GiveUp && before >= lsns.end;
            if before >= lsns.start && !is_given_up {
                return refused(epoch, lsns);
            }
        }
        Ok(())
    }

    /// As [`Self::check_gaps`], of objects that the list shows to be damaged: what is before one may be all that can be restored.
    fn check_damage(&self, before: Lsn, gaps: PruneGaps) -> Result<(), Box<Refusal>> {
        let Self { history, newest, .. } = *self;
        // It stays in any case, so that what is after it alone cannot be restored.
        let last = history.epochs.get(&newest).and_then(|newest| newest.segments.last()).map(|segment| &segment.key);
        for &epoch in history.epochs.keys().filter(|&&epoch| self.is_followed(epoch, before, gaps)) {
            let Ok(chain) = history.reach(epoch) else { continue };
            let needed = history.needed(epoch);
            for object in needed.iter().filter(|object| object.next_lsn > history.pruned.of(object.epoch)) {
                let Some(damage) = object.damage() else { continue };
                // A restore reads a segment from its beginning.
                let is_of_it = |other: &&&ArchivedSegment| (other.epoch, other.number) == (object.epoch, object.number);
                let first = needed.iter().filter(is_of_it).map(|other| other.first_lsn).min();
                let first = first.unwrap_or(object.first_lsn);
                let is_kept = before < first || before < object.next_lsn && first <= chain.lsns.start;
                let is_last = last == Some(&object.key);
                let is_given_up = gaps == PruneGaps::GiveUp && before >= object.next_lsn && !is_last;
                if !is_kept && !is_given_up {
                    let (key, to) = (object.key.to_string(), (!is_last).then_some(object.next_lsn));
                    let error = Error::Damaged { key, damage, offset: None, lsn: Some(first) };
                    return Err(Box::new(Refusal { error, from: first, to }));
                }
            }
        }
        Ok(())
    }
}

impl Conflict {
    /// Whether it is kept, with something before it, if there is anything; or given up.
    fn is_passed(&self, before: Lsn, gaps: PruneGaps) -> bool {
        let is_kept = before < self.from || before == self.from && self.is_first;
        is_kept || gaps == PruneGaps::GiveUp && before >= self.to && !self.is_last
    }
}
