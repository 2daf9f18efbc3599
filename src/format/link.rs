//! Contents of the frames by which the log ties its segments together: link, seal, truncate, close, metadata.

use std::mem::size_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::frame::{HEADER_LEN, padded};
use super::tally::{self, Tally};
use super::{META_SLOTS, Version};
use crate::error::Damage;
use crate::lsn::Lsn;

/// A seal frame, whose room is always kept.
pub(crate) const SEAL_FRAME_LEN: usize = padded(HEADER_LEN + size_of::<U64>() + tally::LEN);
/// The frame of a truncation.
pub(crate) const TRUNCATE_FRAME_LEN: usize = padded(HEADER_LEN + size_of::<U64>());
/// Bytes before the value of a metadata slot.
pub(crate) const META_HEAD_LEN: usize = size_of::<MetaHeader>();

/// The length of a link frame whose metadata takes `meta_len` bytes, heads included.
pub(crate) const fn frame_len(meta_len: usize) -> usize {
    padded(HEADER_LEN + size_of::<LinkHeader>() + meta_len)
}

/// The place where a segment's predecessor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Predecessor {
    pub(crate) number: u64,
    /// Byte offset after its last frame that counts.
    pub(crate) end: u64,
    /// Checksum of that last frame.
    pub(crate) crc: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct LinkHeader {
    previous_number: U64,
    previous_end: U64,
    previous_crc: U32,
    meta_count: U32,
    oldest: U64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MetaHeader {
    slot: u8,
    reserved: [u8; 3],
    len: U32,
}

/// In version 2.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MetaHeaderV2 {
    slot: u8,
    reserved: u8,
    len: U16,
}

/// The longest value in version 2.
const META_LEN_MAX_V2: usize = 256;

/// What a link frame says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Link {
    /// `None` in the first segment of a log, and after a reset.
    pub(crate) previous: Option<Predecessor>,
    /// The oldest segment still retained when the link was written.
    pub(crate) oldest: u64,
    /// The metadata slots as they stood.
    pub(crate) meta: MetaSlots,
}

impl Link {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let previous = self.previous.unwrap_or(Predecessor { number: 0, end: 0, crc: 0 });
        let header = LinkHeader {
            previous_number: previous.number.into(),
            previous_end: previous.end.into(),
            previous_crc: previous.crc.into(),
            meta_count: self.meta.count().into(),
            oldest: self.oldest.into(),
        };
        let mut bytes = header.as_bytes().to_vec();
        self.meta.encode(&mut bytes);
        bytes
    }

    pub(crate) fn parse(payload: &[u8], version: Version) -> Result<Self, Damage> {
        let (header, slots) = LinkHeader::ref_from_prefix(payload).map_err(|_| Damage::FrameContents)?;
        let previous = match header.previous_number.get() {
            0 if header.previous_end.get() != 0 || header.previous_crc.get() != 0 => return Err(Damage::FrameContents),
            0 => None,
            number => Some(Predecessor { number, end: header.previous_end.get(), crc: header.previous_crc.get() }),
        };
        let meta = MetaSlots::parse(header.meta_count.get(), slots, version)?;
        Ok(Self { previous, oldest: header.oldest.get(), meta })
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CloseHeader {
    meta_count: U32,
    reserved: U32,
}

/// What a close says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Close {
    /// What the frames before it come to, if it says so.
    pub(crate) tally: Option<Tally>,
    /// The metadata slots as they stood; `None` if there was no room for them.
    pub(crate) meta: Option<MetaSlots>,
}

impl Close {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Tally::encode(self.tally).to_vec();
        if let Some(meta) = &self.meta {
            bytes.extend_from_slice(CloseHeader { meta_count: meta.count().into(), reserved: 0.into() }.as_bytes());
            meta.encode(&mut bytes);
        }
        bytes
    }

    pub(crate) fn parse(payload: &[u8], version: Version) -> Result<Self, Damage> {
        let (tally, slots) = match version {
            Version::V2 => (None, payload),
            Version::V3 => Tally::split(payload)?,
        };
        if slots.is_empty() {
            return Ok(Self { tally, meta: None });
        }
        match CloseHeader::ref_from_prefix(slots) {
            Ok((header, slots)) if header.reserved.get() == 0 => {
                let meta = MetaSlots::parse(header.meta_count.get(), slots, version)?;
                Ok(Self { tally, meta: Some(meta) })
            }
            _ => Err(Damage::FrameContents),
        }
    }
}

/// What a seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The number of the next segment, which was there, durably, before the seal was.
    pub(crate) next: u64,
    /// What the frames before it come to, if it says so.
    pub(crate) tally: Option<Tally>,
}

