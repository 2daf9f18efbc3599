//! Behaviour through the public interface.
//!
//! Each of these bugs was planted in turn, and made the tests beside it fail. What breaks the protocol of crashes is in
//! `docs/design/crash-testing.md`, and other modules name theirs.
//!
//! | planted | noticed by |
//! |---|---|
//! | a number is given twice in each segment | `numbers` |
//! | recovery stops short in the last segment | `reopening`, `killed` |
//! | checksums are not looked at | `flipped` |
//! | a torn end needs no evidence that nothing durable is missing | `cut_short`, `flipped` |
//! | a failed sync does not poison | `poisoned` |
//! | a closure that panics leaves a record | `in_place` |
//! | iteration allocates | `tests/allocations.rs` |
//! | a trim writes to what it drops | `views` |
//! | a missing segment is not asked for | `archive`, `identity` |

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

mod any_failure;
mod archive;
mod batch;
mod callbacks;
mod control_page;
mod crashes;
mod cut_short;
mod device;
mod displaced;
mod failing;
mod file_systems;
mod flipped;
mod followers;
mod format;
mod full_disk;
mod guarded;
mod hostile;
mod identity;
mod in_place;
mod independent;
mod killed;
mod limits;
mod locked;
mod lost_pages;
mod meta;
mod model;
mod named_pins;
mod numbers;
#[cfg(target_os = "linux")]
mod overlay;
mod ownership;
mod panics;
mod poisoned;
mod reader;
mod records;
mod recycled;
mod recycling;
mod refused;
mod reopening;
mod replica;
mod reserved;
mod scratch;
mod shipments;
mod shut;
mod signals;
#[allow(dead_code, unused_imports, reason = "shared with the laboratory, which uses other parts of it")]
#[path = "../simulation/mod.rs"]
mod simulation;
mod snapshots;
mod stats;
mod strangers;
#[cfg(feature = "async")]
mod streams;
mod support;
mod synced;
#[cfg(target_os = "linux")]
mod threads;
mod tidy;
mod touched;
mod trace;
mod trim;
mod truncate;
mod upgrade;
mod views;
#[cfg(target_os = "linux")]
mod waking;
mod wal_bad_input;
mod wal_by_hand;
mod wal_calls;
mod wal_checkpoints;
mod wal_engine;
mod wal_full_disk;
mod wal_fuzzy;
mod wal_handles;
mod wal_support;
