//! A memory-mapped, segmented write-ahead log with zero-copy reads.
//!
//! Threads append records straight into a mapped file. Each record gets the next number, its [`Lsn`]. A sync makes
//! everything appended before it durable, with one `msync` for all waiting threads. Readers borrow the records from the
//! mapping, in this process or another, while the log grows. After a crash the log is what it was up to some record,
//! and at least up to the last one that was acknowledged as durable.
//!
//! # Example
//!
//! ```
//! use mapwal::{Log, Lsn, Options};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let directory = tempfile::tempdir()?;
//!     // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
//!     let log = unsafe { Log::open(directory.path(), &Options::new())? };
//!
//!     log.append(1, b"debit 7")?;
//!     log.append(2, b"credit 7")?;
//!     assert_eq!(log.sync()?, Lsn(2)); // Both are durable.
//!
//!     for record in &log.snapshot()? {
//!         let record = record?;
//!         println!("{}: {} bytes of type {}", record.lsn(), record.payload().len(), record.tag());
//!     }
//!     log.close()?;
//!     Ok(())
//! }
//! ```
//!
//! The repository has more in `examples/`, with one idea in each: `batch`, `group_commit`, `follow`, `metrics`,
//! `pin_and_trim`, `snapshot`, `transactions`, `verify`.
//!
//! # Why
//!
//! A storage engine wants its log to cost little more than copying the record: no buffer in between, no lock for the
//! time of the copy, no system call but the sync. A replica wants to read what was just written without another copy. A
//! mapped file gives both, at a price: the log has to know exactly which bytes will never change again, what the device
//! really holds, and what a torn page looks like. That knowledge is what this crate is about.
//!
//! The log does not say what a record means: the *tag*, a number that each record carries, and its reader do.
//! [`wal::Wal`] is such a reader: transactions, checkpoints and recovery over a log.
//!
//! # Writing
//!
//! [`Log::append`] copies a payload, [`Log::append_vectored`] one in several parts. [`Log::append_with`] lets a
//! closure write it in place, and [`Log::append_with_writer`] lets it do so from front to back. [`Log::append_batch`] appends several records of which a crash keeps all or none. All
//! take `&self`, from any number of threads; the order of numbers is the order in the file.
//!
//! Appended is not durable. [`Log::sync`] waits until everything appended before is durable, [`Log::wait_durable`]
//! until one record is, or what a [`Mark`] stands for; [`Log::on_durable`] calls back instead of waiting, and [`Log::durable`] is a
//! future. [`Options::sync_interval`] and
//! [`Options::sync_bytes`] sync in the background. Small values that must be found again, such as the position of a
//! checkpoint, go to [`Log::put_meta`], in the same stream.
//!
//! # Reading
//!
//! | | |
//! |---|---|
//! | [`Log::get`] | one record, as a [`RecordRef`] that owns a share of the mapping |
//! | [`Log::snapshot`] | a fixed view, with iterators over [`Record`]s that borrow from it |
//! | [`Log::follow`] | a [`Follower`], which goes on as the log grows |
//! | [`LogReader`] | all of these, read-only, for a log that another process may be writing |
//!
//! A [`Follower`] sees records as soon as they are *published*, that is completely written, or only once they are
//! *durable*: see [`Visibility`]. A follower that waits is woken, also by a writer in another process.
//!
//! # Dropping
//!
//! [`Log::trim_before`] drops old segments. A [`Log::pin`] keeps it away from a record for as long as the process runs,
//! and [`Log::create_pin`] makes one with a name that survives a restart. [`Log::truncate_after`] drops a suffix, and
//! [`Log::reset_to`] everything. Views of a [`Log`] keep what they see: its bytes stay readable. Those of a [`LogReader`] keep what they
//! have read.
//!
//! # Replicas and archives
//!
//! [`Follower::next_batch`] hands out runs of [`Frames`] in place, to be sent uncopied; [`Log::append_frames`] appends
//! them to another log under the same numbers. [`Log::sealed`] lists the segments that will not change any more,
//! [`Log::durable_prefix`] has what is durable of the one that takes appends, and [`inspect::verify_segment`] checks a copy of one. A directory of such copies is opened with [`Options::archive`].
//!
//! # Looking at a log in trouble
//!
//! [`inspect::Inspection`] tells what the files of a log hold without opening it, live or damaged: every segment's
//! state, and all damage, with what shows that it is not a torn end. [`inspect::SegmentScan`] walks the file of one
//! segment, over damage, to the next sound frame.
//!
//! # What is promised, and what is not
//!
//! - What [`Log::sync`] and the like have acknowledged as durable survives a crash of the system.
//! - What is published survives the death of the process.
//! - After any crash the log is a prefix of what was appended, each record with its own bytes.
//! - A torn end (torn tail), as a crash leaves it, is dropped, and reported by [`Log::recovery`]. Damage to what was
//!   durable is [`Error::Corrupt`]. [`Log::open`] reports it where it must search for the log's end, and then changes
//!   nothing; elsewhere the first read to reach it does. The frames after it, and the control page, tell the two apart: so damage inside of
//!   what was synced last, with nothing appended after it, looks like a torn end where the page has not reached the device.
//! - Once a sync has failed the log is poisoned: it acknowledges nothing more until it is dropped and opened again.
//! - A full disk is [`Error::NoSpace`], not a signal; appends work again once there is room.
//!
//! No log can help if a device loses what it said it had flushed. Checksums find accidents, not forgery.
//!
//! # Safety
//!
//! [`Log::open`] and [`LogReader::open`] are `unsafe`, and so are [`LogReader::open_archive`],
//! [`LogReader::open_timeout`], [`wal::Wal::open`] and [`wal::Wal::open_and_recover`], since records borrow from mapped
//! files, and safe code can write to files. The contract: while a log or anything read from it lives, nothing but this
//! library writes to the files of its directory or makes them shorter, and the directory is on a local file system.
//! [`guard_against_sigbus`] is `unsafe` with a contract of its own. Everything else is safe.
//!
//! # Limits
//!
//! Segments have a power of two of bytes, from 64 KiB to 4 GiB. They grow with the log, from 256 KiB to 64 MiB unless
//! [`Options::segment_size_bytes`] says otherwise. A payload, or a batch, fits into one
//! segment: [`Log::payload_len_max`] is a little less than its size. A log has at most 2^32 - 1 segments in its life,
//! and 2^64 - 2^33 records. Its 16 metadata slots hold together at most a quarter of a segment and 16 MiB. It needs
//! Rust 1.88 and a 64-bit Unix; it is tested on Linux, and untested on macOS.
//!
//! # Features
//!
//! None is on by default. `async` makes a follower a `Stream`, for any executor. `metrics` has counters, gauges and
//! histograms for the recorder of the crate `metrics`: [`Log`] has their names.
//! `testing` has storage for the tests of engines: a log in memory, on a disk that fails and loses power. `cli` builds the program `mapwal` for
//! operators; the library needs none of its dependencies.
//!
//! [`guard_against_sigbus`] turns the signal for a mapped page that cannot be provided into an error. What happens to a
//! log is reported through `tracing`: [`Log`] lists the events.

