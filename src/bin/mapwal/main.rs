//! The program `mapwal`: what operators reach for when a log misbehaves.

mod append;
mod arguments;
mod backup;
mod bench;
mod checkpoint;
mod diff;
mod dump;
mod failure;
mod fit;
mod generate;
mod hex;
mod input;
mod json;
mod keep;
mod log_fault;
mod look;
mod meta;
mod open;
mod out;
mod pins;
mod print;
mod progress;
mod readers;
mod record_type;
mod repair;
mod salvage;
mod segment_state;
mod segments;
mod sizes;
mod stat;
mod step;
mod stop;
mod streams;
mod tail;
mod time;
mod tip;
mod told;
mod transaction;
mod trim;
mod verify;
mod writer;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;
use failure::{Failure, Outcome, Result, shown};

fn main() -> ExitCode {
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
    let outcome = match &arguments.command {
        Command::Append(append) => append::run(append),
        Command::Dump(dump) => dump::run(dump),
        Command::Verify(verify) => verify::run(verify),
        Command::Tail(tail) => tail::run(tail),
        Command::Stat(stat) => stat::run(stat),
        Command::Segments(segments) => segments::run(segments),
        Command::Meta(meta) => meta::run(meta),
        Command::Pins(pins) => pins::run(pins),
        Command::Backup(backup) => backup::run(backup),
        Command::Diff(diff) => diff::run(diff),
        Command::Trim(trim) => trim::run(trim),
        Command::Repair(repair) => repair::run(repair),
        Command::Salvage(salvage) => salvage::run(salvage),
        Command::Bench(bench) => bench::run(bench),
        Command::Completions(completions) => generate::completions(completions.shell),
        Command::Man(man) => manual(man.directory.as_deref()),
    };
    outcome.unwrap_or_else(|failure| told(&arguments.command, &failure)).into()
}

fn manual(directory: Option<&Path>) -> Result<Outcome> {
    directory.map_or(Ok(()), out::check_outside_of_logs)?;
    generate::manual(directory)
}

/// Tells why a command did not do what it was asked to: people, and, of damage, a program that waits for a document.
fn told(command: &Command, failure: &Failure) -> Outcome {
    let written = match (failure.damage(), command.document()) {
        (Some(damage), Some((name, directory))) => json::write_damaged(name, directory, damage.clone()),
        _ => Ok(()),
    };
    let outcome = failure.tell();
    shown(written, outcome).unwrap_or_else(|failure| failure.tell())
}
