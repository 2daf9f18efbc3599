//! Walking the frames of one segment in order.

use super::frame::{self, Frame, FrameHasher, FrameKind};
use super::link::{self, Close, Link, Seal, SegmentEnd};
use super::segment_header::{self, Layout};
use super::tally::{self, Tally};
use crate::error::Damage;
use crate::lsn::Lsn;

/// Whether frames are checked as they are passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Everything that can be checked: each frame, and which may follow which.
    Full,
    /// Each frame by itself.
    Frames,
    /// Nothing: this process wrote the frames, or has checked them before.
    None,
}

/// Whether a frame of which `available` bytes were given may be a good one that only reaches beyond them.
pub(crate) fn may_be_cut_off(damage: &Damage, available: usize) -> bool {
    match damage {
        Damage::MissingFrame => available < frame::HEADER_LEN,
        Damage::FrameLength(len) => available < frame::padded(*len as usize),
        _ => false,
    }
}

/// A place between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Byte offset in the segment.
    pub(crate) offset: usize,
    /// The number of the next record.
    pub(crate) next_lsn: Lsn,
    /// The checksum of the frame before; meaningless at the start of a walk.
    pub(crate) last_crc: u32,
}

impl Place {
    /// What is wrong with frames that end here, at the offset of `end`, where a segment should end.
    pub(crate) fn damage_at(&self, end: SegmentEnd) -> Option<Damage> {
        if self.next_lsn != end.next_lsn {
            return Some(Damage::FrameLsn { expected: end.next_lsn, found: self.next_lsn });
        }
        (self.last_crc != end.crc).then_some(Damage::Checksum { expected: end.crc, found: self.last_crc })
    }
}

/// A walk from one frame to the next.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    layout: Layout,
    hasher: FrameHasher,
    check: Check,
    place: Place,
    /// The last place that no batch straddles.
    boundary: Place,
    /// The frame before, if the walk has passed one.
    before: Option<FrameKind>,
    /// What the frames come to, if the walk passes all of them from the first on, or was told what those before come to.
    tally: Option<Tally>,
}

impl Walk {
    /// From `offset`, where the record `next_lsn` or a control frame before it starts.
    pub(crate) fn new(layout: Layout, check: Check, offset: usize, next_lsn: Lsn) -> Self {
        let place = Place { offset, next_lsn, last_crc: 0 };
        let tally = (check == Check::Full && offset == segment_header::LEN).then_some(Tally::START);
        Self { layout, hasher: FrameHasher::new(), check, place, boundary: place, before: None, tally }
    }

    /// As it is, counting frames from here on, if those before come to `tally`.
    pub(crate) fn counting(self, tally: Option<Tally>) -> Self {
        let tally = tally.filter(|tally| tally.end == self.place.offset as u64).or(self.tally);
        Self { tally, ..self }
    }

