//! The first 4096 bytes of a segment: whose it is, which, and how the rest is to be read.

use std::mem::{offset_of, size_of};
use std::path::Path;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{OLDEST_VERSION, VERSION, Version};
use crate::error::{Damage, Error, FormatFault};

/// Bytes that a header takes; the first frame follows.
pub(crate) const LEN: usize = 4096;
const MAGIC: [u8; 8] = *b"mapwal\r\n";

/// Whether `bytes`, all that a file has, may be the beginning of a segment.
pub(crate) fn may_begin_with(bytes: &[u8]) -> bool {
    let len = bytes.len().min(MAGIC.len());
    bytes[..len] == MAGIC[..len]
}
/// A bit of `incompatible`: the file has been another segment before, and what its device holds after the last frame may be
/// anything.
const FEATURE_RECYCLED: u32 = 1;
/// Odd, so that no two numbers of a log have the same salt.
const SALT_FACTOR: u32 = 0x9e37_79b1;
const _: () = assert!(SALT_FACTOR % 2 == 1);

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
    /// Features that a reader must know. In version 2 the checksum of what comes before.
    incompatible: U32,
    /// Features that a writer must know.
    read_only: U32,
    /// Features that no program needs to know.
    compatible: U32,
    reserved: [u8; RESERVED_LEN],
    crc: U32,
}

const FIELDS_LEN: usize = 68;
const RESERVED_LEN: usize = LEN - FIELDS_LEN - size_of::<U32>();
const _: () = assert!(size_of::<SegmentHeader>() == LEN);
const _: () = assert!(offset_of!(SegmentHeader, reserved) == FIELDS_LEN);
const _: () = assert!(offset_of!(SegmentHeader, crc) == LEN - 4);
/// Where version 2 has its checksum, and what comes after it there.
const CRC_OFFSET_V2: usize = offset_of!(SegmentHeader, incompatible);
const FIELDS_LEN_V2: usize = CRC_OFFSET_V2 + 4;
const _: () = assert!(CRC_OFFSET_V2 == 56);

/// How the frames of a segment are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) version: Version,
    /// Goes into the checksum of every frame.
    pub(crate) salt: u32,
    /// What the device holds after the last frame may be anything, and proves nothing.
    pub(crate) is_recycled: bool,
}

/// Why a header is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Version(u32),
    /// Features, as bits, that a reader must know and this one does not.
    Features(u32),
    Damaged {
        offset: usize,
        damage: Damage,
    },
}

impl HeaderFault {
    /// The error for the segment in file `path`.
    pub(crate) fn into_error(self, path: &Path) -> Error {
        let format = |fault| Error::Format { path: path.to_owned(), fault };
        match self {
            Self::Version(found) => format(FormatFault::Version { found, supported: VERSION }),
            Self::Features(unknown) => format(FormatFault::Features { unknown }),
            Self::Damaged { offset, damage } => Error::corrupt(path, offset as u64, None, damage),
        }
    }
}

impl SegmentHeader {
    pub(crate) fn new(log_id: u128, number: u64, segment_size: u64, created_unix_ms: u64) -> Self {
        let mut header = Self {
            magic: MAGIC,
            version: VERSION.into(),
            salt: salt_of(log_id, number).into(),
            segment_size: segment_size.into(),
            number: number.into(),
            log_id: log_id.to_le_bytes(),
            created_unix_ms: created_unix_ms.into(),
            incompatible: 0.into(),
            read_only: 0.into(),
            compatible: 0.into(),
            reserved: [0; RESERVED_LEN],
            crc: 0.into(),
        };
        header.seal();
        header
    }

    /// The same, for a file that has been another segment before.
    pub(crate) fn recycled(mut self) -> Self {
        self.incompatible = FEATURE_RECYCLED.into();
        self.seal();
        self
    }

    fn seal(&mut self) {
        self.crc = self.computed_crc().into();
    }

    /// The header in `bytes`, checked for itself; the caller compares it with the file's name, length and log.
    pub(crate) fn parse(bytes: &[u8; LEN]) -> Result<&Self, HeaderFault> {
        let header: &Self = zerocopy::transmute_ref!(bytes);
        let damaged = |offset, damage| Err(HeaderFault::Damaged { offset, damage });
        if header.magic != MAGIC {
            return damaged(offset_of!(Self, magic), Damage::Magic);
        }
        let found = header.version.get();
        // With a known version put in its place: should the checksum be right then, the version is what is damaged.
        let borne_out = [VERSION, OLDEST_VERSION].into_iter().find(|&version| header.is_whole_as(version));
        match borne_out {
            Some(version) if version != found => {
                return damaged(offset_of!(Self, version), Damage::HeaderVersion(found));
            }
            Some(_) => {}
            None if found == VERSION => {
                let (expected, found) = (header.computed_crc(), header.crc.get());
                return damaged(offset_of!(Self, crc), Damage::Checksum { expected, found });
            }
            None if found == OLDEST_VERSION => {
                let (expected, found) = (header.computed_crc_v2(), header.incompatible.get());
                return damaged(CRC_OFFSET_V2, Damage::Checksum { expected, found });
            }
            // A later version may have its checksum elsewhere.
            None => return Err(HeaderFault::Version(found)),
        }
        // Before anything that a feature may give another meaning.
        let unknown = if found == VERSION { header.incompatible.get() & !FEATURE_RECYCLED } else { 0 };
        if unknown != 0 {
            return Err(HeaderFault::Features(unknown));
        }
        if !super::segment_size_is_valid(header.segment_size()) {
            return damaged(offset_of!(Self, segment_size), Damage::SegmentSize(header.segment_size()));
        }
        if found == VERSION {
            return Ok(header);
        }
        match bytes[FIELDS_LEN_V2..].iter().position(|&b| b != 0) {
            Some(at) => damaged(FIELDS_LEN_V2 + at, Damage::Reserved),
            None => Ok(header),
        }
    }