#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(all(unix, target_pointer_width = "64")))]
compile_error!("mapwal maps segments of up to 4 GiB, many at a time: it needs a 64-bit Unix");

pub mod error;
mod events;
mod format;
pub mod inspect;
mod log;
mod lsn;
mod memory;
mod options;
mod read;
mod segment;
mod storage;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
pub mod wal;

#[doc(inline)]
pub use error::{Error, Result};
pub use log::{
    Durable, Log, Mark, PayloadWriter, Pin, PinDirectory, RecoveryReport, RequestedTrim, Stats, request_trim,
    request_trim_while,
};
pub use lsn::Lsn;
pub use memory::guard_against_sigbus;
pub use options::Options;
#[cfg(feature = "async")]
#[cfg_attr(docsrs, doc(cfg(feature = "async")))]
pub use read::FollowerStream;
pub use read::{
    DurablePrefix, Follower, Frames, Iter, LogReader, Record, RecordRef, SealedSegment, SegmentBytes, SegmentTip,
    Snapshot, Visibility,
};
pub use segment::pins::{PinState, PinStatus};
/// The crate whose traits say which types a payload can be viewed as: [`Record::payload_as`], [`wal::DirtyPage`].
///
/// Its `derive` macros need to be told where it is: `#[zerocopy(crate = "mapwal::zerocopy")]` above the type.
pub use zerocopy;

/// The seam below the log, for this crate's own tests: not part of the published interface.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod internals {
    pub use crate::log::testing::open_log;
    pub use crate::memory::{HeapMemory, Mapping};
    pub use crate::read::testing::open_reader;
    pub use crate::storage::{
        Access, DeviceBuffer, Disk, Lock, LockGuard, Preparation, Storage, StorageFile, Users, task_of_this_thread,
    };
    pub use crate::testing::internals::*;
    pub use crate::wal::testing::recover_over;
}

/// Runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
