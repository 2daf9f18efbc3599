//! Rules for the repository: its sources, its documents, its data.

mod circles;
mod examples;
mod names;
mod source;
mod tidy;
mod trace;
