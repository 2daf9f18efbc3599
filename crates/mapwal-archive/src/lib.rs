//! Archives the segments of a [`mapwal`] log in an object store, and restores the log to any record.
//!
//! An [`Archiver`] follows a live log, in the writer's process or in another, and uploads each segment that is sealed and
//! durable, straight from the mapping. A named pin keeps the log from trimming what is not confirmed. What is durable of
//! the segment that takes appends is uploaded as well, in parts, so that little is lost with the log's disk.
//! [`Archive::restore`] makes a log of what is there.
//!
//! The design, with its proofs, is `docs/design/archive.md` of the repository.
//!
//! # What is archived, and what is not
//!
//! Records, batches and metadata slots are. Named pins are not: they are for the readers of the original. What is not
//! durable is not archived, and what is in no part yet is lost with the disk: [`Status`] says how much that is.
//!
//! # Features
//!
//! None is on by default: directories and memory need no C compiler. `aws`, `gcp`, `azure` and `http` add those stores of
//! [`object_store`], and a TLS library that needs one.

#![deny(unsafe_code)]

mod archive;
mod archiver;
mod backoff;
mod cause;
mod chain;
mod conflict;
mod cover;
mod damage;
mod directory;
mod epoch;
mod error;
mod faults;
mod file_lock;
mod frames;
mod gaps;
mod history;
mod listing;
mod marks;
mod object;
mod overlap;
mod prune;
mod rebuild;
mod restore;
mod store;
mod strays;
mod tips;
mod verify;
mod waiting;

pub use object_store;

pub use archive::Archive;
pub use archiver::{Archiver, ArchiverOptions, Status};
pub use conflict::Claims;
pub use directory::DirectoryStore;
pub use error::{Error, ObjectDamage, Result};
pub use gaps::MissingRecords;
pub use listing::{EpochListing, Listing};
pub use object::ArchivedSegment;
pub use prune::{PruneGaps, PruneLimits, PruneReport};
pub use restore::{Restorable, RestoreOptions, RestoreProgress, RestoreReport, RestoreTo};
pub use verify::{EpochFault, VerifyProgress, VerifyReport};
