//! Rules for the repository: its sources, its documents, its data.

mod breaks;
mod circles;
mod examples;
mod map;
mod names;
mod printed;
mod shown;
mod source;
mod tidy;
mod trace;
mod words;
