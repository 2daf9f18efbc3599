//! A replicated key-value service of five processes, under fire, and a check of what its clients have seen.
//!
//! The program starts itself for each node. The driver is a client of the service many times over, and everything that is hard on it: it kills processes
//! and stops them, takes their power, fills their disks, cuts the network between them, moves leaders, replaces nodes. In the end every history must
//! be linearizable, every acknowledged write there, and all nodes of one mind. `docs/design/cluster.md` says it all.

mod api;
mod driver;
mod http;
mod node;
mod types;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use driver::Strike;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A replicated key-value service under fire
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Clone, Args)]
struct Run {
    /// How long, in minutes
    #[arg(long, conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// How long, in seconds: 30 unless something is said
    #[arg(long)]
    seconds: Option<u64>,
    /// The number that decides what happens when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clients there are
    #[arg(long, default_value_t = 12)]
    clients: u64,
    /// A mistake that every node makes
    #[arg(long = "break")]
    flaw: Option<Flaw>,
    /// Where the history goes if something is found [default: the directory for temporary files]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Strikes with these only
    #[arg(long, value_delimiter = ',')]
    only: Vec<Strike>,
    /// Says what it does
    #[arg(long, short)]
    verbose: bool,
    /// It runs in a mount namespace of its own: the driver starts itself there
    #[arg(long, hide = true)]
    own_mounts: bool,
}

impl Run {
    fn time(&self) -> Duration {
        Duration::from_secs(self.minutes.map_or(self.seconds.unwrap_or(30), |minutes| minutes * 60))
    }
}

/// A planted mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Flaw {
    /// A vote is given before it is durable.
    VoteNotSynced,
    /// An entry is acknowledged before it is durable.
    AckBeforeSync,
    /// What was purged is not known after a restart.
    PurgeForgetsId,
    /// A leader answers reads without asking whether it still is one.
    StaleRead,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// A node of the service: the driver starts it
    #[command(hide = true)]
    Node(NodeArguments),
}

#[derive(Debug, Args)]
struct NodeArguments {
    #[arg(long)]
    id: u64,
    /// What it has on its disk
    #[arg(long)]
    directory: PathBuf,
    /// What the log is on
    #[arg(long)]
    disk: DiskKind,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    flaw: Option<Flaw>,
    /// The process that has started it, without which it ends
    #[arg(long)]
    parent: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum DiskKind {
    /// Files: what was written outlives the process.
    #[default]
    Files,
    /// A simulated disk, loaded from files: it can fail, and its power can go.
    Simulated,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.role {
        None => driver::run(&arguments.run),
        Some(Role::Node(arguments)) => node::run(arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}