    /// Passes over the frame at the start of `rest`, the bytes from the current offset on.
    #[inline]
    pub(crate) fn step<'a>(&mut self, rest: &'a [u8]) -> Result<Frame<'a>, Damage> {
        let frame = match self.check {
            Check::Full | Check::Frames => {
                Frame::parse_checked(rest, self.layout.salt, &self.hasher, self.place.next_lsn)?
            }
            Check::None => Frame::parse(rest)?,
        };
        let kind = frame.kind();
        if self.check == Check::Full {
            self.check_place(&frame)?;
        }
        if let Some(tally) = &mut self.tally {
            tally.pass(&frame);
        }
        self.place.offset += frame.padded_len();
        self.place.last_crc = frame.crc();
        if kind.takes_lsn() {
            self.place.next_lsn = self.place.next_lsn.next();
        }
        // A control frame is never inside a batch; one there shows that the batch was left unfinished.
        if !frame.batch_continues() || !matches!(kind, FrameKind::Data | FrameKind::Void) {
            self.boundary = self.place;
        }
        Ok(frame)
    }

    /// Passes over the record at the start of `rest`, if it is one that ends a batch or is in none, in a walk that checks nothing: as
    /// [`Self::step`] would, for less.
    #[inline]
    pub(crate) fn pass_unchecked_record(&mut self, rest: &[u8]) -> bool {
        let record = Frame::parse_record(rest).filter(|record| self.check == Check::None && !record.batch_continues());
        let Some(record) = record else { return false };
        if let Some(tally) = &mut self.tally {
            tally.pass(&record);
        }
        self.place.offset += record.padded_len();
        self.place.next_lsn = self.place.next_lsn.next();
        self.place.last_crc = record.crc();
        self.boundary = self.place;
        true
    }

    /// Passes over records that end a batch or are in none, for as long as they are sound and the place is not `enough`: as
    /// [`Self::step`] would, for less. It shows each one's number and offset to `note`. What is left, if `bytes` are more, is for
    /// [`Self::step`] to judge. `bytes` begin at offset `begin` of the segment. Only of a walk that checks everything, after its first frame.
    #[inline]
    pub(crate) fn pass_records(
        &mut self,
        bytes: &[u8],
        begin: usize,
        enough: impl Fn(&Place) -> bool,
        mut note: impl FnMut(Lsn, usize),
    ) {
        let may_follow = self.before.is_some_and(|before| before != FrameKind::Seal);
        // No record has fewer bytes than one, so numbers do not run out below.
        let is_far_from_last = self.place.next_lsn.0.checked_add(bytes.len() as u64).is_some();
        if self.check != Check::Full || !may_follow || !is_far_from_last {
            return;
        }
        // What nothing refers to is kept in registers.
        let mut place = self.place;
        let mut sum = self.tally.map_or(0, |tally| tally.sum());
        while !enough(&place)
            && let Some(rest) = bytes.get(place.offset - begin..)
            && let Some(frame) = Frame::parse_checked_record(rest, self.layout.salt, &self.hasher, place.next_lsn)
        {
            sum = tally::mix(sum, frame.word());
            note(place.next_lsn, place.offset);
            place.offset += frame.padded_len();
            place.next_lsn.0 += 1;
            place.last_crc = frame.crc();
        }
        if place != self.place {
            let records = place.next_lsn.0 - self.place.next_lsn.0;
            if let Some(tally) = &mut self.tally {
                tally.pass_records(records, place.offset, sum);
            }
            (self.place, self.boundary, self.before) = (place, place, Some(FrameKind::Data));
        }
    }

    /// Whether `frame` may be here, and has the form of its kind.
    #[inline]
    fn check_place(&mut self, frame: &Frame<'_>) -> Result<(), Damage> {
        let kind = frame.kind();
        let is_first = self.place.offset == segment_header::LEN;
        if is_first != (kind == FrameKind::Link) || self.before == Some(FrameKind::Seal) {
            return Err(Damage::FrameKind(kind as u8));
        }
        if !kind.takes_lsn() {
            self.check_control_frame(frame)?;
        }
        self.before = Some(kind);
        Ok(())
    }

    /// As [`Self::check_place`], for a control frame.
    fn check_control_frame(&mut self, frame: &Frame<'_>) -> Result<(), Damage> {
        let (kind, payload, version) = (frame.kind(), frame.payload(), self.layout.version);
        if self.boundary != self.place {
            // Frames of a batch follow each other.
            return Err(Damage::FrameKind(kind as u8));
        }
        let stated = match kind {
            FrameKind::Link => Link::parse(payload, version).map(|_| None)?,
            FrameKind::Truncate => self.check_truncation(frame).map(|()| None)?,
            FrameKind::Meta => link::parse_meta(payload, version).map(|_| None)?,
            FrameKind::Seal => Seal::parse(payload, version)?.tally,
            FrameKind::Close => Close::parse(payload, version)?.tally,
            FrameKind::Data | FrameKind::Void => None,
        };
        match (stated, self.tally) {
            (Some(stated), Some(found)) if stated != found => Err(Damage::SegmentSum),
            _ => Ok(()),
        }
    }

    /// Whether a truncation may be here: after the link, which a walk that begins with it cannot tell, and with the
    /// number before the segment's first record.
    fn check_truncation(&self, frame: &Frame<'_>) -> Result<(), Damage> {
        if self.before.is_some_and(|before| before != FrameKind::Link) {
            return Err(Damage::FrameKind(FrameKind::Truncate as u8));
        }
        let last_kept = link::parse_number(frame.payload())?;
        if last_kept == frame.lsn().previous().0 { Ok(()) } else { Err(Damage::FrameContents) }
    }

    /// What the frames passed come to; `None` if not all were passed from the first on, and what those before come to is not known.
    pub(crate) fn tally(&self) -> Option<Tally> {
        self.tally
    }

    /// After the last frame passed.
    #[inline]
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// After the last frame passed that ends a batch or is in none.
    #[inline]
    pub(crate) fn boundary(&self) -> Place {
        self.boundary
    }
}

#[cfg(test)]
mod tests {
    use super::super::Version;
    use super::super::frame::{FLAG_BATCH_CONTINUES, FrameHead};
    use super::*;

