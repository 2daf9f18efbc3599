//! The library against directories and memory: what an archiver promises, and what a restore makes of it.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

mod abandoned;
mod archiving;
mod between_epochs;
mod cancelled;
mod damaged;
mod epochs;
mod forgotten;
mod full;
mod held;
mod hooked;
mod keeping;
mod kinds_of_logs;
mod log_disk_full;
mod lost_pins;
mod meanwhile;
mod notes;
mod other_archivers;
mod overlapping;
mod parts_left;
mod pruned;
mod rebuilt;
mod restoring;
mod rolled_back;
mod sessions;
mod shortened;
mod strays;
mod support;
mod unread;
mod vanished;
mod what_is_missing;
