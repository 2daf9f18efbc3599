//! `mapwal stat`: the state of a log in numbers.

mod histogram;
mod prometheus;
mod size;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanCount, ProgressBar};
use mapwal::inspect::{Activity, Inspection};
use mapwal::{Error, Follower, LogReader, Lsn, PinStatus, Visibility};
use serde_json::{Value, json};

use crate::arguments::{Stat, StatFormat};
use crate::failure::{Explain, Failure, Outcome, Result, Written};
use crate::look::Look;
use crate::stop::Stop;
use crate::writer::Writer;
use crate::{json, open, pins, progress};
use histogram::Histogram;
use size::Size;

/// How often `--watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often it asks meanwhile whether to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) fn run(arguments: &Stat) -> Result<Outcome> {
    let directory = &*arguments.directory;
    if arguments.format == StatFormat::Prometheus && arguments.watch {
        return Err(Failure::usage("--watch goes with text and json only"));
    }
    if arguments.format == StatFormat::Prometheus {
        return prometheus::run(directory, arguments.archive);
    }
    let is_json = arguments.format == StatFormat::Json;
    let size = || Look::take(directory, arguments.archive, "stat").map(|look| Size::of(&look));
    let reader = open::reader(directory, arguments.archive)?;
    let mut sizes = Sizes::new(reader.clone(), directory)?;
    let bar = progress::of_bytes("stat", Inspection::open(directory).about(directory)?.bytes_to_verify());
    sizes.catch_up(directory, &bar)?;
    bar.finish_and_clear();
    let mut state = State::take(directory, &reader)?;
    state.print(is_json, &sizes.histogram, Some(&size()?), None)?;
    if arguments.watch {
        let stop = Stop::listen()?;
        let mut looked = Instant::now();
        while !stop.is_asked() {
            std::thread::sleep(LOOK_INTERVAL);
            if looked.elapsed() < WATCH_INTERVAL {
                continue;
            }
            let (seconds, before) = (looked.elapsed().as_secs_f64(), (state.next.0, sizes.histogram.bytes()));
            looked = Instant::now();
            sizes.catch_up(directory, &ProgressBar::hidden())?;
            state = State::take(directory, &reader)?;
            let rate = Rate {
                records: per_second(state.next.0.saturating_sub(before.0), seconds),
                bytes: per_second(sizes.histogram.bytes().saturating_sub(before.1), seconds),
            };
            let size = if is_json { Some(size()?) } else { None };
            state.print(is_json, &sizes.histogram, size.as_ref(), Some(rate))?;
        }
    }
    Ok(Outcome::Done)
}

/// The sizes of the records, as far as they have been read.
struct Sizes {
    reader: LogReader,
    follower: Follower,
    histogram: Histogram,
}

impl Sizes {
    fn new(reader: LogReader, directory: &Path) -> Result<Self> {
        let follower = from_oldest(&reader).about(directory)?;
        Ok(Self { reader, follower, histogram: Histogram::default() })
    }

    fn catch_up(&mut self, directory: &Path, progress: &ProgressBar) -> Result<()> {
        loop {
            match self.follower.next() {
                Ok(Some(record)) => {
                    let len = record.payload().len() as u64;
                    self.histogram.count(len);
                    progress.inc(len);
                }
                Ok(None) => return Ok(()),
                // Those that were truncated stay counted: they were appended.
                Err(Error::Rewound { .. }) => {}
                // What was trimmed before it was counted is not there.
                Err(Error::Trimmed { .. }) => self.follower = from_oldest(&self.reader).about(directory)?,
                Err(error) => return Err(Failure::of_log(&error, directory)),
            }
        }
    }
}

fn from_oldest(reader: &LogReader) -> mapwal::Result<Follower> {
    open::again(|| reader.follow(reader.first_lsn()?, Visibility::Published))
}

/// Appended per second.
#[derive(Clone, Copy)]
struct Rate {
    records: u64,
    bytes: u64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is shown in three digits"
)]
fn per_second(amount: u64, seconds: f64) -> u64 {
    (amount as f64 / seconds) as u64
}

/// A log at one moment.
struct State {
    directory: String,
    log_id: u128,
    writer: Writer,
    poisoned: bool,
    first: Lsn,
    next: Lsn,
    durable: Option<Lsn>,
    segments: usize,
    other_segments: usize,
    kept_files: usize,
    disk_bytes: u64,
    activity: Option<Activity>,
    pins: Vec<PinStatus>,
}

impl State {
    fn take(directory: &Path, reader: &LogReader) -> Result<Self> {
        let inspection = Inspection::open(directory).about(directory)?;
        let segments = inspection.segments().iter().filter(|file| file.counts).count();
        Ok(Self {
            directory: directory.display().to_string(),
            log_id: inspection.log_id(),
            writer: Writer::find(&inspection),
            poisoned: inspection.is_poisoned(),
            first: open::again(|| reader.first_lsn()).about(directory)?,
            next: open::again(|| reader.published_lsn()).about(directory)?.next(),
            durable: inspection.durable_lsn(),
            segments,
            other_segments: inspection.segments().len() - segments,
            kept_files: inspection.kept_files().len(),
            disk_bytes: inspection.disk_bytes(),
            activity: inspection.activity(),
            pins: inspection.pins().about(directory)?,
        })
    }

