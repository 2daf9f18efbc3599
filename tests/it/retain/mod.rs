//! What stays and what goes: trims, truncations, pins, archives, and files that are used again.

mod archive;
mod given_back;
mod named_pins;
mod pins_back;
mod pins_replaced;
mod pins_spare;
mod proportion;
mod recycling;
mod removed;
mod requests;
mod sizes;
mod touched;
mod trim;
mod truncate;
