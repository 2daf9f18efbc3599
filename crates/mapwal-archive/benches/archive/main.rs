//! Measures the archive beside the bare object store: `cargo bench -p mapwal-archive`.
//!
//! Each case does the same work in turn, round after round in one process: once with `object_store` alone, once with this
//! crate. Only the ratios of the two are comparable from one run to another: each is the median of those of the rounds.
//!
//! - **archive**: sealed segments of a log in this process, uploaded one after the other; beside `put` of the same mapped bytes,
//!   and (`with sums`) beside `put` and one CRC-32 of each object;
//! - **restore**: to tmpfs, four objects at a time; beside `get` of the same objects, whose bytes are dropped or written to files;
//! - **append**, **commit**: of a writer that is archived to tmpfs by its own process meanwhile; beside one that is not.
//!
//! A store is a directory in the target directory (`disk`), one on tmpfs, or an S3 server in a process of its own.
//!
//! ```text
//! cargo bench -p mapwal-archive               everything, in two minutes or so
//! cargo bench -p mapwal-archive -- restore    the cases with "restore" in their names
//! cargo bench -p mapwal-archive -- --quick    less data
//! ```

#![allow(clippy::pedantic, clippy::unwrap_used, reason = "a measurement that cannot be made ends")]

mod archiving;
mod measure;
mod restoring;
#[path = "../../tests/support/s3.rs"]
mod s3;
mod store;
mod writing;

use measure::Scale;
use store::Kind;

fn main() {
    if store::serve() {
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (options, names): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|argument| argument.starts_with("--"));
    let scale = if options.iter().any(|option| option == "--quick") { Scale::QUICK } else { Scale::FULL };
    let is_asked = |name: &str| names.is_empty() || names.iter().any(|asked| name.contains(asked.as_str()));
    println!("{:<16} {:>12} {:>12} {:>7} {:>7}  {:>11}", "case", "bare", "mapwal", "ratio", "target", "processor");
    for kind in Kind::ALL {
        let name = format!("archive {kind}");
        if is_asked(&name) {
            archiving::measure(&name, kind, scale);
        }
    }
    for kind in Kind::ALL {
        let name = format!("restore {kind}");
        if is_asked(&name) {
            restoring::measure(&name, kind, scale);
        }
    }
    for (name, measure) in [("append", writing::append as fn(&str, Scale)), ("commit", writing::commit)] {
        if is_asked(name) {
            measure(name, scale);
        }
    }
}
