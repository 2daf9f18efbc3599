//! Records shipped from one log to another.

mod frames;
mod shipments;
