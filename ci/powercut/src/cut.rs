//! What a power cut leaves on the disk: everything that a flush has made durable, and any of the sectors written since.

use std::ops::Range;

use fastrand::Rng;

use crate::image::Image;
use crate::recording::{Operation, Trace};

/// What the disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// Which of the writes since the last flush are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    All,
    None,
    /// Each sector of each write by itself: this many in 256.
    Sectors(u8),
    /// Each write as a whole.
    Writes(u8),
    /// Those up to one, which is there in part.
    First,
    /// All but one.
    AllButOne,
    /// One.
    One,
}

impl Kept {
    fn random(rng: &mut Rng) -> Self {
        match rng.u8(0..16) {
            0 => Self::All,
            1 | 2 => Self::None,
            3..6 => Self::Sectors(128),
            6 => Self::Sectors(rng.u8(..)),
            7..9 => Self::Writes(128),
            9 => Self::Writes(rng.u8(..)),
            10 | 11 => Self::First,
            12..14 => Self::AllButOne,
            _ => Self::One,
        }
    }
}

/// Goes through a recording, from its start on.
pub struct Cutter<'t> {
    trace: &'t Trace,
    /// What was durable before operation `at`, which follows a flush, or is the first.
    durable: Image,
    at: usize,
    /// What is written whole.
    whole: Range<usize>,
}

impl<'t> Cutter<'t> {
    /// From what the disk held when the recording began. The bytes of `whole` are written together.
    pub fn new(trace: &'t Trace, start: &Image, whole: Range<usize>) -> Self {
        Self { trace, durable: start.clone(), at: 0, whole }
    }

    /// What a cut leaves that comes before operation `end`, no earlier than the cuts before.
    pub fn cut(&mut self, end: usize, rng: &mut Rng) -> Image {
        let pending = &self.trace.operations[self.at..end];
        if let Some(flush) = pending.iter().rposition(|operation| *operation == Operation::Flush) {
            for (offset, bytes) in writes(self.trace, self.at..self.at + flush) {
                self.durable.write(offset, bytes);
            }
            self.at += flush + 1;
        }
        let mut left = self.durable.clone();
        let pending: Vec<_> = writes(self.trace, self.at..end).collect();
        self.keep(&mut left, &pending, Kept::random(rng), rng);
        left
    }

    fn keep(&self, left: &mut Image, pending: &[(usize, &[u8])], kept: Kept, rng: &mut Rng) {
        let chosen = if pending.is_empty() { 0 } else { rng.usize(0..pending.len()) };
        for (index, &(offset, bytes)) in pending.iter().enumerate() {
            let often = match kept {
                Kept::All => 256,
                Kept::None => 0,
                Kept::Sectors(often) => u16::from(often),
                Kept::Writes(often) => whole(rng.u8(..) < often),
                Kept::First if index == chosen => 128,
                Kept::First => whole(index < chosen),
                Kept::AllButOne => whole(index != chosen),
                Kept::One => whole(index == chosen),
            };
            let mut is_kept = u16::from(rng.u8(..)) < often;
            for (at, sector) in (offset..).step_by(SECTOR_BYTES).zip(bytes.chunks(SECTOR_BYTES)) {
                if !(self.whole.start < at && at < self.whole.end) {
                    is_kept = u16::from(rng.u8(..)) < often;
                }
                if is_kept {
                    left.write(at, sector);
                }
            }
        }
    }
}

/// All or nothing, in 256.
fn whole(is_kept: bool) -> u16 {
    if is_kept { 256 } else { 0 }
}

/// The writes among some operations: where, and what.
fn writes(trace: &Trace, range: Range<usize>) -> impl Iterator<Item = (usize, &[u8])> {
    trace.operations[range].iter().filter_map(|operation| match *operation {
        Operation::Write { offset, len, data } => Some((offset, &trace.data[data..data + len])),
        _ => None,
    })
}
