//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mapwal::Lsn;

use crate::failure::EXIT_CODES;
use crate::sizes::parse_size;
use crate::store::StoreUrl;

const URLS: &str = "\
URLs:
  file:///path             a directory; what is written to it is synced
  s3://bucket/prefix       needs the feature aws; also gs:// (gcp) and az:// (azure)
  Credentials, region and endpoint are taken from the environment: AWS_ACCESS_KEY_ID,
  AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT and so on.";

/// Archive the segments of a mapwal log in an object store, and restore the log from it.
#[derive(Debug, Parser)]
#[command(name = "mapwal-archive", version, after_help = format!("{URLS}\n\n{EXIT_CODES}"), propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Run),
    Restore(Restore),
    List(List),
    Verify(Verify),
    Prune(Prune),
    RebuildNote(RebuildNote),
    ForgetEpoch(ForgetEpoch),
    Completions(Completions),
    Man(Man),
}

/// Archive a log for as long as it is written, and longer
///
/// A service: it waits for the log to come, for the store to answer and for its writer to return, and ends when it is told to, by
/// Ctrl-C, SIGTERM or SIGHUP, with 0. Each sealed segment is uploaded once it is durable, and a named pin keeps it from being
/// trimmed before; where the archive has lost what was uploaded, the pin goes back to what the log still has of that. Beside that, what is durable of the segment that takes appends is uploaded as a part from time to time.
///
/// It ends by itself only where going on would do harm, with 4: if another archiver does the same work, the archive belongs to another log, or it
/// lacks the epoch that the log is in, such as one that was pruned or forgotten. What is damaged in the archive is named, and waited for where
/// nothing can go on without it. A directory that is missing or empty, though the log was archived there, is waited for: its disk may not be mounted.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal-archive run /var/lib/app/log s3://backups/app-1")]
pub(crate) struct Run {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Where the archive is
    #[arg(value_name = "URL")]
    pub(crate) url: StoreUrl,
    /// How often what is durable of the segment that takes appends is uploaded, such as 10s or 5m; `never`
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_interval)]
    pub(crate) part_interval: Interval,
    /// How often the archive is listed to find objects that have vanished, beside when it starts. What the log still has of them is
    /// uploaded again, and what is missing for good is said, also of the epochs that this one continues; `never`
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_interval)]
    pub(crate) check_interval: Interval,
    /// The pin's name
    #[arg(long, value_name = "NAME", default_value = "archive", value_parser = parse_pin)]
    pub(crate) pin: String,
    /// The most disk space that the pin may hold back while the store cannot be reached, such as 10GiB. Beyond that records
    /// may be trimmed before they are archived; the archive then goes on after them, in a new epoch. What the archive has lost
    /// is kept within half of it. By default there is no limit: the disk fills up. A pin that is there gets this limit, or
    /// none, when it starts
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) pin_limit: Option<u64>,
    /// If the log's pin names epoch N, begins another one with what the log has: the way out where epoch N has vanished from the store for good,
    /// was pruned, or lacks records that the log does not have any more. Deletes nothing: what is left of epoch N is restored with
    /// --epoch N. The new epoch is the newest. What only epoch N had cannot be restored from it; its note says which records that are, and
    /// `list`, `verify` and `restore` end with 3 because of them until `prune --give-up-gaps`. First make sure that it is the right store
    /// and prefix
    #[arg(long, value_name = "N")]
    pub(crate) abandon_epoch: Option<u64>,
    /// How often its state is printed, and whenever it begins or ceases to fail; with `never` it says only what it waits for before it begins, once,
    /// and why it ends
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_interval)]
    pub(crate) status_interval: Interval,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Make a log from an archive
