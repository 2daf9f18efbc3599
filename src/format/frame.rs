//! A frame: a record as stored, or a control frame, which is the log's own.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::position::Position;
use crate::error::Damage;
use crate::lsn::Lsn;

/// Frames begin at multiples of this, and so do payloads.
pub(crate) const ALIGN: usize = 8;
/// Bytes before a payload.
pub(crate) const HEADER_LEN: usize = size_of::<FrameHeader>();
/// Bytes of the commit word, which is stored last: `len` and `crc`.
pub(crate) const COMMIT_WORD_LEN: usize = 8;
/// Words of 8 bytes of a header after the commit word.
pub(crate) const TAIL_WORDS: usize = (HEADER_LEN - COMMIT_WORD_LEN) / 8;
/// Set in every frame of a batch but the last.
pub(crate) const FLAG_BATCH_CONTINUES: u8 = 1;

/// What is stored before a payload.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FrameHeader {
    len: U32,
    crc: U32,
    lsn: U64,
    durable_lag: U32,
    kind: u8,
    flags: u8,
    tag: U16,
}

impl FrameHeader {
    /// The header at the start of `bytes`, if it could be a frame's.
    #[inline]
    pub(crate) fn stated(bytes: &[u8]) -> Option<Self> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        (header.len() as usize >= HEADER_LEN && FrameKind::from_code(header.kind).is_some()).then_some(header)
    }

    /// Whether what has no meaning in a frame of this kind is zero.
    #[inline]
    fn is_well_formed(&self) -> bool {
        let takes_lsn = FrameKind::from_code(self.kind).is_some_and(FrameKind::takes_lsn);
        if takes_lsn { self.flags & !FLAG_BATCH_CONTINUES == 0 } else { self.flags == 0 && self.tag.get() == 0 }
    }

    /// Header and payload, without padding.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len.get()
    }

    #[inline]
    pub(crate) fn crc(&self) -> u32 {
        self.crc.get()
    }

    /// The words after the commit word.
    #[inline]
    pub(crate) fn tail(&self) -> [u64; TAIL_WORDS] {
        let bytes: &[u8; HEADER_LEN] = zerocopy::transmute_ref!(self);
        let ([_, tail @ ..], []) = bytes.as_chunks() else { unreachable!("three words") };
        [u64::from_le_bytes(tail[0]), u64::from_le_bytes(tail[1])]
    }
}

const _: () = assert!(HEADER_LEN == 24 && HEADER_LEN.is_multiple_of(ALIGN));
const _: () = assert!(offset_of!(FrameHeader, lsn) == COMMIT_WORD_LEN);

/// What a frame holds. Only data and void frames take an LSN; the others carry the next one to be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// A record.
    Data = 1,
    /// A record given up while it was written; readers pass over it.
    Void = 2,
    /// First in each segment: ties it to its predecessor.
    Link = 3,
    /// Last in a segment that was rotated.
    Seal = 4,
    /// After the link of a segment that supersedes a suffix.
    Truncate = 5,
    /// The log was shut down cleanly here.
    Close = 6,
    /// A metadata slot's new value.
    Meta = 7,
}

impl FrameKind {
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Data,
            2 => Self::Void,
            3 => Self::Link,
            4 => Self::Seal,
            5 => Self::Truncate,
            6 => Self::Close,
            7 => Self::Meta,
            _ => return None,
        })
    }

    /// Whether a frame of this kind uses up an LSN.
    pub(crate) const fn takes_lsn(self) -> bool {
        matches!(self, Self::Data | Self::Void)
    }
}

/// `len` rounded up to the start of the next frame.
pub(crate) const fn padded(len: usize) -> usize {
    // As `next_multiple_of`, which asks for the remainder first.
    (len + (ALIGN - 1)) & !(ALIGN - 1)
}

