//! `mapwal stat`: the state of a log in numbers.

mod histogram;
mod prometheus;
mod size;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanCount, ProgressBar};
use mapwal::inspect::Activity;
use mapwal::{Error, Follower, LogReader, Lsn, PinStatus, Snapshot, Visibility};
use serde_json::{Value, json};

use crate::arguments::{Stat, StatFormat};
use crate::failure::{Explain, Failure, Outcome, Result, Written, counted};
use crate::look::Look;
use crate::readers::Reader;
use crate::stop::Stop;
use crate::time::{micros, show};
use crate::writer::Writer;
use crate::{fit, json, open, pins, progress, readers};
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
    let (mut look, histogram) = read(arguments)?;
    let mut sizes = None;
    // Before anything is printed: what reads it may end this then.
    let stop = arguments.watch.then(Stop::by_signals_and_keys).transpose()?;
    State::of(directory, &look).print(is_json, &histogram, &Size::of(&look, directory), None)?;
    if let Some(stop) = stop {
        let mut looked = Instant::now();
        while !stop.is_asked() {
            std::thread::sleep(LOOK_INTERVAL);
            if looked.elapsed() < WATCH_INTERVAL {
                continue;
            }
            let sizes = match &mut sizes {
                Some(sizes) => sizes,
                none => none.insert(Sizes::after(&look, histogram.clone(), directory)?),
            };
            let (seconds, before) = (looked.elapsed().as_secs_f64(), (look.next, sizes.histogram.bytes()));
            looked = Instant::now();
            sizes.catch_up(directory)?;
            look = take(arguments)?;
            let lsn = |lsn: Option<Lsn>| lsn.map_or(0, |lsn| lsn.0);
            let rate = Rate {
                records: per_second(lsn(look.next).saturating_sub(lsn(before.0)), seconds),
                bytes: per_second(sizes.histogram.bytes().saturating_sub(before.1), seconds),
            };
            State::of(directory, &look).print(is_json, &sizes.histogram, &Size::of(&look, directory), Some(rate))?;
        }
    }
    Ok(Outcome::Done)
}

/// A look at a log that is not damaged as far as it shows.
fn take(arguments: &Stat) -> Result<Look> {
    let directory = &*arguments.directory;
    open::reader(directory, arguments.archive)?;
    let look = Look::take(directory, arguments.archive, "stat")?;
    match look.damage.first() {
        Some(damage) => Err(Failure::of_log(&damage.clone().into(), directory)),
        None => Ok(look),
    }
}

/// A look, and the sizes of all records that there are in it.
fn read(arguments: &Stat) -> Result<(Look, Histogram)> {
    let directory = &*arguments.directory;
    let mut looks = open::Looks::begin();
    loop {
        let look = take(arguments)?;
        let bar = progress::of_bytes("stat", look.inspection.bytes_to_verify());
        let counted = look.records.as_ref().map_or(Ok(Histogram::default()), |(_, records)| count(records, &bar));
        bar.finish_and_clear();
        match counted {
            // What was there is gone: all is looked at again.
            Err(Error::Trimmed { .. }) if looks.go_on() => {}
            Err(Error::Trimmed { .. }) => {
                let why =
                    "records are trimmed before they can be read; a pin keeps them (`mapwal pins DIR add NAME oldest`)";
                return Err(Failure::new("cannot read", why, directory));
            }
            counted => return counted.about(directory).map(|histogram| (look, histogram)),
        }
    }
}

fn count(records: &Snapshot, bar: &ProgressBar) -> mapwal::Result<Histogram> {
    let mut histogram = Histogram::default();
    for record in records {
        let len = record?.payload().len() as u64;
        histogram.count(len);
        bar.inc(len);
    }
    Ok(histogram)
}

/// The sizes of the records, as far as they have been read.
struct Sizes {
    reader: LogReader,
    follower: Follower,
    histogram: Histogram,
}

impl Sizes {
    /// Goes on with `histogram`, which has the records of `look`.
    fn after(look: &Look, histogram: Histogram, directory: &Path) -> Result<Self> {
        let Some((reader, records)) = &look.records else { unreachable!("it is not damaged") };
        let follower = match reader.follow(records.next_lsn(), Visibility::Published) {
            Err(Error::Trimmed { .. } | Error::NotAppended { .. }) => from_oldest(reader),
            followed => followed,
        };
        Ok(Self { reader: reader.clone(), follower: follower.about(directory)?, histogram })
    }

