//! Follows a log that another process writes.
//!
//! Without a directory it shows and checks this: it starts itself once more as the writer, and follows what that
//! appends.

#[path = "../common/trace.rs"]
mod trace;

mod demo;
mod print;
mod writer;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Parser;
use mapwal::{Lsn, Visibility};

/// Follow a log that another process writes, without a copy of its records.
///
/// Without DIR, a process of its own is started that appends the records of a PostgreSQL log to a log in a temporary
/// directory; they are followed and checked as they come.
#[derive(Debug, Parser)]
struct Arguments {
    /// The log to follow. Nothing but mapwal may write to its files meanwhile
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The record to begin with: a number, `start` or `end`
    #[arg(long, value_name = "LSN", default_value = "start", requires = "directory")]
    from: From,
    /// Hand out records only when they are durable
    #[arg(long)]
    durable: bool,
    /// Stop at the last record instead of waiting for the next
    #[arg(long, requires = "directory")]
    no_follow: bool,
    /// Be the writer of a log in this directory
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "directory")]
    write: Option<PathBuf>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy)]
enum From {
    Start,
    End,
    Record(Lsn),
}

impl FromStr for From {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            number => Ok(Self::Record(Lsn(number.parse()?))),
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let causes = std::iter::successors(error.source(), |&cause| cause.source());
            causes.for_each(|cause| eprintln!("  caused by: {cause}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(directory) = &arguments.write {
        return writer::run(directory);
    }
    let visibility = if arguments.durable { Visibility::Durable } else { Visibility::Published };
    match &arguments.directory {
        None => demo::run(visibility),
        Some(directory) => print::run(directory, arguments.from, visibility, !arguments.no_follow),
    }
}
