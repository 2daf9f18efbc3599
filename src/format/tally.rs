//! What the frames of a segment come to: by it a seal or a close proves the segment as a whole, without its successor.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::frame::{Frame, FrameKind};
use super::segment_header;
use crate::error::Damage;

/// Odd, so that nothing is lost of what came before.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// Bytes of one as it is stored.
pub(crate) const LEN: usize = size_of::<Stored>();

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Stored {
    end: U64,
    sum: U64,
    records: U32,
    reserved: U32,
}

const _: () = assert!(LEN == 24);

/// The sum with a frame of this commit word, if it was `sum` before.
#[inline]
pub(crate) fn mix(sum: u64, word: u64) -> u64 {
    sum.wrapping_add(word).wrapping_mul(FACTOR)
}

/// The frames of a segment up to some place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Byte offset after them.
    pub(crate) end: u64,
    /// Of their commit words, in order.
    sum: u64,
    /// Records among them.
    records: u32,
}

impl Tally {
    /// Of none.
    pub(crate) const START: Self = Self { end: segment_header::LEN as u64, sum: 0, records: 0 };

    /// Takes the frame that follows into account.
    #[inline]
    pub(crate) fn pass(&mut self, frame: &Frame<'_>) {
        self.sum = mix(self.sum, frame.word());
        self.records += u32::from(frame.kind() == FrameKind::Data);
        self.end += frame.padded_len() as u64;
    }

    /// The sum so far, for [`mix`].
    #[inline]
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// Takes `records` that follow, up to byte offset `end`, into account, with which the sum is `sum`.
    pub(crate) fn pass_records(&mut self, records: u64, end: usize, sum: u64) {
        self.sum = sum;
        // No segment has more than 2^32 frames.
        self.records = self.records.wrapping_add(records as u32);
        self.end = end as u64;
    }

    /// As it is stored; zeros if it is not known.
    pub(crate) fn encode(tally: Option<Self>) -> [u8; LEN] {
        let Some(Self { end, sum, records }) = tally else { return [0; LEN] };
        let stored = Stored { end: end.into(), sum: sum.into(), records: records.into(), reserved: 0.into() };
        zerocopy::transmute!(stored)
    }

    /// The one at the start of `bytes`, if it says something, and what follows.
    pub(crate) fn split(bytes: &[u8]) -> Result<(Option<Self>, &[u8]), Damage> {
        let (stored, rest) = Stored::ref_from_prefix(bytes).map_err(|_| Damage::FrameContents)?;
        let tally = Self { end: stored.end.get(), sum: stored.sum.get(), records: stored.records.get() };
        let is_known = tally.end != 0;
        if stored.reserved.get() != 0 || (!is_known && (tally.sum, tally.records) != (0, 0)) {
            return Err(Damage::FrameContents);
        }
        Ok((is_known.then_some(tally), rest))
    }
}
