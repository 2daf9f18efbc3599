//! The first 4096 bytes of a segment: whose it is, and which.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::VERSION;
use crate::error::Damage;

/// Bytes that a header takes; the first frame follows.
pub(crate) const LEN: usize = 4096;
const MAGIC: [u8; 8] = *b"mapwal\r\n";

/// Written once when the segment is prepared, and never again.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SegmentHeader {
    magic: [u8; 8],
    version: U32,
    salt: U32,
    segment_size: U64,
    number: U64,
    log_id: [u8; 16],
    created_unix_ms: U64,
    crc: U32,
    reserved: [u8; RESERVED_LEN],
}

const FIELDS_LEN: usize = 60;
const RESERVED_LEN: usize = LEN - FIELDS_LEN;
const _: () = assert!(size_of::<SegmentHeader>() == LEN);
const _: () = assert!(offset_of!(SegmentHeader, reserved) == FIELDS_LEN);
const _: () = assert!(offset_of!(SegmentHeader, crc) == 56);

/// Why a header is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Version(u32),
    Damaged { offset: usize, damage: Damage },
}

impl SegmentHeader {
    pub(crate) fn new(log_id: u128, number: u64, segment_size: u64, salt: u32, created_unix_ms: u64) -> Self {
        let mut header = Self {
            magic: MAGIC,
            version: VERSION.into(),
            salt: salt.into(),
            segment_size: segment_size.into(),
            number: number.into(),
            log_id: log_id.to_le_bytes(),
            created_unix_ms: created_unix_ms.into(),
            crc: 0.into(),
            reserved: [0; RESERVED_LEN],
        };
        header.crc = header.computed_crc().into();
        header
    }

    /// The header in `bytes`, checked for itself; the caller compares it with the file's name, length and log.
    pub(crate) fn parse(bytes: &[u8; LEN]) -> Result<&Self, HeaderFault> {
        let header = zerocopy::transmute_ref!(bytes);
        let damaged = |offset, damage| Err(HeaderFault::Damaged { offset, damage });
        let Self { magic, version, segment_size, crc, reserved, .. } = header;
        if *magic != MAGIC {
            return damaged(offset_of!(Self, magic), Damage::Magic);
        }
        let expected = header.computed_crc();
        if crc.get() != expected {
            // A later version may lay out its checksum elsewhere, so the version is what is wrong if it is unknown.
            return if version.get() == VERSION {
                damaged(offset_of!(Self, crc), Damage::Checksum { expected, found: crc.get() })
            } else {
                Err(HeaderFault::Version(version.get()))
            };
        }
        if version.get() != VERSION {
            return Err(HeaderFault::Version(version.get()));
        }
        if !super::segment_size_is_valid(segment_size.get()) {
            return damaged(offset_of!(Self, segment_size), Damage::SegmentSize(segment_size.get()));
        }
        if let Some(at) = reserved.iter().position(|&b| b != 0) {
            return damaged(FIELDS_LEN + at, Damage::Reserved);
        }
        Ok(header)
    }

    fn computed_crc(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..offset_of!(Self, crc)])
    }

    pub(crate) fn number(&self) -> u64 {
        self.number.get()
    }

    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_size.get()
    }

    pub(crate) fn salt(&self) -> u32 {
        self.salt.get()
    }

    pub(crate) fn log_id(&self) -> u128 {
        u128::from_le_bytes(self.log_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> [u8; LEN] {
        zerocopy::transmute!(SegmentHeader::new(0x1122, 7, 1 << 16, 0xdead_beef, 1_700_000_000_000))
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let bytes = bytes();
        let header = SegmentHeader::parse(&bytes).expect("valid header");
        assert_eq!(
            (header.log_id(), header.number(), header.segment_size(), header.salt()),
            (0x1122, 7, 1 << 16, 0xdead_beef)
        );
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_refused() {
        for bit in 0..LEN * 8 {
            let mut bytes = bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::parse(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_version_is_told_apart_from_damage() {
        let mut header: SegmentHeader = zerocopy::transmute!(bytes());
        header.version = (VERSION + 1).into();
        header.crc = header.computed_crc().into();
        let bytes: [u8; LEN] = zerocopy::transmute!(header);
        assert_eq!(SegmentHeader::parse(&bytes).err(), Some(HeaderFault::Version(VERSION + 1)));
    }
}
