//! Which records an archive lacks: all of them, and not only the first ones.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Range, RangeBounds};

use mapwal::Lsn;

use crate::epoch::lsn_range;
use crate::error::Result;
use crate::history::History;
use crate::object::{ArchivedSegment, key_from};

/// Records that no object has, though some have what comes after them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingRecords {
    /// The epoch that lacks them.
    pub epoch: u64,
    /// The records. It is empty where only the end of a segment is missing, which has no record.
    pub lsns: Range<Lsn>,
    /// How the key of the first object begins that had them; `None` where nothing says where in an object they began, such as after a prune.
    pub key: Option<String>,
    /// Why what the log has of them cannot be uploaded again; `None` if it has them no more, or they are of an
    /// earlier epoch: those are uploaded by no archiver of this one.
    pub log_fault: Option<String>,
}

impl fmt::Display for MissingRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref().map_or(String::new(), |key| format!(" ({key}*)"));
        write!(f, "{}, ", told(&self.lsns, &format!(" of epoch {}{key}", self.epoch)))?;
        match &self.log_fault {
            Some(fault) => write!(f, "and damaged in the log: {fault}"),
            None => {
                f.write_str("and cannot be uploaded again: the log has them no more, or they are of an earlier epoch")
            }
        }
    }
}

/// What an object has, or a place that something has to lead to.
#[derive(Debug)]
struct Span {
    /// What lacks the records right before it, if they are missing.
    epoch: u64,
    number: u64,
    lsns: Range<Lsn>,
    is_part: bool,
    /// Whether it is a part of a segment whose end is not there.
    is_open: bool,
}

/// That records are missing, from one up to but without another, `of` something; or that bytes are without a record.
pub(crate) fn told(&Range { start, end }: &Range<Lsn>, of: &str) -> String {
    if start < end {
        format!("records {start}..{}{of} are missing", end.0 - 1)
    } else {
        format!("the end of the segment with record {}{of}, which has no record, is missing", start.0.saturating_sub(1))
    }
}

impl History {
    /// All gaps on the way to the end of `epoch`, or to record `end` if that is a later one, in the log's order; without those of epochs
    /// before it that cannot be followed.
    pub(crate) fn missing(&self, epoch: u64, end: Lsn) -> Result<Vec<MissingRecords>> {
        let mut spans = self.spans(epoch)?;
        spans.push(Span { epoch, number: u64::MAX, lsns: end..end, is_part: false, is_open: false });
        let kept = spans.iter().find(|span| !span.lsns.is_empty()).unwrap_or(&spans[0]);
        let is_pruned = kept.lsns.start <= self.pruned.of(kept.epoch);
        let mut next = if is_pruned { kept.lsns.start } else { spans[0].lsns.start.max(self.pruned_on_the_way(epoch)) };
        let (mut missing, mut open) = (Vec::new(), None);
        // The first record of what comes next, where that is known: not after a mark, nor a part, which others may follow, or the whole segment.
        let mut begin = Some(next).filter(|&next| next == spans[0].lsns.start);
        for Span { epoch, number, lsns, is_part, is_open } in spans {
            let has_end = open.is_none_or(|(open, _)| open == number) || number == u64::MAX;
            if lsns.start > next || lsns.start == next && !has_end {
                // The whole of the segment that the parts before are of, since another one came after it.
                let whole = open.filter(|&(open, _)| open != number).map(|(_, first)| first);
                let key = whole.or(begin).map(|first| key_from(&self.prefix, epoch, first));
                missing.push(MissingRecords { epoch, lsns: next..lsns.start, key, log_fault: None });
            }
            if lsns.end >= next {
                begin = Some(lsns.end).filter(|_| !is_part);
                let first = open.filter(|&(open, _)| open == number).map_or(lsns.start, |(_, first)| first);
                open = is_open.then_some((number, first));
            }
            next = next.max(lsns.end);
        }
        Ok(missing)
    }

