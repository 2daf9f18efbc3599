//! A disaster, and the way back: a log is written and archived while both processes are killed again and again; then its
//! directory is destroyed, and it is restored from the archive.
//!
//! It starts itself once more for the writer and for the archiver, and serves S3 on 127.0.0.1 for them. The records are those of
//! the bundled trace of a PostgreSQL log, over and over: what each of them holds follows from its number, so that every
//! restored one can be checked. The writer trims what it may. Each figure of the last line is counted in the end.

#[path = "../../tests/support/s3.rs"]
mod s3;
#[path = "../../../../examples/common/trace.rs"]
mod trace;

mod archiver;
mod count;
mod drill;
mod writer;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Destroys a log, and restores it from its archive.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// How many records are written
    #[arg(long, default_value_t = 224_000, value_parser = clap::value_parser!(u64).range(20_000..))]
    records: u64,
    /// How often the writer is killed, and the archiver
    #[arg(long, default_value_t = 8)]
    kills: u64,
    /// The number that decides when they are killed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to be: the drill starts itself with it
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// Where the log is
    #[arg(long, hide = true, requires = "role", default_value = ".")]
    directory: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Writer,
    Archiver,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.role {
        None => drill::run(&arguments),
        Some(Role::Writer) => writer::run(&arguments),
        Some(Role::Archiver) => archiver::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("restore_drill: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error, and what it came from.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