///
/// Every object is checked. The log opens as any other, and goes on under the same numbers; archived again, it begins a new
/// epoch. A restore that was interrupted goes on where it was, if it is called again with the same arguments; if another epoch has
/// become the newest meanwhile, it says with which --epoch it goes on. Until it has ended no log opens there. Where records are missing in the archive nothing is restored beyond them, and the exit code is 3. It is also 3 where the newest
/// epoch is restored, and began after records that another epoch has, or none, and that were not pruned; or has no record that an older, longer one
/// does not have: with --epoch that is all that was asked for.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal-archive restore s3://backups/app-1 /var/lib/app/log --to 120000")]
pub(crate) struct Restore {
    /// Where the archive is
    #[arg(value_name = "URL")]
    pub(crate) url: StoreUrl,
    /// The directory of the log, which must not exist or be empty
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The last record of the log: a number, or `latest`
    #[arg(long, value_name = "LSN", default_value = "latest")]
    pub(crate) to: To,
    /// The epoch whose history is restored, as `list` shows it; by default the newest
    #[arg(long, value_name = "N")]
    pub(crate) epoch: Option<u64>,
    /// How many downloads run at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) parallel: u16,
    /// How to print what was restored
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Show what is in an archive
///
/// Ends with 2 where an epoch cannot be followed, such as one whose note is damaged, or an object has another length than its key
/// says; with 3 if records are missing, in an epoch or before one, or the newest epoch has less than an older one; and with 4 if a note
/// cannot be read, or is a later version's.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal-archive list s3://backups/app-1 --format json")]
pub(crate) struct List {
    /// Where the archive is
    #[arg(value_name = "URL")]
    pub(crate) url: StoreUrl,
    /// Also each object
    #[arg(long)]
    pub(crate) objects: bool,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Read everything in an archive, and check it
///
/// Ends with 2 if an object is damaged; with 3 if records are missing, in an epoch or before one, or the newest epoch has less than an
/// older one; and with 4 if something cannot be read, or is a later version's.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal-archive verify s3://backups/app-1 || echo \"look at it: $?\"")]
pub(crate) struct Verify {
    /// Where the archive is
    #[arg(value_name = "URL")]
    pub(crate) url: StoreUrl,
    /// A file that says which objects were sound when they were looked at last: only others, and changed ones, are read. It
    /// is made if it is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) changed_since: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Delete what no restore to a kept record needs
///
/// Deletes, for good, in all epochs that can be followed: segments and parts whose records are all before LSN, the oldest first; parts whose
/// bytes a sealed segment has as well; and epochs of which nothing is left. Keeps each segment that has LSN or a later record, as a
/// whole, and the last segment of the newest epoch: a restore to LSN or any later record that could be had before can be had after,
/// of any epoch. An epoch that cannot be followed is left as it is, and the exit code is 2.
///
/// Where LSN is beyond the end of the newest epoch, or it or records before it are missing, nothing is deleted, and the exit code is 3: what is
/// before missing records may be all that can be restored. Where the object that has them does not have its length, the same, and
/// the exit code is 2; and where two objects of the newest epoch have the same records. What is printed then says how large LSN can be.
/// With --give-up-gaps what is before them is deleted as well: a restore then begins after them, and no command
/// calls them missing any more.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal-archive prune s3://backups/app-1 --before 1000000")]
pub(crate) struct Prune {
    /// Where the archive is
    #[arg(value_name = "URL")]
    pub(crate) url: StoreUrl,
    /// The first record that is kept
    #[arg(long, value_name = "LSN")]
    pub(crate) before: u64,
    /// Also delete what is before records that are missing or damaged, and could be restored so far. LSN must come after them: what is after
    /// them stays, from LSN on
    #[arg(long)]
    pub(crate) give_up_gaps: bool,
    /// How to print what was deleted
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Make the note of an epoch again, which is missing or cannot be read
///
/// Without its note, EPOCH/epoch.json, nothing of an epoch can be restored. What it says is taken from the epoch's first object: the
/// identity of the log, the first record, and the segment before it, which is looked for in the earlier epochs. Nothing is guessed: where
/// that segment is in none, and no prune has deleted what was there, or one of those has no note itself, nothing is written, and the exit code is 4. Nothing else is changed; `run` goes on in the epoch if the
/// log's pin names it, and EPOCH/session.json is there. Also a note that can be used is made again if it is of another log than that object,
/// or, with --begins, if nothing is left of the epoch that it names.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal-archive rebuild-note s3://backups/app-1 --epoch 1")]
pub(crate) struct RebuildNote {
    /// Where the archive is
    #[arg(value_name = "URL")]
    pub(crate) url: StoreUrl,
    /// The epoch
    #[arg(long, value_name = "N")]
    pub(crate) epoch: u64,
    /// Where it cannot be proven what was before the first object: nothing was. Of records that were, in objects that have vanished or in
    /// the log, only those after the end of an earlier epoch are said to be missing then
    #[arg(long)]
    pub(crate) begins: bool,
}

/// Delete all of an epoch whose note is missing or cannot be used, that has nothing of its own, or that was abandoned
///
/// An epoch has nothing of its own if an older, longer one has all of its records, as where an old copy of the log's directory was archived.
/// One in whose place `run --abandon-epoch` has begun another is deleted as well, unless its note is a later version's or another log's.
/// What only that epoch has is lost for good. This command prints which records those are: the others are said later to lack only those right before other missing ones. So first try rebuild-note, and look by `list` at what the other epochs have. Any other epoch whose note
/// can be used is refused, and so is one that a later epoch continues, or may continue, since that one has no note either; nothing is
/// deleted then. The number of the epoch is not used again. An archiver whose log's pin names the epoch ends, with 4, at its next upload or check.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal-archive forget-epoch s3://backups/app-1 --epoch 1")]
pub(crate) struct ForgetEpoch {
    /// Where the archive is
    #[arg(value_name = "URL")]
    pub(crate) url: StoreUrl,
    /// The epoch
    #[arg(long, value_name = "N")]
    pub(crate) epoch: u64,
}

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal-archive completions bash > /etc/bash_completion.d/mapwal-archive")]
pub(crate) struct Completions {
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page, or write one for each command into a directory
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal-archive man > mapwal-archive.1 && man ./mapwal-archive.1")]
pub(crate) struct Man {
    /// Where to write `mapwal-archive.1`, `mapwal-archive-run.1` and so on
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// The last record of a restored log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Latest,
    Record(Lsn),
}

impl FromStr for To {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "latest" { Ok(Self::Latest) } else { text.parse().map(|lsn| Self::Record(Lsn(lsn))) }
    }
}

/// A time after which something is done again, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Option<Duration>);

fn parse_pin(text: &str) -> Result<String, mapwal::Error> {
    mapwal::PinDirectory::check_name(text)?;
    Ok(text.to_owned())
}

/// A number with ms, s, m or h after it; or `never`.
fn parse_interval(text: &str) -> Result<Interval, String> {
    if text == "never" {
        return Ok(Interval(None));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|error| format!("{error}"))?;
    let unit_ms = match unit.trim_start() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("{unit:?} is none of ms, s, m, h")),
    };
    let ms =
        number.checked_mul(unit_ms).filter(|&ms| ms > 0).ok_or("it must be more than nothing, and not for ever")?;
    Ok(Interval(Some(Duration::from_millis(ms))))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        let of = |text| parse_interval(text).map(|interval| interval.0.map(|time| time.as_millis()));
        assert_eq!(of("250ms"), Ok(Some(250)));
        assert_eq!(of("10s"), Ok(Some(10_000)));
        assert_eq!(of("2 h"), Ok(Some(7_200_000)));
        assert_eq!(of("never"), Ok(None));
        for wrong in ["", "10", "0s", "s", "1d", "99999999999999999999h", "18446744073709551615h"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