    fn catch_up(&mut self, directory: &Path) -> Result<()> {
        loop {
            match self.follower.next() {
                Ok(Some(record)) => {
                    self.histogram.count(record.payload().len() as u64);
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
    readers: Vec<Reader>,
}

impl State {
    fn of(directory: &Path, look: &Look) -> Self {
        let inspection = &look.inspection;
        let segments = inspection.segments().iter().filter(|file| file.counts).count();
        Self {
            directory: directory.display().to_string(),
            log_id: inspection.log_id(),
            writer: look.writer,
            poisoned: inspection.is_poisoned(),
            first: look.first.unwrap_or(Lsn(1)),
            next: look.next.unwrap_or(Lsn(1)),
            durable: inspection.durable_lsn(),
            segments,
            other_segments: inspection.segments().len() - segments,
            kept_files: inspection.kept_files().len(),
            disk_bytes: inspection.disk_bytes(),
            activity: inspection.activity(),
            pins: look.pins.clone(),
            readers: readers::find(inspection, directory, look.writer.pid()),
        }
    }

    fn print(&self, is_json: bool, sizes: &Histogram, size: &Size, rate: Option<Rate>) -> Result<()> {
        let mut out = anstream::stdout().lock();
        let printed = if is_json {
            json::write(&mut out, "stat", &self.json(sizes, size, rate))
        } else if let Some(rate) = rate {
            self.print_rate(&mut out, rate)
        } else {
            let mut text = Vec::new();
            self.print_text(&mut text, sizes, size)
                .and_then(|()| fit::write_folded(&mut out, &String::from_utf8_lossy(&text), fit::columns()))
                .and_then(|()| self.print_pins(&mut out))
        };
        printed.and_then(|()| out.flush()).written()
    }

    fn print_rate(&self, out: &mut impl Write, rate: Rate) -> std::io::Result<()> {
        let (records, bytes) = (HumanCount(rate.records), BinaryBytes(rate.bytes));
        let durable = self.durable.map_or("-".to_owned(), |durable| durable.to_string());
        let last = self.next.previous();
        writeln!(out, "last {last}  durable {durable}  {records} records/s  {bytes}/s  {}", self.writer_text())
    }

    fn print_text(&self, out: &mut impl Write, sizes: &Histogram, size: &Size) -> std::io::Result<()> {
        let count = |number: u64| HumanCount(number).to_string();
        writeln!(out, "log        {}", self.directory)?;
        writeln!(out, "id         {:032x}", self.log_id)?;
        writeln!(out, "writer     {}", self.writer_text())?;
        // Not each number has a record.
        let records = count(sizes.records());
        if self.first < self.next {
            writeln!(out, "records    {records}, from {} to {}", self.first, self.next.previous())?;
        } else {
            writeln!(out, "records    {records}, and the next will be {}", self.next)?;
        }
        match self.durable {
            Some(Lsn::ZERO) => writeln!(out, "durable    no record yet, says the last writer")?,
            Some(durable) => writeln!(out, "durable    up to {durable}, says the last writer")?,
            None => writeln!(out, "durable    unknown: there is no control page")?,
        }
        let (segments, others, disk) = (self.segments, self.other_segments, BinaryBytes(self.disk_bytes));
        let kept = counted(self.kept_files as u64, "file", "files");
        writeln!(out, "segments   {segments}, and {others} spare or left over, {kept} kept; {disk} on disk")?;
        size.print(out)?;
        for Reader { pid, name, from, files } in &self.readers {
            let files = counted(*files as u64, "file", "files");
            let from = from.map_or("dropped ones alone".to_owned(), |from| format!("from record {from} on"));
            writeln!(out, "reader     process {pid}, {}: {files}, {from}", name.escape_debug())?;
        }
        if let Some(activity) = &self.activity {
            print_activity(out, activity, self.writer.is_alive())?;
        }
        writeln!(out, "payload    {}", BinaryBytes(sizes.bytes()))?;
        for (from, to, records) in sizes.classes() {
            let range = format!("{}..{}", BinaryBytes(from), BinaryBytes(to));
            writeln!(out, "  {range:>24}  {:>14}  {}", count(records), sizes.bar(records))?;
        }
        Ok(())
    }

    fn print_pins(&self, out: &mut impl Write) -> std::io::Result<()> {
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

    fn json(&self, sizes: &Histogram, size: &Size, rate: Option<Rate>) -> Value {
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
            "size": size.json(),
            "activity": self.activity.as_ref().map(activity_json),
            "records": sizes.records(),
            "payload_bytes": sizes.bytes(),
            "record_sizes": sizes.classes().map(class).collect::<Vec<_>>(),
            "pins": self.pins.iter().map(pin).collect::<Vec<_>>(),
            "readers": self.readers.iter().map(Reader::json).collect::<Vec<_>>(),
            "rate": rate,
        })
    }
}

/// What the writer, or the last one, has done since it opened the log.
fn print_activity(out: &mut impl Write, activity: &Activity, is_current: bool) -> std::io::Result<()> {
    let count = |number: u64| HumanCount(number).to_string();
    let [p50, p99] = [activity.sync_time_p50, activity.sync_time_p99].map(show);
    writeln!(out, "syncs      {}, half of them within {p50}, 99 % within {p99}", count(activity.syncs))?;
    let (recycled, removed) = (count(activity.recycled_segments), count(activity.removed_segments));
    let (spares, zeros) = (count(activity.spare_segments), BinaryBytes(activity.zeros_written_bytes));
    let stalls = count(activity.stalls);
    // Once the writer is gone, what it had ready may be gone as well.
    let ready = if is_current { format!(", {spares} ready or kept") } else { ", by the last writer".to_owned() };
    writeln!(out, "files      {recycled} recycled, {removed} removed{ready}")?;
    writeln!(out, "room       {zeros} of zeros written ahead; {stalls} stalls of appenders")
}

fn activity_json(activity: &Activity) -> Value {
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
