//! Reading: records, snapshots, followers, and the log of another process.

mod control_page;
mod followers;
#[cfg(target_os = "linux")]
mod memory;
mod reader;
mod records;
mod snapshots;
#[cfg(feature = "async")]
mod streams;
mod trimmed;
mod unpublished;
mod unsure;
mod views;
#[cfg(target_os = "linux")]
mod waking;
