//! Replicates a log over TCP: one leader and two followers, each a process of its own.
//!
//! It starts itself once more for each of them. The leader appends the bundled trace of a PostgreSQL log, ships slices
//! of its mapping, and counts a record as acknowledged once enough followers hold it durably. Each follower has a named
//! pin at the leader, which trims up to the slowest. On the way a follower is killed and started again, and then the
//! leader. In the end all three logs must hold the same records.

#[path = "../common/trace.rs"]
mod trace;

mod demo;
mod follower;
mod leader;
mod wire;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use mapwal::{Log, Lsn, Options};

/// Replicates a log between three processes, two of which are killed and started again on the way.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many followers must hold a record durably before it counts as acknowledged.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=2))]
    quorum: u16,
    /// How many records the leader appends.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(20_000..))]
    records: u64,
    /// What to be: the demonstration starts itself with it.
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// Where leader and followers have their logs.
    #[arg(long, hide = true, requires = "role")]
    directory: Option<PathBuf>,
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Leader,
    /// The first follower.
    Ann,
    /// The second.
    Bob,
}

impl Role {
    const ALL: [Self; 3] = [Self::Leader, Self::Ann, Self::Bob];
    const FOLLOWERS: [Self; 2] = [Self::Ann, Self::Bob];

    /// Its name, as an argument, as its log's directory and as its pin.
    fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Ann => "ann",
            Self::Bob => "bob",
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (who, outcome) = match (arguments.role, &arguments.directory) {
        (Some(role), Some(directory)) => (role.name(), play(role, directory, &arguments)),
        _ => ("replicate", demo::run(&arguments)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{who}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(role: Role, directory: &std::path::Path, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // Small segments, so that there is something to trim.
    let options = Options::new().segment_size_bytes(1 << 20);
    // SAFETY: only this program changes the files, by way of the library; temporary directories are on a local file
    // system.
    let log = unsafe { Log::open(directory.join(role.name()), &options) }?;
    let last = Lsn(arguments.records);
    match role {
        Role::Leader => leader::run(&log, directory, last, usize::from(arguments.quorum))?,
        Role::Ann | Role::Bob => follower::run(&log, role, directory, last)?,
    }
    Ok(log.close()?)
}
