//! Writing: appends of every kind, syncs, metadata, and the numbers that come of them.

mod batch;
mod by_bytes;
mod callbacks;
mod futures;
mod in_place;
mod inside_callbacks;
mod inside_closures;
mod limits;
mod marks;
mod meta;
mod meta_lengths;
mod metered;
mod numbers;
mod stats;
mod synced;
#[cfg(target_os = "linux")]
mod threads;
