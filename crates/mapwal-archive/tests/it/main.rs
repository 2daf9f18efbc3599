//! The archive from outside: what is archived is restored, whatever fails on the way.

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]

mod advice;
#[path = "../support/child.rs"]
mod child;
mod copies;
#[path = "../support/failing.rs"]
mod failing;
mod failures;
mod golden;
mod guide;
mod interrupted;
mod kills;
mod left;
mod less;
#[path = "../support/logs.rs"]
mod logs;
mod memory;
mod mistakes;
mod notes;
mod place;
mod program;
#[path = "../support/s3.rs"]
mod s3;
#[path = "../../../../tests/cli/schema.rs"]
mod schema;
mod server;
mod service;
mod states;
mod stores;
mod synced;
mod tools;
