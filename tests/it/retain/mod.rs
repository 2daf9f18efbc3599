//! What stays and what goes: trims, truncations, pins, archives, and files that are used again.

mod archive;
mod named_pins;
mod recycling;
mod removed;
mod requests;
mod touched;
mod trim;
mod truncate;
