//! What copies logs, compares them, and drops parts of them.

use std::path::PathBuf;

use clap::Args;

use super::{ReportFormat, parse_size};

/// Copy a log that may be in use, consistent and checked
///
/// The copy is a log: it has every record that was there when the command began, and perhaps some more, up to one point
/// in time. It has no file `LOCK` and no named pins. While it is made, a pin `mapwal-backup` keeps records from being
/// trimmed; one that a killed backup has left is replaced, and one of that name that no backup has made is an error. Where no
/// pin can be made, on a full disk or of a log that cannot be written, that is told, and it goes on as with `--no-pin`. OUT is a
/// log only once all of it is complete and durable; if root makes it, it belongs to the owner of the log. Blocks are shared with
/// the log where the file system can do that (reflinks). Ends with 2 if the log is damaged:
/// nothing is copied then, unless it is the control page alone; then the copy is complete, and the first record in it is to be compared
/// with an earlier one.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mapwal backup /var/lib/app/log /mnt/backup/log-$(date +%F) --against /mnt/backup/latest"
)]
pub(crate) struct Backup {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The directory of the copy, which must not exist or be empty
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// An earlier backup of the same log: full segments that are the same in it, by their checksums, are not copied but
    /// shared with it, by reflinks or hard links, and checked there, not in the log. It is not changed, and neither needs the
    /// other
    #[arg(long, value_name = "EARLIER")]
    pub(crate) against: Option<PathBuf>,
    /// The most disk space that the pin may hold back; by default as for `pins add`
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "no_pin")]
    pub(crate) limit: Option<u64>,
    /// Set no pin, for a log that cannot be written: the command fails if records are trimmed before they are copied
    #[arg(long)]
    pub(crate) no_pin: bool,
    /// How to say what was copied
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
    /// The directory holds copies of sealed segments: the one that the last of them names need not be there
    #[arg(long)]
    pub(crate) archive: bool,
}

/// Tell where two logs part, record by record: a leader and its replica, a log and its backup
///
/// Numbers, tags and payloads are compared; segments and metadata are not. Ends, like `diff`, with 0 if both hold the
/// same, with 1 if they differ, and with more if that cannot be told: with 2 if one is damaged, with 4 if one cannot be
/// read. A log that is being written is taken as it is at one moment; if its writer trims what has not been read yet,
/// that is 4. A pin keeps it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal diff --overlap /var/lib/app/log /mnt/replica/log")]
pub(crate) struct Diff {
    /// The directory of one log
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// That of the other
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,
    /// Compare only what both reach: records that one of them has trimmed, or does not have yet, are told and count as
    /// no difference
    #[arg(long)]
    pub(crate) overlap: bool,
    /// The directories hold copies of sealed segments: the one that the last of them names need not be there
    #[arg(long)]
    pub(crate) archive: bool,
}

/// Drop old segments
///
/// Needs no room: it is the way out for a log that has filled its disk and crashed. Only whole segments are dropped,
/// and never the last one with a record. Prints how many were dropped, and the room that this has freed; files that
/// stay are an error, and go with the next trim. A pin that holds back more than its limit is passed, as by
/// the trims of the application, and named if it loses records. A trim that is refused changes nothing.
///
/// A log that a process has open is trimmed by that process. It is asked, if it was opened with
/// `Options::trim_on_request`, as `mapwal append` does; it keeps what it pins itself and what recovery of transactions needs, whatever `--force`
/// says, and the command ends with 4 if that is more than what was to stay, or if there is no answer within ten seconds.
/// Ctrl-C takes the request back.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal trim /var/lib/app/log --keep-bytes 10GiB")]
pub(crate) struct Trim {
    /// The directory of the log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) extent: Extent,
    /// Also drop named pins that keep the records, and records that recovery of transactions needs; without this the
    /// trim is refused
    #[arg(long)]
    pub(crate) force: bool,
}

/// What stays of a log.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Extent {
    /// Drop segments whose records are all below this one
    #[arg(long, value_name = "LSN")]
    pub(crate) before: Option<u64>,
    /// Keep at least the newest N records; numbers without a record do not count
    #[arg(long, value_name = "N")]
    pub(crate) keep_records: Option<u64>,
    /// Keep the newest segments that take no more than this together, such as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) keep_bytes: Option<u64>,
}

/// Do in place what `salvage` does into a copy, for a damaged log that no process has open
///
/// Says what it would do, and does it with `--apply`. Full segments before the first damage stay as they are. The files of
/// the others are set aside in a folder `repair-N` in the directory, unchanged, and what is sound in them is appended
/// anew, under the same numbers: that needs as much room as they take, one segment more, and 1 MiB. Files that are kept for
/// further segments are removed for it, but for those of which nothing says that they were dropped: these are set aside. A log
/// that is sound, or has a torn end, is not touched, unless the control page is damaged as well: then what looks torn may have
/// been durable. If no segment stays as it is, the log gets a new identity, and replicas, archives and positions of `tail` take
/// it for another one. Ends with 2 as long as
/// nothing is repaired, and then with 3 if records are lost, which are listed, or 0. Numbers of a lost end, of which nothing
/// tells, are given again. After a repair that was killed no command opens the log; `--apply` or `--undo` go on from there,
/// the latter without room. End what reads the log before `--apply`: a `tail` would print records anew.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal repair /var/lib/app/log\n  mapwal repair --apply /var/lib/app/log")]
pub(crate) struct Repair {
    /// The directory of the damaged log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// Only say what would be done, which is the default
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do it
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) apply: bool,
    /// Take back a repair that was not finished, also one that had only begun to make its folder
    #[arg(long, conflicts_with_all = ["apply", "dry_run"])]
    pub(crate) undo: bool,
}

/// Copy every record that passes its checks out of a damaged log into a new one
///
/// The damaged log is not touched. Records keep their numbers: where some are lost, the copy has numbers without
/// records, which readers pass over. Each gap is listed as a range of numbers, and a lost beginning too, or as all numbers up to
/// one where nothing tells with which it began; the exit code is 3 if there were any. Of a lost end nothing may tell how many records it had: that is listed as well, and their
/// numbers are given again. Of a log that is in use, records that are trimmed before they are copied are listed as that.
/// Named pins are not copied, but listed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mapwal salvage /var/lib/app/log /var/lib/app/log.saved")]
pub(crate) struct Salvage {
    /// The directory of the damaged log
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// The directory of the copy, which must not exist or be empty. It is a log only once the copy is complete
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Number the copied records without gaps, from 1 on, and print the old and the new numbers. Metadata, which may
    /// name records by their numbers, is left out
    #[arg(long)]
    pub(crate) renumber: bool,
    /// The directory holds copies of sealed segments: the one that the last of them names need not be there
    #[arg(long)]
    pub(crate) archive: bool,
}