impl Seal {
    pub(crate) fn encode(self) -> Vec<u8> {
        [&self.next.to_le_bytes()[..], &Tally::encode(self.tally)].concat()
    }

    pub(crate) fn parse(payload: &[u8], version: Version) -> Result<Self, Damage> {
        let (next, rest) = payload.split_first_chunk().ok_or(Damage::FrameContents)?;
        let (tally, rest) = if version == Version::V2 { (None, rest) } else { Tally::split(rest)? };
        if rest.is_empty() { Ok(Self { next: u64::from_le_bytes(*next), tally }) } else { Err(Damage::FrameContents) }
    }

    /// Whether the segment `next` that a seal of `version` names has a file, unless that was lost: in version 3 it was there, durably,
    /// before the seal was written. In version 2, and where the seal `is_copied`, only the control page tells that it was used, by
    /// `active`, the newest that was.
    pub(crate) fn has_successor(version: Version, is_copied: bool, next: u64, active: Option<u64>) -> bool {
        (version >= Version::V3 && !is_copied) || active.is_some_and(|active| next <= active)
    }
}

/// The values of a log's metadata slots.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MetaSlots([Option<Box<[u8]>>; META_SLOTS]);

impl MetaSlots {
    pub(crate) fn get(&self, slot: usize) -> Option<&[u8]> {
        self.0.get(slot)?.as_deref()
    }

    /// `slot` is below [`META_SLOTS`].
    pub(crate) fn set(&mut self, slot: usize, value: &[u8]) {
        self.0[slot] = Some(value.into());
    }

    fn count(&self) -> u32 {
        self.iter().map(|_| 1).sum()
    }

    /// The bytes that they take, heads included.
    pub(crate) fn encoded_len(&self) -> usize {
        self.iter().map(|(_, value)| META_HEAD_LEN + value.len()).sum()
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        for (slot, value) in self.iter() {
            bytes.extend_from_slice(&encode_meta(slot, value));
        }
    }

    /// Of `count` slots and their values, in order, which are all of `bytes`.
    fn parse(count: u32, mut bytes: &[u8], version: Version) -> Result<Self, Damage> {
        if count as usize > META_SLOTS {
            return Err(Damage::FrameContents);
        }
        let mut meta = Self::default();
        let mut free = 0;
        for _ in 0..count {
            let (slot, value, rest) = split_meta(bytes, version)?;
            if slot < free {
                return Err(Damage::FrameContents);
            }
            meta.set(slot, value);
            (free, bytes) = (slot + 1, rest);
        }
        if bytes.is_empty() { Ok(meta) } else { Err(Damage::FrameContents) }
    }

    /// Slots that have a value.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.0.iter().enumerate().filter_map(|(slot, value)| Some((slot, value.as_deref()?)))
    }
}

/// The payload of a metadata frame.
pub(crate) fn encode_meta(slot: usize, value: &[u8]) -> Vec<u8> {
    debug_assert!(slot < META_SLOTS);
    let len = u32::try_from(value.len()).expect("bounded by the caller");
    let slot = u8::try_from(slot).expect("bounded by the caller");
    let mut bytes = MetaHeader { slot, reserved: [0; 3], len: len.into() }.as_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes
}

/// Slot and value of a metadata frame.
pub(crate) fn parse_meta(payload: &[u8], version: Version) -> Result<(usize, &[u8]), Damage> {
    match split_meta(payload, version)? {
        (slot, value, []) => Ok((slot, value)),
        _ => Err(Damage::FrameContents),
    }
}

fn split_meta(bytes: &[u8], version: Version) -> Result<(usize, &[u8], &[u8]), Damage> {
    let (slot, len, is_well_formed, rest) = match version {
        Version::V2 => {
            let (header, rest) = MetaHeaderV2::ref_from_prefix(bytes).map_err(|_| Damage::FrameContents)?;
            let len = usize::from(header.len.get());
            (header.slot, len, header.reserved == 0 && len <= META_LEN_MAX_V2, rest)
        }
        Version::V3 => {
            let (header, rest) = MetaHeader::ref_from_prefix(bytes).map_err(|_| Damage::FrameContents)?;
            (header.slot, header.len.get() as usize, header.reserved == [0; 3], rest)
        }
    };
    if usize::from(slot) >= META_SLOTS || !is_well_formed {
        return Err(Damage::FrameContents);
    }
    let (value, rest) = rest.split_at_checked(len).ok_or(Damage::FrameContents)?;
    Ok((slot.into(), value, rest))
}

