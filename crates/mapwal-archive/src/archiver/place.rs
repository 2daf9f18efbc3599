//! Where a log goes on in an epoch.

use mapwal::inspect::SegmentCheck;
use mapwal::{Lsn, SegmentTip};

use super::Archiver;
use super::session::{Found, Parts, Place};
use super::source::{Local, LocalLog, blocking};
use crate::chain::{Piece, longest};
use crate::error::{Error, Result};
use crate::history::{Epoch, History};
use crate::object::ArchivedSegment;
use crate::tips::tip_of;

impl Archiver {
    /// Where the log goes on in `epoch`, in which all before record `pinned` was confirmed; `None` if it has another history.
    pub(super) async fn place_in(
        &self,
        history: &History,
        epoch: u64,
        local: &LocalLog,
        pinned: Lsn,
    ) -> Result<Option<Found>> {
        // It may have been deleted meanwhile.
        let (own, _) = history.noted(epoch)?;
        if history.has_conflict(epoch)? {
            // Those of another log are among them: an epoch of its own has what this one has.
            return Ok(None);
        }
        let mut later = Vec::new();
        let (mut place, mut damage, mut damaged) = (None, None, Vec::new());
        for segment in own.segments.iter().rev() {
            let piece = piece_of(segment);
            match self.place_after(&piece, segment.next_lsn, local).await {
                Err(error @ Error::Damaged { .. }) => {
                    damaged.push(segment.clone());
                    damage = damage.or(Some(error));
                    // One that was never confirmed has to be there first.
                    if segment.next_lsn <= pinned {
                        place = self.place_by_log(segment).await?;
                    }
                }
                found => place = found?,
            }
            if place.is_some() {
                break;
            }
            later.push(segment);
        }
        // What cannot be read says nothing of another history.
        let another = || damage.map_or(Ok(None), Err);
        let Some(place) = place.or_else(|| place_at_start(own, local)) else { return another() };
        // What the archive has after that must be what the log has.
        let mut walked = place;
        for segment in later.iter().rev() {
            let (source, after) = (self.source.clone(), walked.after);
            let sealed = blocking(move || source.next_sealed(after)).await?;
            let Some(sealed) = sealed.filter(|sealed| self.object(epoch, sealed).key == segment.key) else {
                return another();
            };
            walked = Place { tip: Some(sealed.tip), after: sealed.tip.number, next: sealed.next_lsn };
        }
        if !later.is_empty() {
            // Their contents are compared when they are uploaded, which finds them there.
            return Ok(Some(Found { place, parts: None, damaged }));
        }
        let Some(number) = own.later_parts().map(|part| part.number).max() else {
            return Ok(Some(Found { place, parts: None, damaged }));
        };
        let gone_on = self.place_of_parts(own, place, number).await.inspect_err(|_| self.note_parts(own, place));
        Ok(gone_on?.map(|(place, parts)| Found { place, parts: Some(parts), damaged }))
    }

    /// The place before segment `number`, of which the epoch has parts, where it has all before `place`; and those parts, if they are of the log.
    async fn place_of_parts(&self, own: &Epoch, mut place: Place, number: u64) -> Result<Option<(Place, Parts)>> {
        // Segments that the archive has lost, and that came before the one with parts.
        loop {
            let (source, after) = (self.source.clone(), place.after);
            let sealed = blocking(move || source.next_sealed(after)).await?;
            let Some(sealed) = sealed.filter(|sealed| sealed.tip.number < number) else { break };
            place = Place { tip: Some(sealed.tip), after: sealed.tip.number, next: sealed.next_lsn };
        }
        Ok(self.parts_after(own, place).await?.map(|parts| (place, parts)))
    }

    /// The place after `segment`, whose object is damaged, if the log has the same one: its key says what it had.
    async fn place_by_log(&self, segment: &ArchivedSegment) -> Result<Option<Place>> {
        let sealed = match self.prepare(segment.number.saturating_sub(1)).await {
            // It is damaged there as well.
            Err(Error::Log(mapwal::Error::Corrupt(_) | mapwal::Error::Format { .. })) => None,
            sealed => sealed?,
        };
        let same = sealed.filter(|sealed| self.object(segment.epoch, sealed).key == segment.key);
        Ok(same.map(|sealed| Place { tip: Some(sealed.tip), after: sealed.tip.number, next: sealed.next_lsn }))
    }

