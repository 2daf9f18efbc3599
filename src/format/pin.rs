//! The contents of a named pin's file.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::Damage;
use crate::lsn::Lsn;

/// Bytes of the file.
pub(crate) const LEN: usize = size_of::<PinFile>();
/// The longest owner, in bytes.
pub(crate) const OWNER_LEN_MAX: usize = 64;
/// The longest name, in bytes.
pub(crate) const NAME_LEN_MAX: usize = 64;
/// The last byte is the version.
const MAGIC: [u8; 8] = *b"mapwpin1";
const FLAG_LOST: u8 = 1;
const NO_LIMIT: u64 = u64::MAX;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PinFile {
    magic: [u8; 8],
    lsn: U64,
    limit_bytes: U64,
    flags: u8,
    owner_len: u8,
    reserved: [u8; 2],
    owner: [u8; OWNER_LEN_MAX],
    crc: U32,
}

const _: () = assert!(LEN == 96 && offset_of!(PinFile, crc) == 92);

/// A named pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPin {
    pub(crate) owner: String,
    pub(crate) lsn: Lsn,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) lost: bool,
}

impl NamedPin {
    /// The owner is cut to the length that there is room for.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut owner = [0; OWNER_LEN_MAX];
        let len = (0..=OWNER_LEN_MAX.min(self.owner.len())).rev().find(|&at| self.owner.is_char_boundary(at));
        let len = len.unwrap_or(0);
        owner[..len].copy_from_slice(&self.owner.as_bytes()[..len]);
        let mut file = PinFile {
            magic: MAGIC,
            lsn: self.lsn.0.into(),
            limit_bytes: self.limit_bytes.unwrap_or(NO_LIMIT).into(),
            flags: if self.lost { FLAG_LOST } else { 0 },
            owner_len: len as u8,
            reserved: [0; 2],
            owner,
            crc: 0.into(),
        };
        file.crc = crc32fast::hash(&file.as_bytes()[..offset_of!(PinFile, crc)]).into();
        file.as_bytes().to_vec()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let file = PinFile::ref_from_bytes(bytes)
            .map_err(|_| Damage::FileLength { expected: LEN as u64, found: bytes.len() as u64 })?;
        let expected = crc32fast::hash(&bytes[..offset_of!(PinFile, crc)]);
        let [prefix @ .., version] = file.magic;
        if file.magic != MAGIC {
            let is_other_version = MAGIC.starts_with(&prefix) && file.crc.get() == expected;
            return Err(if is_other_version { Damage::UnknownVersion(version.into()) } else { Damage::Magic });
        }
        if file.crc.get() != expected {
            return Err(Damage::Checksum { expected, found: file.crc.get() });
        }
        let owner = file.owner.get(..usize::from(file.owner_len)).ok_or(Damage::Reserved)?;
        if file.reserved != [0; 2] || file.flags & !FLAG_LOST != 0 {
            return Err(Damage::Reserved);
        }
        Ok(Self {
            owner: String::from_utf8(owner.to_vec()).map_err(|_| Damage::Reserved)?,
            lsn: Lsn(file.lsn.get()),
            limit_bytes: Some(file.limit_bytes.get()).filter(|&limit| limit != NO_LIMIT),
            lost: file.flags & FLAG_LOST != 0,
        })
    }
}

/// Whether a pin may have this name: it becomes a file name.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !name.is_empty() && name.len() <= NAME_LEN_MAX && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_was_written() {
        for limit_bytes in [None, Some(1 << 30)] {
            let pin =
                NamedPin { owner: "replica at ü".into(), lsn: Lsn(77), limit_bytes, lost: limit_bytes.is_some() };
            assert_eq!(NamedPin::parse(&pin.encode()), Ok(pin));
        }
        let long = NamedPin { owner: "ü".repeat(40), lsn: Lsn(1), limit_bytes: None, lost: false };
        assert_eq!(NamedPin::parse(&long.encode()).map(|pin| pin.owner), Ok("ü".repeat(32)));
    }

    #[test]
    fn every_flipped_bit_of_a_pin_is_noticed() {
        let good = NamedPin { owner: "me".into(), lsn: Lsn(7), limit_bytes: None, lost: false }.encode();
        for bit in 0..LEN * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(NamedPin::parse(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_pin_of_another_version_is_told_apart_from_damage() {
        let mut other = NamedPin { owner: "me".into(), lsn: Lsn(7), limit_bytes: None, lost: false }.encode();
        other[7] = b'2';
        assert_eq!(NamedPin::parse(&other), Err(Damage::Magic));
        let crc = crc32fast::hash(&other[..92]);
        other[92..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(NamedPin::parse(&other), Err(Damage::UnknownVersion(b'2'.into())));
    }

    #[test]
    fn a_name_cannot_lead_anywhere_else() {
        assert!(is_name("replica-1_A"));
        for name in ["", ".", "..", "a/b", "a.b", "ü", "a b", "a\0", &"x".repeat(65)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
