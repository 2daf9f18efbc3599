//! Which records an archive lacks: all of them, and not only the first ones.

use std::ops::Range;

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
    /// The records.
    pub lsns: Range<Lsn>,
    /// How the key of the first object begins that had them.
    pub key: String,
}

/// What an object has, or a place that something has to lead to.
#[derive(Debug)]
struct Span {
    /// What lacks the records right before it, if they are missing.
    epoch: u64,
    number: u64,
    lsns: Range<Lsn>,
}

impl History {
    /// All gaps on the way to the end of `epoch`, or to record `end` if that is a later one, in the log's order; without those of epochs
    /// before it that cannot be followed.
    pub(crate) fn missing(&self, epoch: u64, end: Lsn) -> Result<Vec<MissingRecords>> {
        let mut spans = self.spans(epoch)?;
        spans.push(Span { epoch, number: u64::MAX, lsns: end..end });
        let first = spans[0].lsns.start;
        let kept = spans.iter().find(|span| !span.lsns.is_empty()).map_or(first, |span| span.lsns.start);
        let mut next = if kept <= self.pruned { kept } else { first.max(self.pruned) };
        let mut missing = Vec::new();
        for Span { epoch, lsns, .. } in spans {
            if lsns.start > next {
                let key = key_from(&self.prefix, epoch, next);
                missing.push(MissingRecords { epoch, lsns: next..lsns.start, key });
            }
            next = next.max(lsns.end);
        }
        Ok(missing)
    }

    /// The records between epochs that were trimmed before they were archived, and the epoch that begins after them; only while the archive has
    /// something before them.
    pub(crate) fn lost(&self) -> Vec<(u64, Range<Lsn>)> {
        let noted = self.epochs.iter().filter_map(|(&epoch, own)| Some((epoch, lsn_range(own.note.as_ref()?.lost)?)));
        let is_between = |(epoch, lsns): &(u64, Range<Lsn>)| {
            self.objects().any(|object| object.epoch < *epoch && object.first_lsn < lsns.start)
        };
        noted.filter(is_between).collect()
    }

    /// What leads to the end of `epoch`: its beginning, and what it and the epochs before it have.
    fn spans(&self, epoch: u64) -> Result<Vec<Span>> {
        let (own, note) = self.noted(epoch)?;
        let begin = Lsn(note.first_lsn);
        let mut spans = Vec::new();
        let mut before = epoch;
        // What cannot be followed may have everything.
        if let Some((parent, earlier)) = self.parent_of(note).and_then(|at| Some((at, self.spans(at.epoch).ok()?))) {
            (before, spans) = (parent.epoch, earlier);
            spans.retain(|span| span.number <= parent.number && span.lsns.start < begin);
            for span in &mut spans {
                span.lsns.end = span.lsns.end.min(begin);
            }
        }
        spans.push(Span { epoch: before, number: 0, lsns: begin..begin });
        let span = |object: &ArchivedSegment| {
            let (number, lsns) = (object.number, object.first_lsn..object.next_lsn);
            Span { epoch, number, lsns }
        };
        spans.extend(own.segments.iter().chain(own.later_parts()).map(span));
        Ok(spans)
    }
}
