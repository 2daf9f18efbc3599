//! What the store promises, through openraft's traits.

#![expect(clippy::result_large_err, reason = "the error is openraft's")]

mod cluster;
mod codecs;
mod durable;
mod entries;
mod meanwhile;
mod model;
mod refused;
mod server;
mod shaken;
mod suite;
mod support;
