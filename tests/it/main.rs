//! Behaviour through the public interface.
//!
//! Each of these bugs was planted in turn, and made the tests beside it fail. What breaks the protocol of crashes is in
//! `docs/design/crash-testing.md`, and other modules name theirs.
//!
//! | planted | noticed by |
//! |---|---|
//! | a number is given twice in each segment | `write::numbers` |
//! | recovery stops short in the last segment | `open::reopening`, `crash::killed` |
//! | checksums are not looked at | `damage::flipped` |
//! | a torn end needs no evidence that nothing durable is missing | `damage::cut_short`, `damage::flipped` |
//! | a failed sync does not poison | `disk::poisoned` |
//! | a closure that panics leaves a record | `write::in_place` |
//! | iteration allocates | `tests/allocations.rs` |
//! | a trim writes to what it drops | `read::views` |
//! | a missing segment is not asked for | `retain::archive`, `damage::identity` |

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

mod crash;
mod damage;
mod disk;
mod format;
mod model;
mod open;
mod read;
mod replica;
mod repo;
mod retain;
#[allow(dead_code, unused_imports, reason = "shared with the laboratory, which uses other parts of it")]
#[path = "../simulation/mod.rs"]
mod simulation;
mod support;
mod wal;
mod write;
