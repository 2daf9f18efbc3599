//! Whether a thread is inside of an `append_with` closure: what waits for all appends would wait for this one.

use std::cell::Cell;

use crate::error::{Error, Result};

thread_local! {
    /// How many closures this thread is inside of.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A closure that runs, until this is dropped.
pub(super) struct Inside(());

impl Inside {
    pub(super) fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

#[inline]
pub(super) fn is_inside() -> bool {
    DEPTH.get() > 0
}

/// An error inside of a closure.
#[inline]
pub(super) fn check_outside() -> Result<()> {
    if is_inside() { Err(Error::InsideAppend) } else { Ok(()) }
}
