//! What the disk does wrong, and when.

use std::sync::atomic::Ordering;

use fastrand::Rng;

use crate::recording::{Recording, Word};

/// Which operations fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u64)]
pub enum Kind {
    #[default]
    None = 0,
    /// A number of writes in a row.
    Writes,
    /// A write, and all later ones to any of its bytes: a bad place.
    Place,
    /// A write and all that come later: the disk is gone.
    Everything,
    /// A number of flushes in a row. What they were to make durable may be lost.
    Flushes,
}

/// The faults of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    pub kind: Kind,
    /// How many writes, or flushes, come before.
    pub start: u64,
    pub count: u64,
    /// Writes that are the file system's own neither fail nor count, where they can be told by their mark.
    pub spares_marked: bool,
    /// One in this many operations takes a moment; 0 for none.
    pub delay_one_in: u64,
}

impl Plan {
    /// Without errors; slow now and then.
    pub fn without_errors(rng: &mut Rng) -> Self {
        Self { delay_one_in: if rng.u8(..) < 64 { rng.u64(2..40) } else { 0 }, ..Self::default() }
    }

    /// An error within the first `writes`. Where the file system's own writes can be told, most errors meet data.
    pub fn with_errors(writes: u64, can_spare: bool, rng: &mut Rng) -> Self {
        let spares_marked = can_spare && rng.u8(..) < 192;
        let kind = match rng.u8(0..if spares_marked { 6 } else { 10 }) {
            0..4 => Kind::Writes,
            4..6 => Kind::Place,
            6..8 => Kind::Everything,
            _ => Kind::Flushes,
        };
        let until = if kind == Kind::Flushes { writes / 4 } else { writes };
        let count = if rng.u8(..) < 160 { 1 } else { rng.u64(2..12) };
        let until = if spares_marked { until / 4 } else { until };
        Self { kind, start: rng.u64(0..until), count, spares_marked, ..Self::without_errors(rng) }
    }

    /// Has the disk go wrong as planned from now on. What the file system writes of its own has a mark that is also at `mark`.
    pub fn begin(self, recording: &Recording, mark: Option<u64>) {
        recording.set(Word::Mark, mark.filter(|_| self.spares_marked).unwrap_or(0));
        recording.set(Word::SeenWrites, 0);
        recording.set(Word::SeenFlushes, 0);
        recording.set(Word::FaultStart, self.start);
        recording.set(Word::FaultCount, self.count);
        recording.set(Word::DelayOneIn, self.delay_one_in);
        recording.set(Word::FaultKind, self.kind as u64);
    }
}

/// Has the disk do nothing wrong from now on.
pub fn end(recording: &Recording) {
    recording.set(Word::FaultKind, Kind::None as u64);
}

/// Whether the write of `len` bytes at `offset` fails. Asked once for each, by the disk.
pub fn write_fails(recording: &Recording, offset: u64, len: u64) -> bool {
    let seen = recording.word(Word::SeenWrites).fetch_add(1, Ordering::AcqRel);
    let start = recording.get(Word::FaultStart);
    match recording.get(Word::FaultKind) {
        kind if kind == Kind::Writes as u64 => (start..start + recording.get(Word::FaultCount)).contains(&seen),
        kind if kind == Kind::Everything as u64 => seen >= start,
        kind if kind == Kind::Place as u64 => {
            if seen == start {
                recording.set(Word::PlaceStart, offset);
                recording.set(Word::PlaceEnd, offset + len);
            }
            offset < recording.get(Word::PlaceEnd) && recording.get(Word::PlaceStart) < offset + len
        }
        _ => false,
    }
}

/// Whether a flush fails. Asked once for each, by the disk.
pub fn flush_fails(recording: &Recording) -> bool {
    let seen = recording.word(Word::SeenFlushes).fetch_add(1, Ordering::AcqRel);
    let start = recording.get(Word::FaultStart);
    match recording.get(Word::FaultKind) {
        kind if kind == Kind::Flushes as u64 => (start..start + recording.get(Word::FaultCount)).contains(&seen),
        kind if kind == Kind::Everything as u64 => recording.get(Word::SeenWrites) > start,
        _ => false,
    }
}
