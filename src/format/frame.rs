//! A frame: a record as stored, or one of the log's own notes.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::position::Position;
use crate::error::Damage;
use crate::lsn::Lsn;
use crate::sabotage::{Break, is};

/// Frames begin at multiples of this, and so do payloads.
pub(crate) const ALIGN: usize = 8;
/// Bytes in front of a payload.
pub(crate) const HEADER_LEN: usize = size_of::<FrameHeader>();
/// Bytes of the commit word, which is stored last: `len` and `crc`.
pub(crate) const COMMIT_WORD_LEN: usize = 8;
/// Bytes of a header behind the commit word.
pub(crate) const TAIL_LEN: usize = HEADER_LEN - COMMIT_WORD_LEN;
/// Set in every frame of a batch but the last.
pub(crate) const FLAG_BATCH_CONTINUES: u8 = 1;

/// What stands in front of a payload.
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
    /// Behind the link of a segment that supersedes a suffix.
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
    len.next_multiple_of(ALIGN)
}

/// The checksum of a frame of `len` bytes whose bytes behind the commit word are `covered`.
///
/// The initial value of the CRC is the segment's salt, so that bytes of another file or another life of this one fail,
/// combined with the length, so that a wrong length fails as well.
#[inline]
pub(crate) fn checksum(salt: u32, len: u32, covered: &[u8]) -> u32 {
    let mut hasher = begin_checksum(salt, len);
    hasher.update(covered);
    hasher.finalize()
}

/// A [`checksum`] for which the bytes are still to come.
#[inline]
pub(crate) fn begin_checksum(salt: u32, len: u32) -> crc32fast::Hasher {
    let salt = if is(Break::SaltLeftOut) { 0 } else { salt };
    crc32fast::Hasher::new_with_initial(salt ^ len)
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
    /// The head of one of the log's own frames.
    pub(crate) const fn note(kind: FrameKind, lsn: Lsn, durable_lag: u32) -> Self {
        Self { kind, flags: 0, tag: 0, lsn, durable_lag }
    }

    /// The header's bytes behind the commit word, as two little-endian words.
    #[inline]
    pub(crate) fn tail(self) -> [u64; TAIL_LEN / 8] {
        let kind_flags_tag = u64::from(self.kind as u8) | u64::from(self.flags) << 8 | u64::from(self.tag) << 16;
        [self.lsn.0, u64::from(self.durable_lag) | kind_flags_tag << 32]
    }

    /// A whole frame, for places that are not the hot path.
    pub(crate) fn encode(self, salt: u32, payload: &[u8]) -> Vec<u8> {
        let len = HEADER_LEN + payload.len();
        let len_field = u32::try_from(len).expect("the log's own frames are small");
        let mut bytes = vec![0; COMMIT_WORD_LEN];
        self.tail().iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes.extend_from_slice(payload);
        let crc = checksum(salt, len_field, &bytes[COMMIT_WORD_LEN..]);
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

    /// As [`Self::parse`], and everything that can be checked: checksum, number, reserved bits and padding.
    #[inline]
    pub(crate) fn parse_checked(rest: &'a [u8], salt: u32, expected_lsn: Lsn) -> Result<Self, Damage> {
        let frame = Self::parse(rest)?;
        let expected = frame.computed_crc(salt);
        if expected != frame.crc() && !is(Break::WalkWithoutChecksum) {
            return Err(Damage::Checksum { expected, found: frame.crc() });
        }
        if frame.lsn() != expected_lsn && !is(Break::LsnUnchecked) {
            return Err(Damage::FrameLsn { expected: expected_lsn, found: frame.lsn() });
        }
        let padding = &rest[frame.bytes.len()..frame.padded_len()];
        if frame.header.flags & !FLAG_BATCH_CONTINUES != 0 || padding.iter().any(|&b| b != 0) {
            return Err(Damage::Reserved);
        }
        Ok(frame)
    }

    /// Length and checksum that the header at the start of `bytes` states, if it could be a frame's.
    #[inline]
    pub(crate) fn stated(bytes: &[u8]) -> Option<(u32, u32)> {
        let (header, _) = FrameHeader::ref_from_prefix(bytes).ok()?;
        let len = header.len.get();
        let plausible = len as usize >= HEADER_LEN && FrameKind::from_code(header.kind).is_some();
        plausible.then_some((len, header.crc.get()))
    }

    #[inline]
    pub(crate) fn computed_crc(&self, salt: u32) -> u32 {
        checksum(salt, self.header.len.get(), &self.bytes[COMMIT_WORD_LEN..])
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

    #[inline]
    pub(crate) fn crc(&self) -> u32 {
        self.header.crc.get()
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
            let frame = Frame::parse_checked(&bytes, SALT, Lsn(5)).expect("valid frame");
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
            assert!(Frame::parse_checked(&bytes, SALT, Lsn(5)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_salt_or_number_is_refused() {
        let bytes = encoded(b"x");
        assert!(matches!(Frame::parse_checked(&bytes, SALT + 1, Lsn(5)), Err(Damage::Checksum { .. })));
        assert!(matches!(Frame::parse_checked(&bytes, SALT, Lsn(6)), Err(Damage::FrameLsn { .. })));
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
