//! Mapped bytes, and the rule for touching them: the only home of `unsafe` in this crate.
//!
//! The one rule: **in a region, bytes below `published` never change again; bytes between `published` and the end of
//! what is reserved belong to the one [`Reservation`] that covers them; no thread touches anything else.** Shared
//! borrows are handed out below `published` only, exclusive ones by a reservation only, and `published` moves over a
//! frame only after its commit word was read with acquire. So no two threads ever touch the same byte without an order
//! between them, and no borrow ever sees a byte change.
//!
//! The rule relies on the contract of the crate's `unsafe fn open`: while a log is open, only this library writes to
//! its files or shortens them, and one writer at a time (the process lock). For the mapping of a file that another
//! process writes, that writer obeys the same rule, and its release stores pair with the acquire loads here because
//! both map the same page cache.
//!
//! Where the system cannot provide a page, touching it is a `SIGBUS`, and the end of the process, unless the
//! application has asked for the guard (`guard.rs`): it replaces the page, by what it held or, if that is gone, by
//! zeros. That is the only way in which bytes below `published` change, and the application accepts it by the contract
//! of that function.

#![expect(unsafe_code, reason = "the crate's one home of unsafe")]

mod append_cursor;
mod atomics;
mod copy;
#[cfg(target_os = "linux")]
mod extents;
#[cfg(target_os = "linux")]
mod guard;
mod mapping;
#[cfg(all(test, loom))]
mod model;
#[cfg(target_os = "linux")]
mod page;
mod process;
mod region;
#[cfg(not(target_os = "linux"))]
mod unguarded;
mod words;
#[cfg(target_os = "linux")]
mod writeback;

pub(crate) use append_cursor::{AppendCursor, CursorControl, Reservation, Reserved, Taken};
pub(crate) use copy::copy_into;
#[cfg(target_os = "linux")]
pub(crate) use extents::{Extent, extents};
#[cfg(target_os = "linux")]
use guard::Slot;
#[cfg(target_os = "linux")]
pub use guard::guard_against_sigbus;
#[cfg(target_os = "linux")]
pub(crate) use guard::replaced_pages;
#[cfg(any(test, feature = "testing"))]
pub use mapping::HeapMemory;
pub use mapping::Mapping;
#[cfg(target_os = "linux")]
use page::page_size;
pub(crate) use process::Process;
pub(crate) use region::{FrozenRegion, Region, Stop};
#[cfg(not(target_os = "linux"))]
use unguarded::Slot;
#[cfg(not(target_os = "linux"))]
pub use unguarded::guard_against_sigbus;
#[cfg(not(target_os = "linux"))]
pub(crate) use unguarded::replaced_pages;
pub(crate) use words::SharedWords;
#[cfg(target_os = "linux")]
pub(crate) use writeback::start_writing;
