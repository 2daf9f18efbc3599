//! The command line.

mod keeping;
mod looking;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure::EXIT_CODES;
use crate::sizes::parse_size;
pub(crate) use keeping::{Backup, Diff, Extent, Repair, Salvage, Trim};
pub(crate) use looking::{From, Meta, Segments, Stat, StatFormat, Tail};

/// Look at a mapwal log, append to it, check it, and save what is left of a damaged one.
///
/// All commands but `append` and `repair` may be used on a log that a process is writing, and none disturbs it: `trim` asks that
/// process. Where the standard output is closed, none does anything: what nobody wants goes to
/// `/dev/null`.
#[derive(Debug, Parser)]
#[command(name = "mapwal", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Append(Append),
    Dump(Dump),
    Verify(Verify),
    Tail(Tail),
    Stat(Stat),
    Segments(Segments),
    Meta(Meta),
    Pins(Pins),
    Backup(Backup),
    Diff(Diff),
    Trim(Trim),
    Repair(Repair),
    Salvage(Salvage),
    Bench(Bench),
    Completions(Completions),
    Man(Man),
}

impl Command {
    /// The name and the directory of what prints a document, with the format that was asked for.
    pub(crate) fn document(&self) -> Option<(&'static str, &Path)> {
        let json = ReportFormat::Json;
        match self {
            Self::Verify(verify) if verify.format == json => Some(("verify", &verify.directory)),
            Self::Stat(stat) if stat.format == StatFormat::Json => Some(("stat", &stat.directory)),
            Self::Segments(segments) if segments.format == json => Some(("segments", &segments.directory)),
            Self::Meta(meta) if meta.format == json => Some(("meta", &meta.directory)),
            Self::Pins(pins) if pins.format == json => Some(("pins", &pins.directory)),
            Self::Backup(backup) if backup.format == json => Some(("backup", &backup.directory)),
            _ => None,
        }
    }
}

/// Append a record for each line of a file or of the standard input
///
/// The number of each record is printed, one a line, once the record is durable (with `--sync none`: once it is
/// appended). The log is created if there is none. It is closed at the end, even when the input ends with an error.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  printf 'one\\ntwo\\n' | mapwal append /var/lib/app/log --sync each --tag 7")]
pub(crate) struct Append {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// What to append; `-` or nothing is the standard input
    #[arg(value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// When to make records durable: each by itself; in groups, each of what has come while the group before was
    /// synced; or never
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Sync::Group)]
    pub(crate) sync: Sync,
    /// Append from N threads at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: u16,
    /// The type number of the records; in a log of transactions 32768 or above
    #[arg(long, value_name = "T", default_value_t = 0)]
    pub(crate) tag: u16,
    /// Also append records with a lower tag to a log of transactions (metadata slot 14 or 15 has a value): such tags are those
    /// of transactions, and recovery refuses a log with records of them that it has not written
    #[arg(long)]
    pub(crate) force: bool,
    /// The largest size of new segments, such as 4MiB: they grow with the log. By default 64 MiB, or that of the newest one if that is
    /// shorter than 256 KiB
    #[arg(long, value_name = "SIZE", value_parser = parse_segment_size)]
    pub(crate) segment_size: Option<u64>,
    /// Read records as a length, 4 bytes little-endian, followed by that many bytes
    #[arg(long)]
    pub(crate) length_prefixed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sync {
    Each,
    Group,
    None,
}

/// Print records in order
///
/// `text` is number, tag, length and payload between tabs, with the payload escaped as in a byte string of Rust; `json`
/// is one object per line, `{"lsn", "tag", "len", "payload"}`, with `payload_base64` where the payload is not UTF-8;
/// `hex` is as `text`, in hexadecimal; `raw` is the payloads, with nothing between them.
///
/// Without `--from` it begins with the oldest record. If a writer trims records before they are printed, it ends with
/// 4: what has been printed has no gap. A pin keeps them, `mapwal pins DIR add NAME oldest`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal dump /var/lib/app/log --from 1000 --to 1010 --format json")]
pub(crate) struct Dump {
    /// The directory of the log, or the file of one segment
    #[arg(value_name = "DIR")]
    pub(crate) path: PathBuf,
    /// The first record to print
    #[arg(long, value_name = "LSN")]
    pub(crate) from: Option<u64>,
    /// The last record to print
    #[arg(long, value_name = "LSN")]
    pub(crate) to: Option<u64>,
    /// Only records with this tag
    #[arg(long, value_name = "T")]
    pub(crate) tag: Option<u16>,
    /// How to print them
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Print them as records of transactions: type, transaction, record before, page
    #[arg(long)]
    pub(crate) wal: bool,
    /// The directory holds copies of sealed segments: the one that the last of them names need not be there
    #[arg(long)]
    pub(crate) archive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
    Hex,
    Raw,
}

