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
//! cargo bench                      everything, in a few minutes
//! cargo bench -- append            the cases with "append" in their names
//! cargo bench -- --quick scan get  fewer rounds, less data
//! cargo bench -- --long durable    ten seconds for what is measured by the second
//! cargo bench -- --against FILE    beside the figures of an earlier run, if it was made on such a machine
//! cargo bench -- scan --instructions  how many instructions a record takes: for this there has to be valgrind
//! cargo bench -- --docs            nothing: the last run's figures go to README.md and docs/performance.md
//! ```
//!
//! The table is printed, and written to `mapwal-bench.json` in the target directory. Files are made in the target directory
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

use std::path::PathBuf;

use bench::{Bench, Scale};

fn main() -> std::io::Result<()> {
    if follow::serve() || calls::serve() || instructions::serve() {
        return Ok(());
    }
    let mut scale = Scale::FULL;
    let mut filters = Vec::new();
    // Cargo says `--bench` when it is to be measured. Without it this is a test run: does it still work?
    let mut measured = false;
    let mut instructions = false;
    let mut earlier = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => measured = true,
            "--instructions" => instructions = true,
            "--docs" => return docs::write(&bench::report_path()),
            "--quick" => scale = Scale::QUICK,
            "--long" => scale = Scale::LONG,
            "--against" => earlier = arguments.next().map(PathBuf::from),
            option if option.starts_with('-') => {
                eprintln!(
                    "unknown option {option}; there are --quick, --long, --against, --instructions, --docs and the names of cases"
                );
                std::process::exit(2);
            }
            _ => filters.push(argument),
        }
    }
    if !measured {
        scale = Scale::SMOKE;
    }
    spare::watch();
    let mut bench = Bench::new(scale, filters)?;
    if instructions {
        instructions::run(&mut bench);
        return bench.finish(earlier.as_deref());
    }
    append::run(&mut bench);
    cores::run(&mut bench);
    commit::run(&mut bench);
    durable::run(&mut bench);
    scan::run(&mut bench);
    follow::run(&mut bench);
    get::run(&mut bench);
    open::run(&mut bench);
    memory::run(&mut bench);
    logs::run(&mut bench);
    verify::run(&mut bench);
    calls::run(&mut bench);
    bench.finish(earlier.as_deref())
}
