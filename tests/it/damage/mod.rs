//! Damage: what is not as it was written is found, told from a torn tail, and refused.

mod cut_short;
mod doubt;
mod flipped;
mod hostile;
mod identity;
mod last_group;
mod pages;
mod recycled;