/// Check every header, link, seal and frame
///
/// Ends with 0 if the log is sound; with 1 if it has a torn end (torn tail), which a crash leaves and the next open
/// drops, and no damage; and with 2 if something that was durable is damaged. Prints a line for each segment, then one
/// for each damage.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal verify --deep /var/lib/app/log || echo \"look at it: $?\"")]
pub(crate) struct Verify {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Also compare what the device holds with the page cache, where the file system lets the device be read, and print how much
    /// was compared: of a log that is being written, segments that are full and durable
    #[arg(long)]
    pub(crate) deep: bool,
    /// How to print what is found
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
    /// The directory holds copies of sealed segments: the one that the last of them names need not be there
    #[arg(long)]
    pub(crate) archive: bool,
}

/// List named pins, or change them
///
/// They can be changed while a process writes to the log: it heeds them from its next trim on.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal pins /var/lib/app/log add replica-2 1001")]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct Pins {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// How to list them
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
    #[command(subcommand)]
    pub(crate) change: Option<PinChange>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PinChange {
    /// Keep a record, and all after it, from being trimmed
    #[command(after_help = "Example:\n  mapwal pins /var/lib/app/log add replica-2 oldest")]
    Add {
        /// Its name: letters, digits, `-` and `_`
        #[arg(value_parser = parse_pin_name)]
        name: String,
        /// The first record to keep: a number, `oldest` for all that are there at that moment, or `now` for records to
        /// come
        #[arg(value_name = "LSN")]
        from: crate::pins::PinFrom,
        /// The most disk space that it may hold back, such as 10GiB: beyond that, records are trimmed all the same, and
        /// the pin is lost. By default what it holds back already, and half of what is free on the disk
        #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "no_limit")]
        limit: Option<u64>,
        /// Have it keep records until the disk is full
        #[arg(long)]
        no_limit: bool,
        /// Whose it is, for lists of pins
        #[arg(long, value_name = "TEXT", default_value = "mapwal pins")]
        owner: String,
    },
    /// Move a pin forward: records before it may be trimmed
    #[command(after_help = "Example:\n  mapwal pins /var/lib/app/log advance replica-2 2001")]
    Advance {
        /// Its name
        #[arg(value_parser = parse_pin_name)]
        name: String,
        /// The first record to keep
        lsn: u64,
    },
    /// Remove a pin
    #[command(after_help = "Example:\n  mapwal pins /var/lib/app/log drop replica-2")]
    Drop {
        /// Its name
        #[arg(value_parser = parse_pin_name)]
        name: String,
    },
}

/// Measure what a disk allows, and what a log on it reaches
///
/// Commits of one thread and of several, and records with a sync every few KiB to a MiB, beside a bare `write` and
/// `fdatasync`, in turn, as medians. It takes place in a new directory inside DIR, which is removed at the end, also by
/// Ctrl-C, TERM and HUP, and needs 1 GiB of free space. After a kill, remove `mapwal-bench-*` by hand.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal bench /var/lib/app")]
pub(crate) struct Bench {
    /// A directory on the disk, and not that of a log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// How long to measure, without the preparation
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// How to print the figures
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    Text,
    Json,
}

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal completions bash > /etc/bash_completion.d/mapwal")]
pub(crate) struct Completions {
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page, or write one for each command into a directory
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal man > mapwal.1 && man ./mapwal.1")]
pub(crate) struct Man {
    /// Where to write `mapwal.1`, `mapwal-dump.1` and so on
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// A size that segments may have.
fn parse_segment_size(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    let is_valid = size.is_power_of_two() && (64 << 10..=4 << 30).contains(&size);
    if is_valid { Ok(size) } else { Err("segments have a power of two of bytes, from 64KiB to 4GiB".to_owned()) }
}

/// A name that a pin may have.
fn parse_pin_name(text: &str) -> Result<String, &'static str> {
    let is_valid = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_valid { Ok(text.to_owned()) } else { Err("a name has letters, digits, - and _") }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::command().debug_assert();
    }
}
