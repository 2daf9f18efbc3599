//! The command lines of what looks at a log: `tail`, `stat`, `segments`, `meta`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use mapwal::Lsn;

use super::{Format, ReportFormat};
use crate::tail::Filter;

/// The number of a metadata slot: the library has 16.
fn parse_slot(text: &str) -> Result<u8, &'static str> {
    let slot = text.parse().ok().filter(|&slot| slot < 16);
    slot.ok_or("there are 16 slots, with numbers from 0 to 15")
}

/// Print records as they come
///
/// Waits for records without using the processor, and goes on over rotations. `q`, or Ctrl-C, ends it. If the directory is
/// removed or replaced, it says so, waits for a log to be there again, and goes on: with the next record, if it is the same
/// log, and else with the first; of an older copy of the same log with what comes after its end. With `--since-last-run` it ends
/// with 4 if the log is another one, or an older copy.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal tail /var/lib/app/log --from start --durable")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option by itself")]
pub(crate) struct Tail {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The record to begin with: a number, `start`, or `end` for records to come. By default `end`, or `start` with
    /// `--no-follow`
    #[arg(long, value_name = "LSN")]
    pub(crate) from: Option<From>,
    /// Print records only once they are durable. Refused where there is no control page, which says so
    #[arg(long)]
    pub(crate) durable: bool,
    /// Stop at the last record instead of waiting for the next
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// Print only records that are so; given several times, all of it: `tag=7` or `tag=1,2` for their tag, which may also be
    /// a type of records of transactions, such as `tag=commit,abort`; `text=TEXT` or `hex=DIGITS` for bytes in the payload
    #[arg(long = "filter", value_name = "WHAT")]
    pub(crate) filters: Vec<Filter>,
    /// Print them as records of transactions: type, transaction, record before, page
    #[arg(long)]
    pub(crate) wal: bool,
    /// Begin where the last run with the same NAME has ended; the first begins with the oldest record, or with `--from`.
    /// The position is kept in the file `mapwal/NAME` of `$XDG_STATE_HOME` or of `~/.local/state`, or in the file NAME if that
    /// has a slash. It moves once a second and at the end, also by Ctrl-C, TERM and HUP (with `--no-follow` it then ends with 4), after records have been printed, and are durable where they go into a file: after a kill,
    /// after a power cut, or when a pipe is closed, some are printed again. NAME has letters, digits, `-` and `_`; a file NAME.lock is beside it. If
    /// the log does not go on from there, since records were trimmed or it is an older copy, that is an error. It keeps nothing from being trimmed: a pin does
    #[arg(long, value_name = "NAME")]
    pub(crate) since_last_run: Option<String>,
    /// How to print them, as for `dump`
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// The directory holds copies of sealed segments: the one that the last of them names need not be there
    #[arg(long)]
    pub(crate) archive: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum From {
    Start,
    End,
    Record(Lsn),
}

impl FromStr for From {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "start" => Ok(Self::Start),
            "end" => Ok(Self::End),
            number => {
                let number =
                    number.parse().map_err(|_| "this is neither the number of a record, nor `start`, nor `end`")?;
                Ok(Self::Record(Lsn(number)))
            }
        }
    }
}

/// Show watermarks, segments, why the log is as large as it is, the writer, readers, pins and the sizes of records
///
/// Readers are processes that have files of the log open, as far as this user may look at what processes have open, on Linux.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal stat /var/lib/app/log --format json")]
pub(crate) struct Stat {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// How to print it. `prometheus` is `OpenMetrics` text, also for the text files of a node exporter: it is made without
    /// reading all records, and of a damaged log too, with `mapwal_damaged` and exit code 2
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = StatFormat::Text)]
    pub(crate) format: StatFormat,
    /// Go on every second, with the rate of appends, until `q` or Ctrl-C. It ends with 4 when the directory is removed or replaced
    #[arg(long)]
    pub(crate) watch: bool,
    /// The directory holds copies of sealed segments: the one that the last of them names need not be there
    #[arg(long)]
    pub(crate) archive: bool,
}

/// List the files of a log, and what keeps each from being trimmed
///
/// Reads headers, links and the newest segment, and not the records of the others, which `verify` does. Lists the state of
/// each file, its records, its size, where its frames end, the segment before it, the checksum of its last frame, which sums
/// up the others, and what keeps it: `newest`, a pin, a checkpoint, or a pin of the process that writes. Then what is
/// damaged: in that case it ends with 2.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal segments /var/lib/app/log --format json")]
pub(crate) struct Segments {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// How to print them
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
    /// The directory holds copies of sealed segments: the one that the last of them names need not be there
    #[arg(long)]
    pub(crate) archive: bool,
}

/// Show the metadata slots
///
/// For each slot that has a value its length, the place of the frame that says so, the record before which it was put, and
/// the value: as text between quotes, or in hexadecimal. Of a damaged log it shows what can be read, and ends with 2.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal meta /var/lib/app/log --slot 3 --raw > value")]
pub(crate) struct Meta {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Only this slot, from 0 to 15, and all of its value; it ends with 4 if the slot was never set
    #[arg(long, value_name = "N", value_parser = parse_slot)]
    pub(crate) slot: Option<u8>,
    /// Print the bytes of the value, and nothing else
    #[arg(long, requires = "slot", conflicts_with = "format")]
    pub(crate) raw: bool,
    /// How to print them
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
    /// The directory holds copies of sealed segments: the one that the last of them names need not be there
    #[arg(long)]
    pub(crate) archive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatFormat {
    Text,
    Json,
    Prometheus,
}