    fn print(&self, is_json: bool, sizes: &Histogram, size: Option<&Size>, rate: Option<Rate>) -> Result<()> {
        let mut out = anstream::stdout().lock();
        let printed = if is_json {
            json::write(&mut out, "stat", &self.json(sizes, size, rate))
        } else if let Some(rate) = rate {
            self.print_rate(&mut out, rate)
        } else {
            self.print_text(&mut out, sizes, size)
        };
        printed.and_then(|()| out.flush()).written()
    }

    fn print_rate(&self, out: &mut impl Write, rate: Rate) -> std::io::Result<()> {
        let (records, bytes) = (HumanCount(rate.records), BinaryBytes(rate.bytes));
        let durable = self.durable.map_or("-".to_owned(), |durable| durable.to_string());
        let last = self.next.previous();
        writeln!(out, "last {last}  durable {durable}  {records} records/s  {bytes}/s  {}", self.writer_text())
    }

    fn print_text(&self, out: &mut impl Write, sizes: &Histogram, size: Option<&Size>) -> std::io::Result<()> {
        let count = |number: u64| HumanCount(number).to_string();
        let records = self.next.0.saturating_sub(self.first.0);
        writeln!(out, "log        {}", self.directory)?;
        writeln!(out, "id         {:032x}", self.log_id)?;
        writeln!(out, "writer     {}", self.writer_text())?;
        writeln!(out, "records    {}, from {} to {}", count(records), self.first, self.next.previous())?;
        match self.durable {
            Some(durable) => writeln!(out, "durable    up to {durable}, says the last writer")?,
            None => writeln!(out, "durable    unknown: there is no control page")?,
        }
        let (segments, others, disk) = (self.segments, self.other_segments, BinaryBytes(self.disk_bytes));
        let kept = self.kept_files;
        writeln!(out, "segments   {segments}, and {others} spare or left over, {kept} files kept; {disk} on disk")?;
        if let Some(size) = size {
            size.print(out)?;
        }
        if let Some(activity) = &self.activity {
            print_activity(out, activity)?;
        }
        writeln!(out, "payload    {}", BinaryBytes(sizes.bytes()))?;
        for (from, to, records) in sizes.classes() {
            let range = format!("{}..{}", BinaryBytes(from), BinaryBytes(to));
            writeln!(out, "  {range:>24}  {:>14}  {}", count(records), sizes.bar(records))?;
        }
        if self.pins.is_empty() { Ok(()) } else { pins::write_table(out, &self.pins, Some(self.next)) }
    }

    fn writer_text(&self) -> String {
        let poisoned = if self.poisoned { "; a sync has failed" } else { "" };
        match self.writer {
            Writer::Alive(Some(pid)) => format!("process {pid}{poisoned}"),
            Writer::Alive(None) => format!("a process of an unknown number{poisoned}"),
            Writer::Crashed(pid) => format!("none; process {pid} has not closed the log{poisoned}"),
            Writer::Closed => format!("none{poisoned}"),
        }
    }

    fn json(&self, sizes: &Histogram, size: Option<&Size>, rate: Option<Rate>) -> Value {
        let pin = |pin: &PinStatus| pins::json_of(pin, Some(self.next));
        let class = |(from, to, records)| json!({ "from_bytes": from, "to_bytes": to, "records": records });
        let rate = rate.map(|rate| json!({ "records_per_second": rate.records, "bytes_per_second": rate.bytes }));
        json!({
            "directory": self.directory,
            "log_id": format!("{:032x}", self.log_id),
            "writer": self.writer.json(),
            "poisoned": self.poisoned,
            "first_lsn": self.first.0,
            "next_lsn": self.next.0,
            "durable_lsn": self.durable.map(|durable| durable.0),
            "segments": self.segments,
            "other_segments": self.other_segments,
            "kept_files": self.kept_files,
            "disk_bytes": self.disk_bytes,
            "size": size.map(Size::json),
            "activity": self.activity.as_ref().map(activity_json),
            "payload_bytes": sizes.bytes(),
            "record_sizes": sizes.classes().map(class).collect::<Vec<_>>(),
            "pins": self.pins.iter().map(pin).collect::<Vec<_>>(),
            "rate": rate,
        })
    }
}

/// What the writer, or the last one, has done since it opened the log.
fn print_activity(out: &mut impl Write, activity: &Activity) -> std::io::Result<()> {
    let count = |number: u64| HumanCount(number).to_string();
    let (syncs, p50, p99) = (count(activity.syncs), activity.sync_time_p50, activity.sync_time_p99);
    writeln!(out, "syncs      {syncs}, half of them within {p50:.1?}, 99 % within {p99:.1?}")?;
    let (recycled, removed) = (count(activity.recycled_segments), count(activity.removed_segments));
    let (spares, zeros) = (count(activity.spare_segments), BinaryBytes(activity.zeros_written_bytes));
    let stalls = count(activity.stalls);
    writeln!(out, "files      {recycled} recycled, {removed} removed, {spares} ready or kept")?;
    writeln!(out, "room       {zeros} of zeros written ahead; {stalls} stalls of appenders")
}

fn activity_json(activity: &Activity) -> Value {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    json!({
        "syncs": activity.syncs,
        "sync_time_p50_us": micros(activity.sync_time_p50),
        "sync_time_p99_us": micros(activity.sync_time_p99),
        "stalls": activity.stalls,
        "zeros_written_bytes": activity.zeros_written_bytes,
        "recycled_segments": activity.recycled_segments,
        "removed_segments": activity.removed_segments,
        "spare_segments": activity.spare_segments,
        "oldest_guarded_lsn": activity.oldest_guarded.map(|lsn| lsn.0),
        "unlinked_bytes": activity.unlinked_bytes,
    })
}
