//! `mapwal salvage`: what passes its checks, out of a damaged log into a new one.
//!
//! Nothing is believed but frames whose checksums are right, in segments that count. A number that jumps further than the
//! files have room for is not believed either.

mod files;
mod lost;
mod pins;
mod target;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use indicatif::ProgressBar;
use mapwal::error::Damage;
use mapwal::inspect::{FrameRole, Inspection, ScanItem, ScannedFrame, SegmentFile, SegmentScan};
use mapwal::{Error, Log, Lsn, Options};

use crate::arguments::Salvage;
use crate::failure::{Explain, Failure, Outcome, Result, counted, describe};
use crate::look::tell_page_fault;
use crate::stop::Stop;
use crate::{failure, open, out, progress};
use files::{is_gone, is_trimmed, look, span_of};
pub(crate) use files::{segment_number, segment_size, with_records};
use lost::{TWO_HISTORIES, damaged};
use pins::say_pins_left;
pub(crate) use target::Target;

/// The least that a record takes in a segment: its header.
const FRAME_LEN_MIN: u64 = 24;
/// Where in OUT the copy is made: a directory that holds this alone is no log.
const PART: &str = "salvage.part";
/// Frames that are copied before it is asked again whether to stop.
const FRAMES_BETWEEN_LOOKS: u64 = 1 << 8;
/// How far to go on after a place that cannot be read: what devices read at once.
const UNREADABLE_BYTES: u64 = 4096;

pub(crate) fn run(arguments: &Salvage) -> Result<Outcome> {
    out::check_empty(&arguments.out)?;
    out::check_outside(&arguments.out, &arguments.directory)?;
    let stop = Stop::by_signals()?;
    let (inspection, held) = look(&arguments.directory)?;
    let (out, part) = (&*arguments.out, arguments.out.join(PART));
    let made = out::Made::directory(out, &arguments.directory)?;
    let copied = copy(arguments, &inspection, held, (&part, &stop)).inspect_err(|_| {
        // What is left of it says by its name that it is no log.
        let _ = fs::remove_dir_all(&part);
        made.remove();
    })?;
    files::make_log(&part, out)
        .map_err(|failure| failure.and("delete the directory of the copy, which is not finished"))?;
    failure::say(&format!("saved {}", counted(copied.records, "record", "records")))
        .map_err(|failure| failure.and("the copy is complete"))?;
    say_pins_left(&inspection, &arguments.directory, copied.outcome())
}

fn copy(
    arguments: &Salvage,
    inspection: &Inspection,
    held: VecDeque<mapwal::Result<SegmentScan>>,
    (part, stop): (&Path, &Stop),
) -> Result<Copied> {
    let files: Vec<_> = with_records(inspection).into_iter().cloned().collect();
    files::make_part(part, &arguments.directory, &files)?;
    let next = files.first().and_then(|file| file.first_lsn);
    copy_records(
        arguments,
        inspection,
        (&files, held),
        Target { part, log: None, next, sealed_into: None, list: None, is_told: false, stop: Some(stop) },
    )
}

/// What has been copied.
pub(crate) struct Copied {
    pub(crate) records: u64,
    has_gaps: bool,
}

impl Copied {
    pub(crate) fn outcome(&self) -> Outcome {
        if self.has_gaps { Outcome::Gaps } else { Outcome::Done }
    }
}

/// Copies what is sound in `files`, of which some are `held` open, into a log that is closed then. Tells what is lost.
pub(crate) fn copy_records(
    arguments: &Salvage,
    inspection: &Inspection,
    (files, mut held): (&[SegmentFile], VecDeque<mapwal::Result<SegmentScan>>),
    target: Target<'_>,
) -> Result<Copied> {
    let segment_size = segment_size(inspection);
    let span = span_of(files, inspection);
    let bar = progress::of_bytes("salvage", files.iter().map(|file| file.file_len_bytes).sum());
    let mut copy = Copy {
        arguments,
        options: segment_size.map_or_else(Options::new, |size| Options::new().segment_size_bytes(size)),
        jump_max: span.saturating_mul(segment_size.unwrap_or(0)) / FRAME_LEN_MIN,
        part: target.part,
        out: target.log,
        list: target.list,
        is_told: target.is_told,
        next: target.next,
        copied: 0,
        run: None,
        meta: BTreeMap::new(),
        sealed_into: target.sealed_into,
        has_gaps: false,
        is_trimmed: false,
        last_copied: None,
        last_missing: None,
        stop: target.stop,
        log_id: inspection.log_id(),
        active: inspection.active_segment(),
        frames: 0,
        bar,
    };
    if !copy.is_told {
        tell_page_fault(inspection);
    }
    copy.note_missing(inspection.faults());
    copy.note_beginning(inspection, files)?;
    let newest = inspection.segments().iter().rfind(|file| file.counts).map(|file| file.number);
    if files.iter().all(|file| Some(file.number) != newest) {
        copy.note_missing_after(inspection);
    }
    for (at, file) in files.iter().enumerate() {
        held.extend(files.get(at + held.len()).map(|ahead| SegmentScan::open(&ahead.path)));
        let opened = held.pop_front().expect("this one at least");
        copy.segment(file, opened)?;
        if newest == Some(file.number) {
            copy.note_missing_after(inspection);
        }
    }
    copy.finish(inspection.durable_lsn())
}