/// The payload of a truncation: the last record kept.
pub(crate) fn encode_number(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

pub(crate) fn parse_number(payload: &[u8]) -> Result<u64, Damage> {
    payload.try_into().map(u64::from_le_bytes).map_err(|_| Damage::FrameContents)
}

/// Where a segment's frames end, and the number after its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    /// Byte offset after the last frame.
    pub(crate) offset: u64,
    /// The LSN of the next record, which is in a later segment.
    pub(crate) next_lsn: Lsn,
    /// The last frame's checksum.
    pub(crate) crc: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &[u8] = &[9; 70_000];

    fn meta(slots: &[(usize, &[u8])]) -> MetaSlots {
        let mut meta = MetaSlots::default();
        for (slot, value) in slots {
            meta.set(*slot, value);
        }
        meta
    }

    fn tally_to(end: u64) -> Tally {
        let mut tally = Tally::START;
        tally.end = end;
        tally
    }

    #[test]
    fn a_link_is_read_as_it_was_written() {
        let previous = Some(Predecessor { number: 3, end: 8192, crc: 77 });
        let link = Link { previous, oldest: 2, meta: meta(&[(0, b"vote"), (15, LONG)]) };
        assert_eq!(HEADER_LEN + link.encode().len(), HEADER_LEN + 32 + link.meta.encoded_len());
        assert_eq!(Link::parse(&link.encode(), Version::V3), Ok(link));
        assert_eq!(Link::parse(&Link::default().encode(), Version::V3), Ok(Link::default()));
    }

    #[test]
    fn a_close_is_read_as_it_was_written() {
        let tally = Some(tally_to(8192));
        for close in [
            Close { tally, meta: Some(meta(&[(3, b"vote")])) },
            Close { tally: None, meta: Some(MetaSlots::default()) },
            Close { tally, meta: None },
        ] {
            let bytes = close.encode();
            assert_eq!(Close::parse(&bytes, Version::V3), Ok(close.clone()));
            for len in (0..bytes.len()).filter(|&len| len != tally::LEN) {
                assert_eq!(Close::parse(&bytes[..len], Version::V3), Err(Damage::FrameContents), "{len} bytes");
            }
        }
        assert_eq!(Close::parse(&[], Version::V2), Ok(Close::default()));
        let mut reserved = Close { tally, meta: Some(MetaSlots::default()) }.encode();
        reserved[tally::LEN + 4] = 1;
        assert_eq!(Close::parse(&reserved, Version::V3), Err(Damage::FrameContents));
    }

    #[test]
    fn a_seal_is_read_as_it_was_written() {
        for tally in [None, Some(tally_to(1 << 32))] {
            let seal = Seal { next: 7, tally };
            let bytes = seal.encode();
            assert_eq!(Seal::parse(&bytes, Version::V3), Ok(seal));
            assert_eq!(padded(HEADER_LEN + bytes.len()), SEAL_FRAME_LEN);
            assert_eq!(Seal::parse(&bytes[..bytes.len() - 1], Version::V3), Err(Damage::FrameContents));
            assert_eq!(Seal::parse(&bytes, Version::V2), Err(Damage::FrameContents));
        }
        assert_eq!(Seal::parse(&7_u64.to_le_bytes(), Version::V2), Ok(Seal { next: 7, tally: None }));
        // What says nothing of where it ends says nothing.
        let mut nowhere = Seal { next: 7, tally: None }.encode();
        nowhere[16] = 1;
        assert_eq!(Seal::parse(&nowhere, Version::V3), Err(Damage::FrameContents));
    }

    #[test]
    fn metadata_of_version_2_is_read() {
        let bytes = [1, 0, 4, 0, b'v', b'o', b't', b'e'];
        assert_eq!(parse_meta(&bytes, Version::V2), Ok((1, &b"vote"[..])));
        assert_eq!(parse_meta(&bytes, Version::V3), Err(Damage::FrameContents));
        assert_eq!(parse_meta(&encode_meta(1, LONG), Version::V3), Ok((1, LONG)));
    }

    #[test]
    fn lying_counts_and_lengths_are_refused() {
        let good = Link { meta: meta(&[(1, b"abc")]), ..Link::default() }.encode();
        let refused = |bytes: &[u8]| Link::parse(bytes, Version::V3) == Err(Damage::FrameContents);
        assert!(refused(&good[..good.len() - 1]));
        let changed = |at: usize, byte| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let head = size_of::<LinkHeader>();
        // A count, a slot, reserved bytes, a length; an end, and a checksum, of no segment.
        for (at, byte) in [(20, 17), (head, 16), (head + 1, 1), (head + 3, 1), (head + 7, 0x80), (8, 1), (16, 1)] {
            assert!(refused(&changed(at, byte)), "byte {at}");
        }
        assert_eq!(parse_number(&[0; 7]), Err(Damage::FrameContents));
    }
}
