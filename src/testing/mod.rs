//! Storage for the tests of engines: a log in memory, on a disk that fails and loses power as a seed says.
//!
//! With the feature `testing`, which belongs among the `dev-dependencies`. It is what this crate tests itself with.
//!
//! A [`SimulatedDisk`] has what a real one has: a page cache, which processes see; a device, which has what was synced, and of the
//! rest whatever the kernel has written early; and names that are not durable before their directory is synced. A power cut leaves each sector that
//! was not synced as it was, as it is, or as a mixture of both. One seed decides all of that, and nothing is written outside of memory; what threads
//! do at the same time it does not decide.
//!
//! # Example
//!
//! An engine that tests its own crash safety: for many seeds, a run that the power ends at some operation, and a look at what is
//! left. What was acknowledged must be there, and nothing but a prefix of what was done.
//!
//! ```
//! use mapwal::testing::SimulatedDisk;
//! use mapwal::{Log, Options, Result};
//!
//! /// The engine: a sum, of which the log has each summand.
//! struct Engine {
//!     log: Log,
//!     sum: u64,
//! }
//!
//! impl Engine {
//!     fn open(log: Log) -> Result<Self> {
//!         let mut sum = 0;
//!         for record in &log.snapshot()? {
//!             sum += u64::from(record?.payload()[0]);
//!         }
//!         Ok(Self { log, sum })
//!     }
//!
//!     /// Durable on return.
//!     fn add(&mut self, summand: u8) -> Result<()> {
//!         let lsn = self.log.append(1, &[summand])?;
//!         self.log.wait_durable(lsn)?; // without it, this test fails
//!         self.sum += u64::from(summand);
//!         Ok(())
//!     }
//! }
//!
//! let options = Options::new().segment_size_bytes(64 << 10);
//! for seed in 0..20 {
//!     let disk = SimulatedDisk::new(seed);
//!     let mut engine = Engine::open(disk.open(&options)?)?;
//!     disk.end_power_after(seed % 7);
//!     let mut failed = 0;
//!     for summand in 1..=100 {
//!         if engine.add(summand).is_err() {
//!             failed = summand; // may be there, or not
//!             break;
//!         }
//!     }
//!     let acknowledged = engine.sum;
//!     drop(engine);
//!     let engine = Engine::open(disk.restart().open(&options)?)?;
//!     let sums = [acknowledged, acknowledged + u64::from(failed)];
//!     assert!(sums.contains(&engine.sum), "seed {seed}: {} is none of {sums:?}", engine.sum);
//! }
//! # Ok::<(), mapwal::Error>(())
//! ```

#[expect(clippy::must_use_candidate, reason = "for this crate's own laboratories")]
mod copy;
mod directory;
#[expect(
    missing_docs,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "for this crate's own laboratories"
)]
mod disk;
#[expect(missing_docs, clippy::must_use_candidate, reason = "for this crate's own laboratories")]
mod fault;
mod image;
mod simulated;
mod storage;

pub use simulated::{DiskFailure, SimulatedDisk};

/// For this crate's own laboratories.
pub(crate) mod internals {
    pub use super::disk::{AFTER_EFFECTS, Crash, Observer, SimDisk};
    pub use super::fault::{Failure, Fault, Operation};
    pub use super::image::{AfterEffect, PAGE_BYTES};
}
