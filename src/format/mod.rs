//! The bytes on disk: encoding, decoding and checking, without any I/O. `docs/design/format.md` is the specification.

pub(crate) mod frame;
pub(crate) mod link;
pub(crate) mod name;
pub(crate) mod pin;
pub(crate) mod position;
pub(crate) mod range_sum;
pub(crate) mod search;
pub(crate) mod segment_header;
pub(crate) mod shipment;
pub(crate) mod tally;
pub(crate) mod walk;
pub(crate) mod zeros;

/// The version that this library writes.
pub(crate) const VERSION: u32 = 3;
/// The oldest version that it reads.
pub(crate) const OLDEST_VERSION: u32 = 2;

/// A version that this library reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V2,
    V3,
}

/// The smallest segment, in bytes.
pub(crate) const SEGMENT_SIZE_MIN: u64 = 64 << 10;
/// The largest segment, in bytes: offsets in units of 8 fit 30 bits with it.
pub(crate) const SEGMENT_SIZE_MAX: u64 = 4 << 30;
/// Metadata slots of a log.
pub(crate) const META_SLOTS: usize = 16;
/// The most bytes that the metadata slots of a log take, heads included, whatever its segments have room for.
const META_LEN_LIMIT: u64 = 16 << 20;

/// Whether `size` is one that a segment may have.
pub(crate) const fn segment_size_is_valid(size: u64) -> bool {
    size.is_power_of_two() && size >= SEGMENT_SIZE_MIN && size <= SEGMENT_SIZE_MAX
}

/// The most bytes that the metadata slots of a log take, heads included, whose segments have `size` bytes: a quarter, since each
/// segment begins with them.
pub(crate) const fn meta_len_max(size: u64) -> u64 {
    if size / 4 < META_LEN_LIMIT { size / 4 } else { META_LEN_LIMIT }
}

/// Kept free of each segment of version 2 for its link, with all slots full, and its seal. A log with no more metadata than that takes
/// the same payloads in later versions.
const EDGES_LEN: u64 = 4216 + 32;

/// The size of the smallest segment that begins with metadata slots of `meta_len` bytes, heads included, and has room for `len` bytes
/// of frames.
pub(crate) fn segment_size_for(len: usize, meta_len: usize) -> u64 {
    let is_enough = |size| {
        let has_room = || payload_len_max(size, meta_len) + frame::HEADER_LEN as u64 >= len as u64;
        meta_len as u64 <= meta_len_max(size) && has_room()
    };
    let mut size = SEGMENT_SIZE_MIN;
    while size < SEGMENT_SIZE_MAX && !is_enough(size) {
        size *= 2;
    }
    size
}

/// The payload that still fits into a new segment of `size` bytes if the metadata slots take `meta_len`, heads included.
pub(crate) const fn payload_len_max(size: u64, meta_len: usize) -> u64 {
    let edges = (link::frame_len(meta_len) + link::SEAL_FRAME_LEN) as u64;
    let edges = if edges > EDGES_LEN { edges } else { EDGES_LEN };
    size - segment_header::LEN as u64 - edges - frame::HEADER_LEN as u64
}
