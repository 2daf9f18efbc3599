//! A small storage engine on the write-ahead log, killed again and again; `docs/design/engine-example.md` has the design.

#[path = "../common/rows.rs"]
mod rows;

mod arguments;
mod buffer_pool;
mod dirty_pages;
mod engine;
mod lab;
mod model;
mod page;
mod page_file;
mod power_loss;
mod process;
mod report;
mod restart;
mod row_locks;
mod trace;
mod workload;

use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser;

/// What goes wrong. Nothing here is to be handled by its kind: it is told, and the program ends.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.serve {
        Some(directory) => workload::run(&arguments, directory),
        None => lab::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let causes = std::iter::successors(error.source(), |&cause| cause.source());
            causes.for_each(|cause| eprintln!("  caused by: {cause}"));
            ExitCode::FAILURE
        }
    }
}
