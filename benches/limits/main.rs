//! Measures the log beside what the machine can do at best: `cargo bench`.
//!
//! Each case measures its limit and the log in turn, round after round in one process, so that both see the same state of
//! a machine that is never quite the same; only the ratio of the two is comparable from one run to another. Records of a
//! limit are a 16-byte header and the payload, 8-byte aligned, in the simplest way there is:
//!
//! - **L2**: checksum and copy into a mapping of a file whose pages are there and writable;
//! - **L2p**: checksum and copy into a buffer of 1 MiB, written to a new file whenever it is full;
//! - **L3**: one write and one `fdatasync` for each record, in a file that is full of zeros;
//! - **Lg**: as many threads that meet, the last of whom writes and syncs a record of each;
//! - **L5**: map a file in the page cache, walk its records, check each one's checksum;
//! - **L5s**: the same with the segments of the log;
//! - **L5c**: as L5, over the files of a log, whose frames are found by their lengths;
//! - **L6**: look at a random record of a mapped file, unchecked;
//! - **bare**: open and map each file of as many logs, and look at its first byte;
//! - **grow**: writes and an `fdatasync` now and then, at the end of a file that grows;
//! - **reuse**: the same over a file that was written before.
//!
//! The others (L2s, L3m, Lgm, L5r, *mapping*, L3 and L6 *in turn*) are in `docs/performance.md`.
//!
//! ```text
//! cargo bench                      everything, in about eight minutes
//! cargo bench -- append            the cases with "append" in their names
//! cargo bench -- --quick scan get  less data
//! cargo bench -- --long durable    ten seconds for what is measured by the second
//! cargo bench -- --against FILE    beside the figures of an earlier run, if it was made on such a machine, and of as much
//! cargo bench -- scan --instructions  how many instructions a record takes: for this there has to be valgrind
//! cargo bench -- --docs            nothing: the last run's figures go to README.md and docs/performance.md
//! ```
//!
//! The table is printed, and written to `mapwal-bench.json` in the target directory, in the place of the last run's: the FILE of `--against`
//! is read before. Files are made in the target directory
//! as well, which should be on the file system that is of interest, and are removed afterwards.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "three digits of a figure are shown, and sizes are chosen here"
)]

mod append;
mod bench;
mod calls;
mod chart;
mod commit;
mod compare;
mod cores;
mod device;
mod directory;
mod docs;
mod durable;
mod follow;
mod get;
mod instructions;
mod limit;
mod logs;
mod machine;
mod memory;
mod open;
mod picture;
mod rendezvous;
mod report;
mod samples;
mod scan;
mod spare;
mod stall;
mod system;
mod trace;
mod verify;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use bench::{Bench, Scale};
use compare::Earlier;
use machine::Machine;

fn main() -> ExitCode {
    if follow::serve() || calls::serve() || instructions::serve() {
        return ExitCode::SUCCESS;
    }
    let Err(error) = asked().and_then(run) else { return ExitCode::SUCCESS };
    eprintln!("{error}");
    ExitCode::from(if error.kind() == io::ErrorKind::InvalidInput { 2 } else { 1 })
}

/// What the arguments ask for.
#[derive(Debug)]
struct Asked {
    scale: Scale,
    filters: Vec<String>,
    /// Cargo says `--bench` when it is to be measured. Without it this is a test run: does it still work?
    is_measured: bool,
    instructions: bool,
    docs: bool,
    earlier: Option<PathBuf>,
}

fn asked() -> io::Result<Asked> {
    let (scale, filters) = (Scale::FULL, Vec::new());
    let mut asked = Asked { scale, filters, is_measured: false, instructions: false, docs: false, earlier: None };
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => asked.is_measured = true,
            "--instructions" => asked.instructions = true,
            "--docs" => asked.docs = true,
            "--quick" => asked.scale = Scale::QUICK,
            "--long" => asked.scale = Scale::LONG,
            "--against" => {
                let file = arguments.next().filter(|file| !file.starts_with('-'));
                asked.earlier = Some(file.ok_or_else(|| wrong("--against without a FILE".to_owned()))?.into());
            }
            option if option.starts_with('-') => {
                return Err(wrong(format!(
                    "unknown option {option}; there are --quick, --long, --against FILE, --instructions, --docs and the names of cases"
                )));
            }
            _ => asked.filters.push(argument),
        }
    }
    if !asked.is_measured {
        asked.scale = Scale::SMOKE;
    }
    Ok(asked)
}

fn run(asked: Asked) -> io::Result<()> {
    let Asked { scale, filters, is_measured, instructions, docs, earlier } = asked;
    if docs {
        return docs::write(&bench::report_path());
    }
    let mut bench = Bench::new(scale, filters)?;
    let machine = Machine::here(bench.directory());
    let earlier = earlier.map(|path| Earlier::read(path, &machine, scale)).transpose()?;
    spare::watch();
    if instructions {
        instructions::run(&mut bench)?;
    } else {
        measure(&mut bench);
    }
    // The arguments of a test run may be names of tests.
    let checked = if is_measured { bench.check_filters() } else { Ok(()) };
    bench.finish(earlier.as_ref(), !instructions)?;
    checked
}

fn measure(bench: &mut Bench) {
    append::run(bench);
    cores::run(bench);
    commit::run(bench);
    durable::run(bench);
    scan::run(bench);
    follow::run(bench);
    get::run(bench);
    open::run(bench);
    memory::run(bench);
    logs::run(bench);
    verify::run(bench);
    calls::run(bench);
}
