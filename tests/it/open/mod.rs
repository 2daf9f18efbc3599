//! Opening and closing: what is found again, whose the files are, and which directories are refused.

mod closing;
mod displaced;
mod handles;
mod idle;
mod locked;
mod many;
mod ownership;
mod refused;
mod reopening;
mod shut;
mod strangers;
mod working_directory;
