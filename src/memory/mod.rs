//! Mapped bytes, and who may touch which of them: the only home of `unsafe` in this crate.
//!
//! The one rule: **in a region, bytes below `published` never change again; bytes between `published` and the end of
//! what is reserved belong to the one [`Reservation`] that covers them; nobody touches anything else.** Shared borrows
//! are handed out below `published` only, exclusive ones by a reservation only, and `published` moves over a frame only
//! after its commit word was read with acquire. So no two threads ever touch the same byte without an order between
//! them, and no borrow ever sees a byte change.
//!
//! What the rule needs from outside is the contract of the crate's `unsafe fn open`: while a log is open, only this
//! library writes to its files or shortens them, and one writer at a time (the process lock). For the mapping of a file
//! that another process writes, that writer obeys the same rule, and its release stores pair with the acquire loads
//! here because both map the same page cache.

#![expect(unsafe_code, reason = "the crate's one home of unsafe")]

mod mapping;
#[cfg(all(test, loom))]
mod model;
mod region;
mod ring;
mod sync;
mod words;

#[cfg(any(test, feature = "testing"))]
pub use mapping::HeapMemory;
pub use mapping::Mapping;
pub(crate) use region::{Region, Stop};
pub(crate) use ring::{Reservation, Reserved, Ring, Rotor, Taken};
pub(crate) use words::SharedWords;