    /// The records before epochs that no epoch leads to: they were trimmed before they were archived, or have vanished with their epoch.
    /// With each the epoch that begins after them; until a prune gives them up.
    pub(crate) fn lost(&self) -> Vec<(u64, Range<Lsn>)> {
        self.epochs.keys().filter_map(|&epoch| Some((epoch, self.lost_before(epoch)?))).collect()
    }

    /// As [`Self::lost`], before `epoch` itself.
    pub(crate) fn lost_before(&self, epoch: u64) -> Option<Range<Lsn>> {
        self.ever_lost_before(epoch).filter(|lsns| lsns.end > self.pruned.of(epoch))
    }

    /// As [`Self::lost_before`], also what a prune has given up.
    pub(crate) fn ever_lost_before(&self, epoch: u64) -> Option<Range<Lsn>> {
        let (_, note) = self.noted(epoch).ok()?;
        let noted = lsn_range(note.lost)?;
        if noted.end <= self.pruned.of(epoch) {
            return Some(noted);
        }
        // What earlier epochs have may have vanished since, or be back.
        match self.end_before(..epoch, noted.end, noted.start) {
            Some(from) => self.not_pruned(from..noted.end),
            None => Some(noted),
        }
    }

    /// As [`Self::lost`], before the first record that `epoch` leads to.
    pub(crate) fn lost_on_the_way(&self, epoch: u64) -> Option<Range<Lsn>> {
        self.line(epoch).into_keys().find_map(|epoch| self.lost_before(epoch))
    }

    /// The records before `next`, where an epoch without a parent begins, that none of `epochs` leads to: after the end of the newest history of
    /// the log that can be followed, or from where later ones begin that cannot be; or else all that there were.
    pub(crate) fn lost_between(
        &self,
        epochs: impl RangeBounds<u64>,
        next: Lsn,
        abandoned: Option<u64>,
    ) -> Option<Range<Lsn>> {
        // An epoch that is not there at all says that there were records.
        let from = self.end_before(epochs, next, Lsn(0)).filter(|&from| from < next);
        let from = from.or_else(|| abandoned.map(|_| Lsn::FIRST))?;
        self.not_pruned(from..next)
    }

    /// Where what `epochs` lead to before `next` ends, if they have anything: as in [`Self::lost_between`]. All before `known` was there
    /// once, so that gaps before it are those of the epochs.
    fn end_before(&self, epochs: impl RangeBounds<u64>, next: Lsn, known: Lsn) -> Option<Lsn> {
        let mut from = None;
        for (&epoch, _) in self.epochs.range(epochs).rev() {
            match self.reach(epoch) {
                Ok(chain) if chain.pieces.is_empty() || chain.lsns.start >= next => {}
                Ok(chain) => {
                    let spans = self.spans(epoch).unwrap_or_default();
                    let last = spans.into_iter().map(|span| span.lsns.end).max().unwrap_or_default();
                    let end = chain.lsns.end.max(known.min(last));
                    return from.into_iter().chain([end]).min();
                }
                Err(_) => from = from.into_iter().chain(self.begin_of_lost(epoch)).min(),
            }
        }
        from
    }

    fn not_pruned(&self, lsns: Range<Lsn>) -> Option<Range<Lsn>> {
        let from = lsns.start.max(self.pruned.latest());
        (from < lsns.end).then_some(from..lsns.end)
    }

    /// `epoch` and those that it continues, each with the number after the last record that counts of it.
    pub(crate) fn line(&self, epoch: u64) -> BTreeMap<u64, Lsn> {
        let mut line = BTreeMap::from([(epoch, Lsn(u64::MAX))]);
        let (mut at, mut limit) = (epoch, Lsn(u64::MAX));
        while let Ok((_, note)) = self.noted(at)
            && let Some(parent) = self.parent_of(at, note)
        {
            (at, limit) = (parent.epoch, limit.min(Lsn(note.first_lsn)));
            line.insert(at, limit);
        }
        line
    }

