//! Reading: records that borrow the mapping, fixed views, and readers that go on as the log grows.

mod archivable;
mod claims;
mod directory_source;
mod displaced;
mod follower;
mod known;
mod look_up;
mod many;
mod place;
mod printed;
mod read_ahead;
mod reader;
mod record;
mod scan;
mod sealed;
mod ship;
mod snapshot;
mod source;
#[cfg(feature = "async")]
mod stream;
mod taking;
#[cfg(feature = "testing")]
pub(crate) mod testing;
mod torn;
mod visibility;
#[cfg(feature = "async")]
mod wakers;

use crate::segment::Segment;
pub(crate) use archivable::next_sealed;
pub use archivable::{DurablePrefix, SealedSegment, SegmentTip};
pub use follower::Follower;
pub(crate) use look_up::{get_known_ref, get_ref};
pub(crate) use read_ahead::ReadAhead;
pub use reader::LogReader;
pub use record::{Record, RecordRef, SegmentBytes};
pub use scan::{FrameRole, ScanItem, ScannedFrame, SegmentScan};
pub use ship::Frames;
pub use snapshot::{Iter, Snapshot};
pub(crate) use source::Source;
#[cfg(feature = "async")]
pub use stream::FollowerStream;
pub use visibility::Visibility;

/// How many bytes a reader has checked at a time: few enough to be still in the nearest cache when they are handed out.
const CHUNK_BYTES: usize = 16 << 10;

/// Byte offset at which a reader that began `segment` at `offset`, and goes on, will want the next one as well.
fn ahead_from(segment: &Segment, offset: usize) -> usize {
    offset.saturating_add(usize::try_from(segment.info().size).unwrap_or(usize::MAX) / 8)
}
