//! The log store of `mapwal-openraft` on openraft 0.10, of which there is only an alpha: an example, and not published.
//!
//! It is the same store, of the same files: `raft.rs` says what openraft's types are now, and `storage.rs` has its traits. Leaders' ids, votes,
//! payloads and entries are those that `declare_raft_types!` chooses, and terms are `u64`.

#![deny(unsafe_code)]

#[path = "../../src/aside.rs"]
mod aside;
#[path = "../../src/claim.rs"]
mod claim;
#[path = "../../src/codec.rs"]
mod codec;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/in_place.rs"]
mod in_place;
mod raft;
#[path = "../../src/read.rs"]
mod read;
mod storage;
#[path = "../../src/store.rs"]
mod store;
#[path = "../../src/stored.rs"]
mod stored;
#[path = "../../src/write.rs"]
mod write;

pub use codec::Codec;
pub use error::{Error, Result};
pub use in_place::{InPlace, Plain};
pub use store::LogStore;
