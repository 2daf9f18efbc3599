//! A log store for [`openraft`] 0.9 on [`mapwal`], a memory-mapped write-ahead log.
//!
//! [`LogStore`] is openraft's [`RaftLogStorage`](openraft::storage::RaftLogStorage) in a [`mapwal::Log`] that the application opens. A [`Codec`] says how
//! the types of its raft become bytes: [`InPlace`] is for data that is bytes, and hands out [`bytes::Bytes`] that borrow from the mapping;
//! `Json`, with the feature `serde`, is for types that serde knows.
//!
//! # What is promised
//!
//! - An append returns when its entries can be read, and calls back when they are durable, or will not be. Its callback comes from a thread of
//!   the log. One whose entries are truncated before they are durable is told so, with an error; openraft 0.9 has no append under way then.
//! - `save_vote`, `truncate` and `purge` are durable when they return. `purge` takes any index below 2^64 - 2^33 - 3, beyond the end as well, and no
//!   crash leaves the purge without its id. After one that has failed the store says of itself what its log has.
//! - `save_committed` waits for nothing: it becomes durable with the next append or vote.
//! - After any crash the store has what it had acknowledged, and beyond that no more than a beginning of what came then.
//! - Data that was read stays as it is for as long as it is kept, and keeps its segment's disk space.
//! - Entries that do not follow the last one are refused. Only those that were purged already are left out without an error, and a log that
//!   never had any may begin anywhere.
//! - Once a sync has failed every write fails, until the log is opened again: but for an append of nothing, or of entries that were purged.
//! - The log is the store's alone: a second store is refused, and what something else has appended or trimmed is an error.
//!
//! `truncate` and `purge` wait for the disk in a thread of their own; nothing else waits for it in a thread of the runtime, unless the log needs a
//! segment that is not ready yet, or a read meets a page that is not in memory. Any of openraft's runtimes will do.
//!
//! The design, with the test that holds each promise, is `docs/design/raft.md` of the repository; its README has a server in 60 lines.
//!
//! # Features
//!
//! `serde`, off by default: `Json`, and openraft's feature of this name. openraft's `storage-v2` is always on; its
//! `single-term-leader` is supported, and `singlethreaded` is not, since the log calls back from another thread.

#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod aside;
mod claim;
mod codec;
mod error;
mod in_place;
#[cfg(feature = "serde")]
mod json;
mod raft;
mod read;
mod storage;
mod store;
mod stored;
mod write;

pub use codec::Codec;
pub use error::{Error, Result};
pub use in_place::{InPlace, Plain};
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use json::Json;
pub use store::LogStore;
