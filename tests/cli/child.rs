//! Programs that the kit for file systems runs.

use std::io;
use std::process::{Command, Output};

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> io::Result<Output> {
    command.output()
}
