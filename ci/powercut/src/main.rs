//! Power cuts under mapwal on real file systems: `docs/design/crash-testing.md` explains what is done and judged.

mod child;
mod cut;
mod disk;
mod event;
mod fault;
mod filesystem;
mod finding;
mod image;
mod lane;
mod limits;
#[path = "../../../tests/simulation/model.rs"]
#[allow(dead_code, reason = "the simulation, whose model this is, also damages logs and kills processes")]
mod model;
mod places;
mod recording;
mod replay;
mod run;
mod system;
mod tally;
mod teardown;
mod worker;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use places::Places;

/// Cuts the power of real file systems under mapwal.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
enum Command {
    /// Looks at power cuts, and says what was found
    Run(run::Arguments),
    /// Takes down what earlier runs have left
    Clean,
    /// Serves the disk of a lane
    #[command(hide = true)]
    Disk { pid: u32, lane: usize },
    /// Uses logs
    #[command(hide = true)]
    Worker {
        /// With the guard against `SIGBUS`
        #[arg(long)]
        guarded: bool,
    },
}

fn main() -> Result<ExitCode> {
    match Command::parse() {
        Command::Run(arguments) => {
            system::keep_mounts_apart()?;
            return run::run(&arguments);
        }
        Command::Clean => teardown::leftovers(),
        Command::Disk { pid, lane } => disk::serve(&Places::new(pid, lane))?,
        Command::Worker { guarded } => {
            if guarded {
                worker::guard()?;
            }
            worker::work()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