    /// The records that `epoch` continues of one before it that cannot be followed: nothing says which of them are there.
    pub(crate) fn unknown(&self, epoch: u64) -> Option<Range<Lsn>> {
        let (root, limit) = self.line(epoch).pop_first()?;
        self.noted(root).is_err().then(|| self.pruned_on_the_way(epoch)..limit)
    }

    /// Records before it may have been pruned of what leads to the end of `epoch`, as far as no later one that a mark does not cover builds on
    /// them.
    fn pruned_on_the_way(&self, epoch: u64) -> Lsn {
        let marks = self.line(epoch).into_iter().map(|(at, limit)| (self.pruned.of(at), limit));
        marks.filter(|(pruned, limit)| pruned < limit).map(|(pruned, _)| pruned).max().unwrap_or_default()
    }

    /// What other epochs have that `epoch` does not lead to: earlier records, or those of another history, each with its epoch.
    pub(crate) fn beside(&self, epoch: u64) -> Vec<(u64, Range<Lsn>)> {
        let line = self.line(epoch);
        let others = self.epochs.keys().filter(|&&other| other != epoch).filter_map(|&other| {
            let lsns = self.reach(other).ok()?.lsns;
            let shared = self.line(other).into_iter().filter_map(|(at, limit)| Some(limit.min(*line.get(&at)?)));
            let first = shared.max().map_or(lsns.start, |shared| lsns.start.max(shared));
            Some((other, first..lsns.end))
        });
        others.filter(|(_, lsns)| !lsns.is_empty()).collect()
    }

    /// Whether some of `lsns`, which another epoch has, come before the first record that `epoch` ever led to, and were not pruned.
    pub(crate) fn is_earlier(&self, lsns: &Range<Lsn>, epoch: u64) -> bool {
        let root = self.line(epoch).into_keys().next().unwrap_or(epoch);
        let begin = self.noted(root).map_or(Lsn(0), |(_, note)| Lsn(note.first_lsn));
        lsns.start.max(self.pruned.of(epoch)) < lsns.end.min(begin)
    }

    /// The newest of the epochs beside `epoch` that lead to record `lsn`.
    pub(crate) fn other_with(&self, lsn: Lsn, epoch: u64) -> Option<u64> {
        let has_it = |&other: &u64| other != epoch && self.reach(other).is_ok_and(|chain| chain.lsns.contains(&lsn));
        self.epochs.keys().rev().copied().find(has_it)
    }

    /// What leads to the end of `epoch`: its beginning, and what it and the epochs before it have.
    fn spans(&self, epoch: u64) -> Result<Vec<Span>> {
        let (own, note) = self.noted(epoch)?;
        let begin = Lsn(note.first_lsn);
        let mut spans = Vec::new();
        let mut before = epoch;
        // What cannot be followed may have everything.
        if let Some((parent, earlier)) =
            self.parent_of(epoch, note).and_then(|at| Some((at, self.spans(at.epoch).ok()?)))
        {
            (before, spans) = (parent.epoch, earlier);
            spans.retain(|span| span.number <= parent.number && span.lsns.start < begin);
            for span in &mut spans {
                span.lsns.end = span.lsns.end.min(begin);
                // The epoch begins where that one ends, wherever that is.
                span.is_open &= span.number < parent.number;
            }
        }
        spans.push(Span { epoch: before, number: 0, lsns: begin..begin, is_part: false, is_open: false });
        let pruned = self.pruned.of(epoch);
        // A prune that was killed may have left parts.
        let is_left = |object: &ArchivedSegment| object.part.is_some() && object.next_lsn <= pruned;
        let mut objects: Vec<_> = own.needed().filter(|object| !is_left(object)).collect();
        objects.sort_by_key(|object| (object.first_lsn, object.number));
        spans.extend(objects.into_iter().map(|object| {
            let (number, lsns) = (object.number, object.first_lsn..object.next_lsn);
            let is_part = object.part.is_some();
            Span { epoch, number, lsns, is_part, is_open: is_part }
        }));
        Ok(spans)
    }
}