    /// Notes what parts after `place` have, which the log is too damaged to be compared with.
    fn note_parts(&self, own: &Epoch, place: Place) {
        let later: Vec<_> = own.later_parts().filter(|part| part.number > place.after).collect();
        if let Some(last) = longest(&later, place.next).last() {
            self.note(|progress| {
                progress.archived(last.next_lsn);
                progress.place = (place.after, last.end());
            });
        }
    }

    /// The place after `piece`, if a segment of the log names its end as that of its predecessor.
    async fn place_after(&self, piece: &Piece, next: Lsn, local: &LocalLog) -> Result<Option<Place>> {
        let names_it = |tip: SegmentTip| tip.number == piece.number && tip.end_bytes == piece.len_bytes();
        let follower = local.segments.iter().find(|it| it.first_lsn == next && it.predecessor.is_some_and(names_it));
        let Some(tip) = follower.and_then(|follower| follower.predecessor) else { return Ok(None) };
        let is_same = tip_of(&self.archive, piece, tip.end_bytes).await? == Some(tip);
        Ok(is_same.then_some(Place { tip: Some(tip), after: tip.number, next }))
    }

    /// The parts of the epoch after `place`, if all of them are of the segment that the log has there.
    pub(super) async fn parts_after(&self, own: &Epoch, place: Place) -> Result<Option<Parts>> {
        let later: Vec<&ArchivedSegment> = own.later_parts().filter(|part| part.number > place.after).collect();
        let archived = later.iter().map(|part| part.next_lsn).max().unwrap_or_default();
        let source = self.source.clone();
        // What follows the place, sealed meanwhile or not.
        let next = blocking(move || {
            let sealed =
                || Ok::<_, Error>(source.next_sealed(place.after)?.map(|sealed| (sealed.tip.number, sealed.bytes)));
            if let Some(sealed) = sealed()? {
                return Ok(Some(sealed));
            }
            let prefix = source.durable_prefix()?;
            // Sealed in between, it is before what takes appends now.
            if let Some(sealed) = sealed()? {
                return Ok(Some(sealed));
            }
            let durable = prefix.as_ref().map_or(Lsn(0), |prefix| prefix.next_lsn);
            // One that was truncated does not have it.
            if durable < archived && archived <= source.next_lsn()? {
                return Err(Error::NotDurable { lsn: Lsn(archived.0 - 1) });
            }
            Ok(prefix.map(|prefix| (prefix.number, prefix.bytes)))
        });
        let Some((number, bytes)) = next.await? else { return Ok(None) };
        let is_there = |part: &&ArchivedSegment| {
            let (from, to) = (part.part.unwrap_or(0) as usize, part.end() as usize);
            bytes.get(from..to).is_some_and(|bytes| crc32fast::hash(bytes) == part.checksum)
        };
        if later.iter().any(|part| part.number != number) || !later.iter().all(is_there) {
            return Ok(None);
        }
        // One that is missing is uploaded again, with all after it.
        let in_a_row = longest(&later, place.next);
        let (end, next) = in_a_row.last().map_or((0, place.next), |last| (last.end(), last.next_lsn));
        let keys = later.iter().map(|part| part.key.clone()).collect();
        Ok(Some(Parts { number, end, next, keys, check: SegmentCheck::new() }))
    }
}

/// The beginning of an epoch that has no segment of its own, if the log has the one that follows.
fn place_at_start(own: &Epoch, local: &LocalLog) -> Option<Place> {
    let note = own.note.as_ref()?;
    let next = Lsn(note.first_lsn);
    let is_it = |segment: &&Local| match (note.parent, segment.predecessor) {
        (Some(parent), Some(tip)) => segment.first_lsn == next && parent.is_at(tip),
        (Some(_), None) => false,
        (None, _) => segment.first_lsn == next,
    };
    let first = local.segments.iter().find(is_it)?;
    let tip = first.predecessor.filter(|_| note.parent.is_some());
    Some(Place { tip, after: first.number - 1, next })
}

fn piece_of(segment: &crate::ArchivedSegment) -> Piece {
    let (number, first_lsn, next_lsn) = (segment.number, segment.first_lsn, segment.next_lsn);
    Piece { number, first_lsn, next_lsn, objects: vec![segment.clone()] }
}