    /// Whether it is a whole header of version `version` but for the version that it states.
    fn is_whole_as(&self, version: u32) -> bool {
        let mut other = self.clone();
        other.version = version.into();
        if version == OLDEST_VERSION {
            return other.computed_crc_v2() == self.incompatible.get();
        }
        other.computed_crc() == self.crc.get()
    }

    fn computed_crc(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..offset_of!(Self, crc)])
    }

    fn computed_crc_v2(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..CRC_OFFSET_V2])
    }

    pub(crate) fn number(&self) -> u64 {
        self.number.get()
    }

    pub(crate) fn segment_size(&self) -> u64 {
        self.segment_size.get()
    }

    pub(crate) fn log_id(&self) -> u128 {
        u128::from_le_bytes(self.log_id)
    }

    /// How the frames that follow are to be read.
    pub(crate) fn layout(&self) -> Layout {
        let is_current = self.version.get() == VERSION;
        Layout {
            version: if is_current { Version::V3 } else { Version::V2 },
            salt: self.salt.get(),
            is_recycled: is_current && self.incompatible.get() & FEATURE_RECYCLED != 0,
        }
    }

    /// Features, as bits, that a writer must know and this one does not.
    pub(crate) fn unknown_to_writers(&self) -> u32 {
        if self.version.get() == VERSION { self.read_only.get() } else { 0 }
    }
}

/// The salt of segment `number` of a log: no other number of it, below 2^32, has the same. So a frame that an earlier life
/// of the file has left is refused for certain: its bytes are the same, and its checksum would have to be another.
pub(crate) fn salt_of(log_id: u128, number: u64) -> u32 {
    crc32fast::hash(&log_id.to_le_bytes()).wrapping_add((number as u32).wrapping_mul(SALT_FACTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> [u8; LEN] {
        zerocopy::transmute!(SegmentHeader::new(0x1122, 7, 1 << 16, 1_700_000_000_000))
    }

    /// A header that version 2 has written.
    fn bytes_v2() -> [u8; LEN] {
        let mut header: SegmentHeader = zerocopy::transmute!(bytes());
        (header.version, header.crc) = (2.into(), 0.into());
        header.incompatible = header.computed_crc_v2().into();
        zerocopy::transmute!(header)
    }

    /// What parsing says of a header of version 3 that has been changed, with its checksum made right again.
    fn changed(change: impl FnOnce(&mut SegmentHeader)) -> Result<Layout, HeaderFault> {
        let mut header: SegmentHeader = zerocopy::transmute!(bytes());
        change(&mut header);
        header.seal();
        let bytes: [u8; LEN] = zerocopy::transmute!(header);
        SegmentHeader::parse(&bytes).map(SegmentHeader::layout)
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        for (bytes, version) in [(bytes(), Version::V3), (bytes_v2(), Version::V2)] {
            let header = SegmentHeader::parse(&bytes).expect("valid header");
            assert_eq!((header.log_id(), header.number(), header.segment_size()), (0x1122, 7, 1 << 16));
            assert_eq!(header.layout(), Layout { version, salt: salt_of(0x1122, 7), is_recycled: false });
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_damage() {
        for good in [bytes(), bytes_v2()] {
            for bit in 0..LEN * 8 {
                let mut bytes = good;
                bytes[bit / 8] ^= 1 << (bit % 8);
                let fault = SegmentHeader::parse(&bytes).err();
                assert!(matches!(fault, Some(HeaderFault::Damaged { .. })), "bit {bit}: {fault:?}");
            }
        }
    }

    #[test]
    fn another_version_is_told_apart_from_damage() {
        for version in [1, VERSION + 1, u32::MAX] {
            assert_eq!(changed(|header| header.version = version.into()), Err(HeaderFault::Version(version)));
            // Wherever it has its checksum.
            let mut bytes = bytes();
            bytes[8..12].copy_from_slice(&version.to_le_bytes());
            bytes[100] = 1;
            assert_eq!(SegmentHeader::parse(&bytes).err(), Some(HeaderFault::Version(version)));
        }
    }

    #[test]
    fn features_are_refused_by_versions_that_must_know_them() {
        assert!(changed(|header| header.incompatible = FEATURE_RECYCLED.into()).expect("known").is_recycled);
        assert_eq!(changed(|header| header.incompatible = 0x8001.into()), Err(HeaderFault::Features(0x8000)));
        for readable in [changed(|header| header.compatible = 1.into()), changed(|header| header.reserved[99] = 1)] {
            assert!(!readable.expect("readable").is_recycled);
        }
        let mut header: SegmentHeader = zerocopy::transmute!(bytes());
        header.read_only = 4.into();
        header.seal();
        let bytes: [u8; LEN] = zerocopy::transmute!(header);
        assert_eq!(SegmentHeader::parse(&bytes).map(SegmentHeader::unknown_to_writers), Ok(4));
    }

    #[test]
    fn no_two_numbers_of_a_log_have_the_same_salt() {
        let mut salts: Vec<u32> =
            (1..100_000).chain(u64::from(u32::MAX) - 1000..1 << 32).map(|n| salt_of(77, n)).collect();
        let count = salts.len();
        salts.sort_unstable();
        salts.dedup();
        assert_eq!(salts.len(), count);
        assert_ne!(salt_of(77, 1), salt_of(78, 1));
    }
}
