//! The program `mapwal-archive`: archives a log, and restores it.

mod arguments;
mod epochs;
mod failure;
mod generate;
mod list;
#[allow(dead_code, reason = "shared with the program mapwal, which has more commands")]
mod log_fault;
mod printer;
#[allow(dead_code, reason = "shared with the program mapwal, which has more commands")]
mod progress;
mod prune;
mod restore;
mod run;
mod sizes;
mod stop;
mod store;
#[allow(dead_code, reason = "shared with the program mapwal, which has more commands")]
mod streams;
#[allow(dead_code, reason = "shared with the program mapwal, which has more commands")]
mod told;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;
use failure::{Failure, Outcome, Result};
use stop::Stop;

fn main() -> ExitCode {
    // Before anything else: whenever a signal comes, `run` ends in order.
    let stop = std::env::args_os().nth(1).is_some_and(|command| command == "run").then(Stop::listen);
    // Nothing is done, by any command, where what it says of it would be lost.
    if let Err(error) = streams::check_output() {
        return Failure::of_output(&error).tell().into();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => return Failure::of_usage(&error).tell().into(),
        Err(help) => {
            let printed = help.print().and_then(|()| std::io::stdout().flush());
            return printed.map_or_else(|error| Failure::of_output(&error).tell(), |()| Outcome::Done).into();
        }
    };
    carry_out(&arguments.command, stop).unwrap_or_else(|failure| failure.tell()).into()
}

fn carry_out(command: &Command, stop: Option<Result<Stop>>) -> Result<Outcome> {
    match command {
        Command::Completions(completions) => generate::completions(completions.shell),
        Command::Man(man) => generate::manual(man.directory.as_deref()),
        command => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let runtime = runtime.map_err(|error| Failure::new("cannot start threads", error, "this process"))?;
            let done = runtime.block_on(on_store(command, stop));
            // What is under way is of no use any more.
            runtime.shutdown_background();
            done
        }
    }
}

async fn on_store(command: &Command, stop: Option<Result<Stop>>) -> Result<Outcome> {
    match command {
        Command::Run(arguments) => run::run(arguments, stop.unwrap_or_else(Stop::listen)?).await,
        Command::Restore(arguments) => restore::run(arguments).await,
        Command::List(arguments) => list::run(arguments).await,
        Command::Verify(arguments) => verify::run(arguments).await,
        Command::Prune(arguments) => prune::run(arguments).await,
        Command::RebuildNote(arguments) => epochs::rebuild_note(arguments).await,
        Command::ForgetEpoch(arguments) => epochs::forget_epoch(arguments).await,
        Command::Completions(_) | Command::Man(_) => Ok(Outcome::Done),
    }
}