struct Copy<'a> {
    arguments: &'a Salvage,
    options: Options,
    /// Records that there is room for in all segments together.
    jump_max: u64,
    /// Where the copy is made.
    part: &'a Path,
    list: Option<File>,
    is_told: bool,
    out: Option<Log>,
    /// The number that the damaged log goes on with, as far as that is known.
    next: Option<Lsn>,
    copied: u64,
    /// Old numbers in a row, first and last, and the first new one.
    run: Option<(Lsn, Lsn, Lsn)>,
    meta: BTreeMap<usize, Vec<u8>>,
    /// The segment that the last frame, a seal, names.
    sealed_into: Option<u64>,
    has_gaps: bool,
    /// A segment was trimmed before it was copied, and what was in it has not been listed yet.
    is_trimmed: bool,
    /// The name of the last file with a record that was copied.
    last_copied: Option<OsString>,
    /// The last file that is missing, or of which a part is.
    last_missing: Option<OsString>,
    stop: Option<&'a Stop>,
    /// The identity of the log.
    log_id: u128,
    /// The segment that the last writer appended to, by its control page: later ones held nothing.
    active: Option<u64>,
    /// Frames that have been looked at.
    frames: u64,
    bar: ProgressBar,
}

impl Copy<'_> {
    /// Copies what is sound in one segment.
    fn segment(&mut self, file: &SegmentFile, opened: mapwal::Result<SegmentScan>) -> Result<()> {
        let path = &*file.path;
        let is_gone = is_gone(&opened);
        let copied = self.copied;
        let mut scan = match opened {
            Ok(scan) => scan,
            Err(_) if is_gone && is_trimmed(file, &self.arguments.directory) => {
                self.is_trimmed = true;
                return Ok(());
            }
            Err(error) if is_gone || matches!(error, Error::Corrupt(_)) => {
                // Without a sound header, no frame of it can be checked.
                if !self.is_told {
                    Failure::of_log(&error, path).tell();
                }
                self.note_lost(path);
                return Ok(());
            }
            Err(error) => return Err(Failure::of_log(&error, path)),
        };
        if scan.log_id() != self.log_id {
            // Under whatever name and number.
            let damage = Damage::ForeignSegment { expected: self.log_id, found: scan.log_id() };
            damaged(path, &damage).tell();
            self.note_lost(path);
            return Ok(());
        }
        if let Some(end) = file.end {
            scan.stop_at(end);
        }
        loop {
            self.check_stop()?;
            let offset = scan.offset();
            match scan.next() {
                Ok(Some(ScanItem::Frame(frame))) => self.frame(&frame)?,
                Ok(Some(_)) => self.sealed_into = None,
                Ok(None) => break,
                Err(error) => {
                    Failure::of_log(&error, path).tell();
                    self.has_gaps = true;
                    self.note_lost(path);
                    while scan.skip(UNREADABLE_BYTES).is_err() {}
                }
            }
            self.bar.inc(scan.offset().saturating_sub(offset));
        }
        if self.copied > copied {
            self.last_copied = path.file_name().map(OsString::from);
        } else if Some(scan.number()) != segment_number(path) {
            // Another one of the log in its place.
            let expected = segment_number(path).unwrap_or(0);
            damaged(path, &Damage::SegmentNumber { expected, found: scan.number() }).tell();
            self.note_lost(path);
        }
        self.check_end(file, scan.tip())
    }

    /// An error if the user has had enough, which is asked from time to time.
    fn check_stop(&mut self) -> Result<()> {
        self.frames += 1;
        if self.frames.is_multiple_of(FRAMES_BETWEEN_LOOKS) && self.stop.is_some_and(Stop::is_asked) {
            return Err(Failure::new("stopped", "the copy is removed", &self.arguments.out));
        }
        Ok(())
    }

    fn frame(&mut self, frame: &ScannedFrame<'_>) -> Result<()> {
        self.meta.extend(frame.meta());
        self.sealed_into = frame.sealed_into();
        let lsn = frame.lsn();
        let next = *self.next.get_or_insert(lsn);
        // Below are records that have been copied, or replaced.
        if frame.role() == FrameRole::Control || lsn < next {
            return Ok(());
        }
        let missing = lsn.0 - next.0;
        if missing > self.jump_max {
            let why = format!("the log has no room for that many records from {next} on");
            Failure::new(format!("record {lsn} left out"), why, &self.arguments.directory).tell();
            self.has_gaps = true;
            return Ok(());
        }
        if missing > 0 {
            self.gap(next, lsn.previous())?;
        }
        self.copy(frame)?;
        self.next = Some(lsn.next());
        Ok(())
    }

    fn copy(&mut self, frame: &ScannedFrame<'_>) -> Result<()> {
        let (out, renumber) = (&*self.arguments.out, self.arguments.renumber);
        let lsn = frame.lsn();
        let record = frame.record();
        let Some(record) = record else {
            return if renumber { Ok(()) } else { self.open(lsn)?.append_void().map(drop).about(out) };
        };
        let copied = self.open(lsn)?.append(record.tag(), record.payload()).about(out)?;
        self.copied += 1;
        self.run = match self.run {
            Some((first, last, new)) if last.next() == lsn => Some((first, lsn, new)),
            before => {
                self.print_run(before)?;
                Some((lsn, lsn, copied))
            }
        };
        Ok(())
    }

    /// Lists records that are missing, and has the copy pass over their numbers.
    fn gap(&mut self, first: Lsn, last: Lsn) -> Result<()> {
        self.has_gaps = true;
        let count = last.0 - first.0 + 1;
        let how = if std::mem::take(&mut self.is_trimmed) { "trimmed" } else { "lost" };
        self.say(&format!("{how} {first}..{last}: {}", counted(count, "record", "records")))?;
        if !self.arguments.renumber {
            let (out, log) = (&*self.arguments.out, self.open(first)?);
            for _ in 0..count {
                log.append_void().about(out)?;
            }
        }
        Ok(())
    }

    /// The copy, which begins with record `first` if it is new.
    fn open(&mut self, first: Lsn) -> Result<&Log> {
        let log = match self.out.take() {
            Some(log) => log,
            None if self.arguments.renumber => open::writer(self.part, &self.options)?,
            None => open::writer(self.part, &self.options.clone().first_lsn(first))?,
        };
        Ok(self.out.insert(log))
    }

    fn finish(mut self, durable: Option<Lsn>) -> Result<Copied> {
        // What the last writer has called durable, and is not there.
        if let (Some(next), Some(durable)) = (self.next, durable)
            && durable >= next
            && durable.0 - next.0 < self.jump_max
        {
            self.gap(next, durable)?;
        } else if let Some(next) = self.next.filter(|&next| durable != Some(next.previous()) && self.is_end_unknown()) {
            // No later number tells how far it went, or none that can be believed.
            self.has_gaps = true;
            let again = if self.arguments.renumber { "" } else { "; what is appended next gets their numbers again" };
            self.say(&format!("lost what there was from {next} on: nothing tells how many records{again}"))?;
        }
        self.print_run(self.run)?;
        self.bar.finish_and_clear();
        let out = &*self.arguments.out;
        let Some(log) = self.out.take() else {
            return Err(Failure::new("nothing to save", "no record passes its checks", &self.arguments.directory));
        };
        for (&slot, value) in self.meta.iter().filter(|_| !self.arguments.renumber) {
            log.put_meta(slot, value).about(out)?;
        }
        log.close().about(out)?;
        Ok(Copied { records: self.copied, has_gaps: self.has_gaps })
    }

    fn print_run(&mut self, run: Option<(Lsn, Lsn, Lsn)>) -> Result<()> {
        match run.filter(|_| self.arguments.renumber) {
            None => Ok(()),
            Some((first, last, new)) => {
                let new_last = Lsn(new.0 + (last.0 - first.0));
                self.say(&format!("old {first}..{last} is new {new}..{new_last}"))
            }
        }
    }

    fn say(&mut self, line: &str) -> Result<()> {
        if let Some(list) = self.list.as_mut().filter(|_| line.starts_with("lost ") || line.starts_with(TWO_HISTORIES))
        {
            writeln!(list, "{line}").map_err(|error| Failure::new("cannot write", describe(&error), self.part))?;
        }
        self.bar.suspend(|| failure::say(line))
    }
}