    const LAYOUT: Layout = Layout { version: Version::V3, salt: 0x5a17, is_recycled: false };
    const FIRST: Lsn = Lsn(5);

    /// A segment with frames of all kinds, also where they may not be. `change` is given each frame's place among them, and its head.
    fn segment(mut change: impl FnMut(usize, &mut FrameHead)) -> Vec<u8> {
        let mut frames = vec![(FrameKind::Link, 0, Link::default().encode())];
        frames.extend((0..18).map(|len| (FrameKind::Data, 0, vec![0xa5; len])));
        frames.push((FrameKind::Meta, 0, link::encode_meta(3, b"vote")));
        frames
            .extend([FLAG_BATCH_CONTINUES, FLAG_BATCH_CONTINUES, 0].map(|flags| (FrameKind::Data, flags, vec![1; 9])));
        frames.push((FrameKind::Void, 0, Vec::new()));
        frames.extend([FLAG_BATCH_CONTINUES, 0].map(|flags| (FrameKind::Data, flags, vec![2; 30])));
        frames.push((FrameKind::Seal, 0, Seal { next: 2, tally: None }.encode()));
        frames.push((FrameKind::Data, 0, b"after a seal".to_vec()));
        let (mut bytes, mut lsn) = (vec![0; segment_header::LEN], FIRST);
        for (at, (kind, flags, payload)) in frames.into_iter().enumerate() {
            let mut head = FrameHead { kind, flags, tag: 0, lsn, durable_lag: 0 };
            change(at, &mut head);
            bytes.extend(head.encode(LAYOUT.salt, &payload));
            lsn = if kind.takes_lsn() { lsn.next() } else { lsn };
        }
        bytes
    }

    /// What a walk has come to, and which records it has passed.
    type Walked = (Place, Place, Option<Tally>, Option<Damage>, Vec<(Lsn, usize)>);

    /// Walks until a boundary is `enough` bytes on, one frame at a time or records in a row.
    fn walked(bytes: &[u8], enough: usize, in_a_row: bool) -> Walked {
        let mut walk = Walk::new(LAYOUT, Check::Full, segment_header::LEN, FIRST);
        let (mut passed, mut damage) = (Vec::new(), None);
        while damage.is_none() && walk.place().offset < bytes.len() && walk.boundary().offset < enough {
            let before = walk.place();
            damage = walk.step(&bytes[before.offset..]).err();
            if walk.place().next_lsn != before.next_lsn {
                passed.push((before.next_lsn, before.offset));
            }
            if in_a_row && damage.is_none() {
                // As where the bytes come in pieces.
                let rest = &bytes[before.offset..];
                walk.pass_records(
                    rest,
                    before.offset,
                    |boundary| boundary.offset >= enough,
                    |lsn, at| passed.push((lsn, at)),
                );
            }
        }
        (walk.place(), walk.boundary(), walk.tally(), damage, passed)
    }

    fn assert_walked_alike(bytes: &[u8], enough: usize, what: &str) {
        assert_eq!(walked(bytes, enough, true), walked(bytes, enough, false), "{what}");
    }

    #[test]
    fn records_passed_in_a_row_are_judged_as_one_by_one() {
        let good = segment(|_, _| {});
        let (_, _, tally, damage, passed) = walked(&good, usize::MAX, true);
        assert_eq!((tally.is_some(), damage, passed.len()), (true, Some(Damage::FrameKind(1)), 24));
        for at in segment_header::LEN..good.len() {
            assert_walked_alike(&good, at, "a walk that ends early");
            assert_walked_alike(&good[..at], usize::MAX, "a segment that is cut off");
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                assert_walked_alike(&bytes, usize::MAX, "a flipped bit");
            }
        }
    }

    #[test]
    fn what_a_checksum_does_not_tell_is_noticed_among_records_passed_in_a_row() {
        let changes: [fn(&mut FrameHead); 5] = [
            |head| head.lsn = head.lsn.next(),
            |head| head.flags ^= FLAG_BATCH_CONTINUES,
            |head| head.flags |= 2,
            |head| head.kind = FrameKind::Void,
            |head| head.kind = FrameKind::Seal,
        ];
        for (number, change) in changes.iter().enumerate() {
            for changed in 0..28 {
                let bytes = segment(|at, head| {
                    if at == changed {
                        change(head);
                    }
                });
                assert_walked_alike(&bytes, usize::MAX, &format!("change {number} of frame {changed}"));
            }
        }
    }
}
