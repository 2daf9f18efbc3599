//! Reading: records that borrow the mapping, fixed views, and readers that go on as the log grows.

mod follower;
mod place;
mod reader;
mod record;
mod scan;
mod ship;
mod snapshot;
#[cfg(feature = "async")]
mod stream;

pub(crate) use follower::Source;
pub use follower::{Follower, Visibility};
pub use reader::LogReader;
#[cfg(feature = "testing")]
pub(crate) use reader::testing;
pub use record::{Record, RecordRef};
pub use scan::{FrameRole, Piece, ScannedFrame, SegmentScan};
pub use ship::Frames;
pub use snapshot::{Iter, Snapshot};
pub(crate) use snapshot::{ReadAhead, get_known_ref, get_ref};
#[cfg(feature = "async")]
pub use stream::FollowerStream;

/// How many bytes a reader has checked at a time: few enough to be still in the nearest cache when they are handed out.
const CHUNK_BYTES: usize = 16 << 10;
