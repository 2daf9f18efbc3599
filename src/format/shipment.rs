//! The header of frames that are shipped to another log.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Version;
use super::segment_header::Layout;
use crate::lsn::Lsn;

/// Bytes of a header.
pub(crate) const HEADER_LEN: usize = size_of::<ShipmentHeader>();
const MAGIC: [u8; 4] = *b"mwf1";

/// Tells the other side what it needs to check the frames that follow.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ShipmentHeader {
    magic: [u8; 4],
    /// Of the segment that the frames come from: their checksums start with it.
    salt: U32,
    first_lsn: U64,
    len: U64,
    crc: U32,
    reserved: U32,
}

const _: () = assert!(HEADER_LEN == 32 && offset_of!(ShipmentHeader, crc) == 24);

impl ShipmentHeader {
    pub(crate) fn new(salt: u32, first_lsn: Lsn, len: usize) -> Self {
        let (salt, first_lsn, len) = (salt.into(), first_lsn.0.into(), (len as u64).into());
        let mut header = Self { magic: MAGIC, salt, first_lsn, len, crc: 0.into(), reserved: 0.into() };
        header.crc = header.computed_crc().into();
        header
    }

    /// The header at the start of `shipped`, and the frames after it; `None` if they are not what was shipped.
    pub(crate) fn split(shipped: &[u8]) -> Option<(&Self, &[u8])> {
        let (header, frames) = Self::ref_from_prefix(shipped).ok()?;
        let good = header.magic == MAGIC
            && header.crc.get() == header.computed_crc()
            && header.reserved.get() == 0
            && header.len.get() == frames.len() as u64;
        good.then_some((header, frames))
    }

    fn computed_crc(&self) -> u32 {
        crc32fast::hash(&self.as_bytes()[..offset_of!(Self, crc)])
    }

    /// How the frames are to be read, those that are records.
    pub(crate) fn layout(&self) -> Layout {
        Layout { version: Version::V3, salt: self.salt.get(), is_recycled: false }
    }

    pub(crate) fn first_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.get())
    }

    /// The length of the frames that follow, in bytes, if this is the header of a shipment.
    pub(crate) fn frames_len(header: &[u8; HEADER_LEN]) -> Option<u64> {
        let header: &Self = zerocopy::transmute_ref!(header);
        (header.magic == MAGIC && header.crc.get() == header.computed_crc()).then(|| header.len.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let mut shipped = ShipmentHeader::new(7, Lsn(3), 8).as_bytes().to_vec();
        shipped.extend_from_slice(&[0; 8]);
        assert!(ShipmentHeader::split(&shipped).is_some_and(|(header, frames)| {
            (header.layout().salt, header.first_lsn(), frames.len()) == (7, Lsn(3), 8)
        }));
        for bit in 0..HEADER_LEN * 8 {
            let mut flipped = shipped.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ShipmentHeader::split(&flipped).is_none(), "bit {bit}");
        }
        assert!(ShipmentHeader::split(&shipped[..39]).is_none());
    }
}