/// The part of a frame's checksum that its payload makes up: known before the frame has a place.
#[inline]
pub(crate) fn payload_sum(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

/// Sums payloads, many in a row: it need not find out for each what the processor can do.
#[derive(Debug, Clone)]
pub(crate) struct FrameHasher(crc32fast::Hasher);

impl FrameHasher {
    pub(crate) fn new() -> Self {
        Self(crc32fast::Hasher::new())
    }

    /// As [`payload_sum`].
    #[inline]
    pub(crate) fn sum(&self, payload: &[u8]) -> u32 {
        let mut sum = self.0.clone();
        sum.update(payload);
        sum.finalize()
    }

    /// Of a payload in several parts.
    #[inline]
    pub(crate) fn sum_parts<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> u32 {
        let mut sum = self.clone();
        parts.into_iter().for_each(|part| sum.update(part));
        sum.finish()
    }

    /// Takes the next part of a payload into account. A hasher of which this is called is a copy of one of which it never is.
    #[inline]
    pub(crate) fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The sum of the parts.
    #[inline]
    pub(crate) fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// The checksum of a frame of `len` bytes whose header has `tail` after the commit word.
///
/// The salt of the segment is in it, so that bytes of another file or another life of this one fail.
#[inline]
pub(crate) fn checksum(salt: u32, len: u32, tail: [u64; TAIL_WORDS], payload_sum: u32) -> u32 {
    payload_sum ^ header_sum(tail) ^ salt ^ len
}

/// Hashes the header, for a fraction of what a CRC of 16 bytes costs: multiply-shift (Dietzfelbinger et al., A Reliable
/// Randomized Algorithm for the Closest-Pair Problem, 1997). That no single flipped bit gets through is asserted below.
#[inline]
fn header_sum(tail: [u64; TAIL_WORDS]) -> u32 {
    let [lsn, rest] = tail;
    (lsn.wrapping_mul(LSN_FACTOR).wrapping_add(rest.wrapping_mul(REST_FACTOR)) >> 32) as u32
}

/// The golden ratio, and the second prime of `XXH64`.
const LSN_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const REST_FACTOR: u64 = 0xc2b2_ae3d_27d4_eb4f;
const _: () = assert!(every_bit_counts(LSN_FACTOR) && every_bit_counts(REST_FACTOR));

/// Whether a flip of any one bit of a word multiplied by `factor` changes the upper half of the sum, whatever else is in
/// it. The flip adds or subtracts `factor << bit`. With a carry of 0 or 1 from below, the upper half stays the same only
/// if that of what is added is all zeros or all ones.
const fn every_bit_counts(factor: u64) -> bool {
    let mut bit = 0;
    while bit < u64::BITS {
        let added = factor << bit;
        let halves = [(added >> 32) as u32, (added.wrapping_neg() >> 32) as u32];
        if halves[0] == 0 || halves[0] == u32::MAX || halves[1] == 0 || halves[1] == u32::MAX {
            return false;
        }
        bit += 1;
    }
    true
}

/// The part of a header that the checksum covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameHead {
    pub(crate) kind: FrameKind,
    pub(crate) flags: u8,
    pub(crate) tag: u16,
    pub(crate) lsn: Lsn,
    pub(crate) durable_lag: u32,
}

impl FrameHead {
    /// The head of a control frame.
    pub(crate) const fn control(kind: FrameKind, lsn: Lsn, durable_lag: u32) -> Self {
        Self { kind, flags: 0, tag: 0, lsn, durable_lag }
    }

    /// The header's bytes after the commit word, as two little-endian words.
    #[inline]
    pub(crate) fn tail(self) -> [u64; TAIL_WORDS] {
        let kind_flags_tag = u64::from(self.kind as u8) | u64::from(self.flags) << 8 | u64::from(self.tag) << 16;
        [self.lsn.0, u64::from(self.durable_lag) | kind_flags_tag << 32]
    }

    /// A whole frame, for places that are not the hot path.
    pub(crate) fn encode(self, salt: u32, payload: &[u8]) -> Vec<u8> {
        let len = HEADER_LEN + payload.len();
        let len_field = u32::try_from(len).expect("control frames are small");
        let mut bytes = vec![0; COMMIT_WORD_LEN];
        self.tail().iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes.extend_from_slice(payload);
        let crc = checksum(salt, len_field, self.tail(), payload_sum(payload));
        bytes[..4].copy_from_slice(&len_field.to_le_bytes());
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(padded(len), 0);
        bytes
    }
}

/// A frame in place: header and payload, without padding.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    header: &'a FrameHeader,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of `rest`, which reaches to the end of what may be read. Its place in memory is checked
    /// and its kind; its checksum and number are not.
    #[inline]
    pub(crate) fn parse(rest: &'a [u8]) -> Result<Self, Damage> {
        let Ok((header, _)) = FrameHeader::ref_from_prefix(rest) else { return Err(Damage::MissingFrame) };
        let len = header.len.get();
        if len == 0 && header.crc.get() == 0 {
            return Err(Damage::MissingFrame);
        }
        if (len as usize) < HEADER_LEN || padded(len as usize) > rest.len() {
            return Err(Damage::FrameLength(len));
        }
        if FrameKind::from_code(header.kind).is_none() {
            return Err(Damage::FrameKind(header.kind));
        }
        Ok(Self { header, bytes: &rest[..len as usize] })
    }

    /// As [`Self::parse`], if it is a record: without saying what is wrong if it is not.
    #[inline]
    pub(crate) fn parse_record(rest: &'a [u8]) -> Option<Self> {
        let (header, _) = FrameHeader::ref_from_prefix(rest).ok()?;
        let len = header.len() as usize;
        let is_record = header.kind == FrameKind::Data as u8 && len >= HEADER_LEN && padded(len) <= rest.len();
        is_record.then(|| Self { header, bytes: &rest[..len] })
    }

    /// As [`Self::parse_checked`], if it is a record, the last of a batch or in none, and sound: without saying what is wrong if not.
    #[expect(clippy::inline_always, reason = "a walk calls it for each record")]
    #[inline(always)]
    pub(crate) fn parse_checked_record(
        rest: &'a [u8],
        salt: u32,
        hasher: &FrameHasher,
        expected_lsn: Lsn,
    ) -> Option<Self> {
        let frame = Self::parse_record(rest)?;
        // What the sum of the payload is to be, before it is computed: a checksum is an exclusive or of its parts.
        let payload_sum = frame.checksum_with(salt, frame.crc());
        let is_sound = frame.lsn() == expected_lsn
            && frame.header.flags == 0
            && frame.has_zeros_after(rest)
            && hasher.sum(frame.payload()) == payload_sum;
        is_sound.then_some(frame)
    }

    /// As [`Self::parse`], and everything that can be checked: checksum, number, reserved bits and padding.
    #[inline]
    pub(crate) fn parse_checked(
        rest: &'a [u8],
        salt: u32,
        hasher: &FrameHasher,
        expected_lsn: Lsn,
    ) -> Result<Self, Damage> {
        let frame = Self::parse(rest)?;
        let expected = frame.computed_crc(salt, hasher);
        if expected != frame.crc() {
            return Err(Damage::Checksum { expected, found: frame.crc() });
        }
        if frame.lsn() != expected_lsn {
            return Err(Damage::FrameLsn { expected: expected_lsn, found: frame.lsn() });
        }
        if !frame.header.is_well_formed() || !frame.has_zeros_after(rest) {
            return Err(Damage::Reserved);
        }
        Ok(frame)
    }

    /// Whether its padding, in the bytes that it was parsed from, is all zeros.
    #[inline]
    fn has_zeros_after(&self, rest: &[u8]) -> bool {
        let last_len = self.bytes.len() % ALIGN;
        let last = rest[..self.padded_len()].last_chunk().expect("a header is longer");
        last_len == 0 || u64::from_le_bytes(*last) >> (last_len * 8) == 0
    }

    #[inline]
    pub(crate) fn computed_crc(&self, salt: u32, hasher: &FrameHasher) -> u32 {
        self.checksum_with(salt, hasher.sum(self.payload()))
    }

    /// The checksum that it is to have if its payload has this sum.
    #[inline]
    pub(crate) fn checksum_with(&self, salt: u32, payload_sum: u32) -> u32 {
        checksum(salt, self.header.len.get(), self.header.tail(), payload_sum)
    }

    #[inline]
    pub(crate) fn kind(&self) -> FrameKind {
        FrameKind::from_code(self.header.kind).expect("checked by parse")
    }

    #[inline]
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.header.lsn.get())
    }

    #[inline]
    pub(crate) fn tag(&self) -> u16 {
        self.header.tag.get()
    }

    /// Header and payload, without padding.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.header.len.get()
    }

    #[inline]
    pub(crate) fn crc(&self) -> u32 {
        self.header.crc.get()
    }

    /// The commit word.
    #[inline]
    pub(crate) fn word(&self) -> u64 {
        u64::from(self.len()) | u64::from(self.crc()) << 32
    }

    #[inline]
    pub(crate) fn batch_continues(&self) -> bool {
        self.header.flags & FLAG_BATCH_CONTINUES != 0
    }

    #[inline]
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Header and payload.
    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes to the next frame.
    #[inline]
    pub(crate) fn padded_len(&self) -> usize {
        padded(self.bytes.len())
    }

    /// What was durable when the frame was appended at `position`, if its header tells.
    pub(crate) fn durable_then(&self, position: Position) -> Option<Position> {
        position.durable_then(self.header.durable_lag.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u32 = 0x5a17;

    fn encoded(payload: &[u8]) -> Vec<u8> {
        FrameHead { kind: FrameKind::Data, flags: 0, tag: 9, lsn: Lsn(5), durable_lag: 3 }.encode(SALT, payload)
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for len in 0..40 {
            let payload: Vec<u8> = (0..len).collect();
            let bytes = encoded(&payload);
            let frame = Frame::parse_checked(&bytes, SALT, &FrameHasher::new(), Lsn(5)).expect("valid frame");
            assert_eq!((frame.payload(), frame.tag(), frame.lsn()), (&payload[..], 9, Lsn(5)));
            assert_eq!(frame.padded_len(), bytes.len());
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_noticed() {
        let good = encoded(b"thirteen byte");
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes.extend_from_slice(&[0; 64]);
            assert!(Frame::parse_checked(&bytes, SALT, &FrameHasher::new(), Lsn(5)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_of_any_header_changes_its_sum() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..1000 {
            let tail = [0, 1].map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                random
            });
            for bit in 0..128 {
                let mut flipped = tail;
                flipped[bit / 64] ^= 1 << (bit % 64);
                assert_ne!(header_sum(tail), header_sum(flipped), "{tail:x?}, bit {bit}");
            }
        }
        assert!(!every_bit_counts(1) && !every_bit_counts(u64::MAX) && !every_bit_counts(1 << 63));
    }

    #[test]
    fn another_salt_or_number_is_refused() {
        let bytes = encoded(b"x");
        assert!(matches!(
            Frame::parse_checked(&bytes, SALT + 1, &FrameHasher::new(), Lsn(5)),
            Err(Damage::Checksum { .. })
        ));
        assert!(matches!(
            Frame::parse_checked(&bytes, SALT, &FrameHasher::new(), Lsn(6)),
            Err(Damage::FrameLsn { .. })
        ));
    }

    #[test]
    fn hostile_lengths_are_refused_before_they_are_used() {
        for len in [1_u32, 23, 33, 1 << 31, u32::MAX] {
            let mut bytes = encoded(b"12345678");
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            assert_eq!(Frame::parse(&bytes).err(), Some(Damage::FrameLength(len)));
        }
        assert_eq!(Frame::parse(&[0; 24]).err(), Some(Damage::MissingFrame));
        assert_eq!(Frame::parse(&[1; 23]).err(), Some(Damage::MissingFrame));
    }
}
