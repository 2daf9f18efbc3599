//! Transactions over a log.

mod bad_input;
mod by_hand;
mod calls;
mod checkpoints;
mod closed;
mod engine;
mod full_disk;
mod fuzzy;
mod handles;
