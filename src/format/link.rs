//! Contents of the frames by which the log ties its segments together: link, seal, truncate, close, metadata.

use std::mem::size_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::frame::{HEADER_LEN, padded};
use super::{META_LEN_MAX, META_SLOTS};
use crate::error::Damage;
use crate::lsn::Lsn;

/// The longest link frame: every metadata slot full.
pub(crate) const FRAME_LEN_MAX: usize =
    HEADER_LEN + size_of::<LinkHeader>() + META_SLOTS * (size_of::<MetaHeader>() + META_LEN_MAX);
/// A seal frame, whose room is always kept.
pub(crate) const SEAL_FRAME_LEN: usize = padded(HEADER_LEN + size_of::<U64>());

/// The place where a segment's predecessor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Predecessor {
    pub(crate) number: u64,
    /// Byte offset behind its last frame that counts.
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
    reserved: u8,
    len: U16,
}

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

    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Damage> {
        let (header, slots) = LinkHeader::ref_from_prefix(payload).map_err(|_| Damage::FrameContents)?;
        let previous = match header.previous_number.get() {
            0 if header.previous_end.get() != 0 || header.previous_crc.get() != 0 => return Err(Damage::FrameContents),
            0 => None,
            number => Some(Predecessor { number, end: header.previous_end.get(), crc: header.previous_crc.get() }),
        };
        let meta = MetaSlots::parse(header.meta_count.get(), slots)?;
        Ok(Self { previous, oldest: header.oldest.get(), meta })
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CloseHeader {
    meta_count: U32,
    reserved: U32,
}

/// The payload of a close: the metadata slots as they stand.
pub(crate) fn encode_close(meta: &MetaSlots) -> Vec<u8> {
    let mut bytes = CloseHeader { meta_count: meta.count().into(), reserved: 0.into() }.as_bytes().to_vec();
    meta.encode(&mut bytes);
    bytes
}

/// The metadata slots that a close carries; `None` if there was no room for them.
pub(crate) fn parse_close(payload: &[u8]) -> Result<Option<MetaSlots>, Damage> {
    if payload.is_empty() {
        return Ok(None);
    }
    match CloseHeader::ref_from_prefix(payload) {
        Ok((header, slots)) if header.reserved.get() == 0 => MetaSlots::parse(header.meta_count.get(), slots).map(Some),
        _ => Err(Damage::FrameContents),
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

    fn encode(&self, bytes: &mut Vec<u8>) {
        for (slot, value) in self.iter() {
            bytes.extend_from_slice(&encode_meta(slot, value));
        }
    }

    /// Of `count` slots and their values, in order, which are all of `bytes`.
    fn parse(count: u32, mut bytes: &[u8]) -> Result<Self, Damage> {
        if count as usize > META_SLOTS {
            return Err(Damage::FrameContents);
        }
        let mut meta = Self::default();
        let mut free = 0;
        for _ in 0..count {
            let (slot, value, behind) = split_meta(bytes)?;
            if slot < free {
                return Err(Damage::FrameContents);
            }
            meta.set(slot, value);
            (free, bytes) = (slot + 1, behind);
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
    debug_assert!(slot < META_SLOTS && value.len() <= META_LEN_MAX);
    let len = u16::try_from(value.len()).expect("bounded by the caller");
    let slot = u8::try_from(slot).expect("bounded by the caller");
    let mut bytes = MetaHeader { slot, reserved: 0, len: len.into() }.as_bytes().to_vec();
    bytes.extend_from_slice(value);
    bytes
}

/// Slot and value of a metadata frame.
pub(crate) fn parse_meta(payload: &[u8]) -> Result<(usize, &[u8]), Damage> {
    match split_meta(payload)? {
        (slot, value, []) => Ok((slot, value)),
        _ => Err(Damage::FrameContents),
    }
}

fn split_meta(bytes: &[u8]) -> Result<(usize, &[u8], &[u8]), Damage> {
    let (header, rest) = MetaHeader::ref_from_prefix(bytes).map_err(|_| Damage::FrameContents)?;
    let (slot, len) = (usize::from(header.slot), usize::from(header.len.get()));
    if slot >= META_SLOTS || len > META_LEN_MAX || header.reserved != 0 {
        return Err(Damage::FrameContents);
    }
    let (value, rest) = rest.split_at_checked(len).ok_or(Damage::FrameContents)?;
    Ok((slot, value, rest))
}

/// The payload of a frame that carries one number: a seal (the next segment's) or a truncate (the last LSN kept).
pub(crate) fn encode_number(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

pub(crate) fn parse_number(payload: &[u8]) -> Result<u64, Damage> {
    payload.try_into().map(u64::from_le_bytes).map_err(|_| Damage::FrameContents)
}

/// Where a segment's frames end, and the number behind its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    /// Byte offset behind the last frame.
    pub(crate) offset: u64,
    /// The LSN of the next record, which is in a later segment.
    pub(crate) next_lsn: Lsn,
    /// The last frame's checksum.
    pub(crate) crc: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_as_it_was_written() {
        let mut link =
            Link { previous: Some(Predecessor { number: 3, end: 8192, crc: 77 }), oldest: 2, ..Link::default() };
        link.meta.set(0, b"vote");
        link.meta.set(15, &[9; META_LEN_MAX]);
        assert_eq!(Link::parse(&link.encode()), Ok(link));
        assert_eq!(Link::parse(&Link::default().encode()), Ok(Link::default()));
    }

    #[test]
    fn a_close_is_read_as_it_was_written() {
        let mut meta = MetaSlots::default();
        assert_eq!(parse_close(&encode_close(&meta)), Ok(Some(meta.clone())));
        meta.set(3, b"vote");
        let close = encode_close(&meta);
        assert_eq!(parse_close(&close), Ok(Some(meta)));
        assert_eq!(parse_close(&[]), Ok(None));
        for len in 1..close.len() {
            assert_eq!(parse_close(&close[..len]), Err(Damage::FrameContents), "{len} bytes");
        }
        let mut reserved = close;
        reserved[4] = 1;
        assert_eq!(parse_close(&reserved), Err(Damage::FrameContents));
    }

    #[test]
    fn a_full_link_has_the_stated_length() {
        let mut link = Link::default();
        (0..META_SLOTS).for_each(|slot| link.meta.set(slot, &[1; META_LEN_MAX]));
        assert_eq!(HEADER_LEN + link.encode().len(), FRAME_LEN_MAX);
    }

    #[test]
    fn lying_counts_and_lengths_are_refused() {
        let mut link = Link::default();
        link.meta.set(1, b"abc");
        let good = link.encode();
        assert_eq!(Link::parse(&good[..good.len() - 1]), Err(Damage::FrameContents));
        let mut many = good.clone();
        many[20] = 17;
        assert_eq!(Link::parse(&many), Err(Damage::FrameContents));
        let mut slot = good.clone();
        slot[size_of::<LinkHeader>()] = 16;
        assert_eq!(Link::parse(&slot), Err(Damage::FrameContents));
        // An end, and a checksum, of no segment.
        for byte in [8, 16] {
            let mut nowhere = good.clone();
            nowhere[byte] = 1;
            assert_eq!(Link::parse(&nowhere), Err(Damage::FrameContents));
        }
        assert_eq!(parse_number(&[0; 7]), Err(Damage::FrameContents));
    }
}
