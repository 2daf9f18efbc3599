//! A small log whose bytes are changed in every way, and the rule for what must come of it.
//!
//! **The rule.** A frame is *acknowledged with evidence* when an undamaged frame, wherever it stands, says in its
//! header that the log was durable beyond the damaged one, or the control page does. Let `f` be the first frame that a change damages.
//!
//! - A change in a segment's header refuses the log.
//! - If `f` is acknowledged with evidence, the log is damaged: the open fails, or reading does after exactly the
//!   records before `f`. The error names the file and the offset of `f`.
//! - Otherwise `f` and what follows is a torn end: exactly the records before `f` are there.
//! - Changes outside of headers and frames change nothing.
//!
//! A reader that takes no lock does not search for evidence in frames: what is damaged before the place that the control page names
//! is an error, and after it the log ends or is damaged.

mod bench;
mod specimen;
mod unlocked;

pub(crate) use bench::{Bench, Outcome};
pub(crate) use specimen::{Change, Specimen};
