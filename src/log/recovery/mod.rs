//! Finding out, when a log is opened, what counts and where it goes on.
//!
//! A [`Plan`](plan::Plan) is made without a change of any file; opening the log carries it out.

mod clean_close;
mod judge;
mod mapped;
mod pending;
pub(crate) mod plan;
pub(crate) mod recover;
pub(crate) mod report;
pub(crate) mod unused;
mod walked;
