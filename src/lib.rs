//! A memory-mapped, segmented write-ahead log with zero-copy reads.

#![deny(unsafe_code)]

#[cfg(not(all(unix, target_pointer_width = "64")))]
compile_error!("mapwal maps segments of up to 4 GiB, many at a time: it needs a 64-bit Unix");

mod error;
mod format;
mod log;
mod lsn;
mod memory;
mod options;
mod read;
mod segment;
mod storage;

pub use error::{Corruption, Damage, Error, Evidence, FileKind, LayoutMismatch, Result};
pub use log::{Log, Pin, PinState, PinStatus, RecoveryReport, SealedSegment, Stats};
pub use lsn::Lsn;
pub use options::Options;
pub use read::{Follower, Frames, Iter, LogReader, Record, RecordRef, Snapshot, Visibility};
pub use segment::{SegmentSummary, verify_segment};

/// The seam below the log, for this crate's own tests: not part of the published interface.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing {
    pub use crate::log::testing::open_log;
    pub use crate::memory::{HeapMemory, Mapping};
    pub use crate::storage::{Access, DeviceBuffer, Disk, Lock, LockGuard, Storage, StorageFile};
}
