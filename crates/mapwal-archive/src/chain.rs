//! The segments of an archive that follow each other, up to the first gap.

use std::collections::BTreeMap;
use std::ops::Range;

use mapwal::{Lsn, SegmentTip};

use crate::conflict::Claims;
use crate::error::{Error, ObjectDamage};
use crate::history::Epoch;
use crate::object::ArchivedSegment;

/// Segments that follow each other.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) epoch: u64,
    pub(crate) pieces: Vec<Piece>,
    /// The first record, and the number after the last.
    pub(crate) lsns: Range<Lsn>,
    /// What is missing after that, if something comes later: no record, where only bytes without one are.
    pub(crate) gap: Option<Range<Lsn>>,
    /// The objects after that which have the same records, and the first of those.
    pub(crate) conflict: Option<(String, String, Lsn)>,
}

/// A segment in the archive.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) number: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) next_lsn: Lsn,
    /// One, or parts in a row.
    pub(crate) objects: Vec<ArchivedSegment>,
}

impl Piece {
    fn of(objects: Vec<ArchivedSegment>) -> Option<Self> {
        let (first, last) = (objects.first()?, objects.last()?);
        Some(Self { number: first.number, first_lsn: first.first_lsn, next_lsn: last.next_lsn, objects })
    }

    /// What is wrong with the segment after this one, which names `predecessor` as the one before, if it is not this one: up to its end, or to where a later
    /// history leaves it.
    pub(crate) fn fault_of_next(&self, predecessor: Option<SegmentTip>) -> Option<ObjectDamage> {
        let is_it = |tip: &SegmentTip| tip.number == self.number && tip.end_bytes <= self.len_bytes();
        if predecessor.as_ref().is_some_and(is_it) {
            return None;
        }
        let names = predecessor.map_or((0, 0), |tip| (tip.number, tip.end_bytes));
        Some(ObjectDamage::Link { names, found: (self.number, self.len_bytes()) })
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.len_bytes).sum()
    }
}

impl Chain {
    pub(crate) fn at(epoch: u64, first: Lsn) -> Self {
        Self { epoch, pieces: Vec::new(), lsns: first..first, gap: None, conflict: None }
    }

    /// The first object that is damaged as a list shows it, and how.
    pub(crate) fn damage(&self) -> Option<(&ArchivedSegment, ObjectDamage)> {
        let mut objects = self.pieces.iter().flat_map(|piece| &piece.objects);
        objects.find_map(|object| Some((object, object.damage()?)))
    }

    /// Why it ends before the epoch does: [`Error::Gap`] or [`Error::Conflict`].
    pub(crate) fn fault(&self) -> Option<Error> {
        let conflict = self.conflict.clone().map(|(key, other, lsn)| Error::Conflict {
            key,
            other,
            lsn,
            claims: Claims::default(),
        });
        conflict.or_else(|| Some(Error::Gap { epoch: self.epoch, missing: self.gap.clone()? }))
    }

    /// The same up to segment `number`, after which the history goes on elsewhere with record `next`.
    pub(crate) fn up_to(mut self, number: u64, next: Lsn, epoch: u64, pruned: Lsn) -> Self {
        let has_more = self.pieces.last().is_some_and(|last| last.number >= number);
        self.pieces.retain(|piece| piece.number <= number);
        let reached = self.pieces.last().map_or(self.lsns.start, |last| last.next_lsn);
        if self.pieces.is_empty() && next <= pruned {
            return Self::at(epoch, next);
        }
        self.conflict = self.conflict.filter(|_| !has_more);
        self.gap = self.gap.filter(|_| !has_more).or_else(|| (reached < next).then_some(reached..next));
        if self.fault().is_none() {
            (self.epoch, self.lsns.end) = (epoch, next);
        }
        self
    }

    pub(crate) fn extend(&mut self, own: &Epoch, pruned: Lsn) {
        let mut unsealed = own.unsealed().peekable();
        for segment in &own.segments {
            let len = self.pieces.len();
            while let Some(parts) = unsealed.next_if(|parts| parts[0].number < segment.number) {
                // A prune that was killed may have left them.
                let is_left = parts.iter().all(|part| part.next_lsn <= pruned);
                if !is_left || !self.pieces.is_empty() {
                    self.extend_by_parts(parts, pruned);
                }
            }
            // They lack the segment's end at least.
            let is_open = self.pieces.len() > len;
            let (first, next) = (segment.first_lsn, self.lsns.end);
            let last = self.pieces.last().filter(|last| last.number >= segment.number || first < next);
            if let Some(last) = last {
                let other = last.objects.last().map_or(String::new(), |object| object.key.to_string());
                self.conflict = Some((segment.key.to_string(), other, first));
                // Either may be the one that does not belong here.
                self.lsns.end = last.first_lsn;
                self.pieces.pop();
                return;
            }
            if first > next && self.pieces.is_empty() && first <= pruned {
                self.lsns = first..first;
            } else if first != next || is_open {
                if self.pieces.is_empty() {
                    let from = next.max(pruned);
                    self.lsns = from..from;
                }
                self.gap = Some(self.lsns.end..first);
                return;
            }
            self.push(vec![segment.clone()]);
        }
        let Some(parts) = unsealed.next() else { return };
        self.extend_by_parts(parts, pruned);
        let end = self.lsns.end;
        let beyond = parts.iter().chain(unsealed.flatten()).filter(|part| part.next_lsn > end);
        self.gap = beyond.map(|part| part.first_lsn).min().map(|first| end..first.max(end));
    }

    /// Adds what `parts`, which are of one segment, have in a row.
    fn extend_by_parts(&mut self, parts: &[ArchivedSegment], pruned: Lsn) {
        let first = parts.iter().find(|part| part.part == Some(0)).map_or(self.lsns.end, |part| part.first_lsn);
        if self.pieces.is_empty() && first > self.lsns.end && first <= pruned {
            self.lsns = first..first;
        }
        self.push(longest(&parts.iter().collect::<Vec<_>>(), self.lsns.end));
    }

    fn push(&mut self, objects: Vec<ArchivedSegment>) {
        if let Some(piece) = Piece::of(objects) {
            self.lsns.end = piece.next_lsn;
            self.pieces.push(piece);
        }
    }
}

/// Those of `parts`, which are of one segment, in order of their offsets, that lead farthest from its beginning at `first`.
pub(crate) fn longest(parts: &[&ArchivedSegment], first: Lsn) -> Vec<ArchivedSegment> {
    let mut led_to: BTreeMap<(u64, Lsn), Option<usize>> = BTreeMap::from([((0, first), None)]);
    for (at, part) in parts.iter().enumerate() {
        if led_to.contains_key(&(part.part.unwrap_or(0), part.first_lsn)) {
            led_to.entry((part.end(), part.next_lsn)).or_insert(Some(at));
        }
    }
    let mut place = *led_to.keys().next_back().expect("the beginning");
    let mut chosen = Vec::new();
    while let Some(Some(at)) = led_to.get(&place) {
        chosen.push(parts[*at].clone());
        place = (parts[*at].part.unwrap_or(0), parts[*at].first_lsn);
    }
    chosen.reverse();
    chosen
}
