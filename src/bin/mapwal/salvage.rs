//! `mapwal salvage`: what passes its checks, out of a damaged log into a new one.
//!
//! What is there, and what is missing, is as `docs/design/salvage.md` has it. Nothing is believed but frames whose checksums are right, in segments that
//! count. A number that jumps further than the files have room for is not believed either.

mod files;
mod lost;
mod pins;
mod target;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use indicatif::ProgressBar;
use mapwal::inspect::{FrameRole, Inspection, Remains, ScanItem, ScannedFrame, SegmentFile, SegmentScan};
use mapwal::{Log, Lsn, Options};

use crate::arguments::Salvage;
use crate::failure::{Explain, Failure, Outcome, Result, SALVAGE_PART, counted, describe};
use crate::stop::Stop;
use crate::{failure, open, out, progress};
use files::{is_gone, is_trimmed, look, span_of};
pub(crate) use files::{segment_number, segment_size};
use lost::TWO_HISTORIES;
use pins::say_pins_left;
pub(crate) use target::Target;

/// The least that a record takes in a segment: its header.
const FRAME_LEN_MIN: u64 = 24;
/// Where in OUT the copy is made: a directory that holds this alone is no log.
/// Frames that are copied before it is asked again whether to stop.
const FRAMES_BETWEEN_LOOKS: u64 = 1 << 8;
/// How far to go on after a place that cannot be read: what devices read at once.
const UNREADABLE_BYTES: u64 = 4096;

pub(crate) fn run(arguments: &Salvage) -> Result<Outcome> {
    out::check_empty(&arguments.out)?;
    out::check_outside(&arguments.out, &arguments.directory)?;
    let stop = Stop::by_signals()?;
    let mut looked = look(&arguments.directory)?;
    let (out, part) = (&*arguments.out, arguments.out.join(SALVAGE_PART));
    let made = out::Made::directory(out, &arguments.directory)?;
    let mut looks = 1;
    let (inspection, copied) = loop {
        let (inspection, remains, held) = looked;
        let copied = copy(arguments, (&inspection, &remains), held, (&part, &stop));
        if let Ok(Some(copied)) = copied {
            break (inspection, copied);
        }
        // What is left of it says by its name that it is no log.
        let _ = fs::remove_dir_all(&part);
        // All that there was may have been trimmed meanwhile.
        let is_trimmed = || remains.segments().first().is_some_and(|first| is_trimmed(first, &arguments.directory));
        let is_over = copied.is_err() || looks == open::LOOKS_MAX || !is_trimmed();
        let again =
            if is_over { copied.and(Err(nothing_to_save(&arguments.directory))) } else { look(&arguments.directory) };
        looked = again.inspect_err(|_| made.remove())?;
        looks += 1;
    };
    files::make_log(&part, out)
        .map_err(|failure| failure.and("delete the directory of the copy, which is not finished"))?;
    failure::say(&format!("saved {}", counted(copied.records, "record", "records")))
        .map_err(|failure| failure.and("the copy is complete"))?;
    say_pins_left(&inspection, &arguments.directory, copied.outcome())
}

fn copy(
    arguments: &Salvage,
    (inspection, remains): (&Inspection, &Remains),
    held: VecDeque<mapwal::Result<SegmentScan>>,
    (part, stop): (&Path, &Stop),
) -> Result<Option<Copied>> {
    let (files, copies) = (remains.segments(), remains.copies());
    files::make_part(part, &arguments.directory, files)?;
    let next = files.first().and_then(|file| file.first_lsn);
    copy_records(
        arguments,
        (inspection, remains),
        Sources { files, held, copies },
        Target { part, log: None, next, sealed_into: None, kept: 0, list: None, is_told: false, stop: Some(stop) },
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

/// The files that records are copied from.
pub(crate) struct Sources<'a> {
    /// In their order.
    pub(crate) files: &'a [SegmentFile],
    /// The first of them, opened.
    pub(crate) held: VecDeque<mapwal::Result<SegmentScan>>,
    /// Where else records are looked for that are damaged there.
    pub(crate) copies: &'a [SegmentFile],
}

/// What is said where there is nothing to copy.
pub(crate) fn nothing_to_save(directory: &Path) -> Failure {
    Failure::new("nothing to save", "no record passes its checks", directory)
}

/// Copies what is sound in `sources` into a log that is closed then. Tells what is lost. `None` if nothing is sound.
pub(crate) fn copy_records(
    arguments: &Salvage,
    (inspection, remains): (&Inspection, &Remains),
    Sources { files, mut held, copies }: Sources<'_>,
    target: Target<'_>,
) -> Result<Option<Copied>> {
    let segment_size = segment_size(remains);
    let span = span_of(remains, inspection);
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
        end: End { segment: target.kept, sealed_into: target.sealed_into, ..End::default() },
        has_gaps: false,
        is_trimmed: false,
        stop: target.stop,
        remains,
        copies: copies.to_vec(),
        frames: 0,
        bar,
    };
    copy.tell_faults(inspection);
    copy.list_beginning()?;
    for (at, file) in files.iter().enumerate() {
        held.extend(files.get(at + held.len()).map(|ahead| SegmentScan::open(&ahead.path)));
        let opened = held.pop_front().expect("this one at least");
        copy.segment(file, opened)?;
    }
    copy.finish(inspection)
}

/// Where the sound frames end.
#[derive(Default)]
struct End {
    /// The newest segment with one.
    segment: u64,
    /// The segment that the last of them, a seal, names.
    sealed_into: Option<u64>,
    /// The last of them is a close.
    is_closed: bool,
    /// What comes after it in the file cannot be read.
    is_unread: bool,
    /// What comes after it in the file is no sound frame.
    is_torn: bool,
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
    /// The end of what has been copied.
    end: End,
    has_gaps: bool,
    /// A segment was trimmed before it was copied, and what was in it has not been listed yet.
    is_trimmed: bool,
    stop: Option<&'a Stop>,
    remains: &'a Remains,
    copies: Vec<SegmentFile>,
    /// Frames that have been looked at.
    frames: u64,
    bar: ProgressBar,
}

impl Copy<'_> {
    /// Copies what is sound in one segment.
    fn segment(&mut self, file: &SegmentFile, opened: mapwal::Result<SegmentScan>) -> Result<()> {
        let path = &*file.path;
        let is_gone = is_gone(&opened);
        let mut scan = match opened {
            Ok(scan) => scan,
            Err(_) if is_gone && is_trimmed(file, &self.arguments.directory) => {
                self.is_trimmed = true;
                return Ok(());
            }
            // It has changed since it was looked at.
            Err(error) => return Err(Failure::of_log(&error, path)),
        };
        if let Some(end) = file.end {
            scan.stop_at(end);
        }
        loop {
            self.check_stop()?;
            let offset = scan.offset();
            match scan.next() {
                Ok(Some(ScanItem::Frame(frame))) => self.frame(file, &frame)?,
                Ok(Some(_)) => (self.end.sealed_into, self.end.is_closed, self.end.is_torn) = (None, false, true),
                Ok(None) => break,
                Err(error) => {
                    Failure::of_log(&error, path).tell();
                    (self.has_gaps, self.end.is_unread) = (true, true);
                    while scan.skip(UNREADABLE_BYTES).is_err() {}
                }
            }
            self.bar.inc(scan.offset().saturating_sub(offset));
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

    fn frame(&mut self, file: &SegmentFile, frame: &ScannedFrame<'_>) -> Result<()> {
        let (lsn, is_control) = (frame.lsn(), frame.role() == FrameRole::Control);
        (self.end.sealed_into, self.end.is_closed) = (frame.sealed_into(), frame.is_close());
        if file.next_lsn.is_some_and(|end| lsn > end || (lsn == end && !is_control)) {
            // The next segment has replaced it.
            return Ok(());
        }
        self.meta.extend(frame.meta());
        (self.end.segment, self.end.is_unread, self.end.is_torn) = (file.number, false, false);
        let next = *self.next.get_or_insert(lsn);
        // Below are records that have been copied.
        if lsn < next {
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
        if is_control {
            return Ok(());
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
        if !renumber && copied != lsn {
            let why = format!("record {lsn} would have got the number {copied}");
            return Err(Failure::new("the copy has gone wrong", why, out));
        }
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

    /// Takes records that are missing out of further copies, or lists them.
    fn gap(&mut self, first: Lsn, last: Lsn) -> Result<()> {
        self.next = Some(first);
        self.fill(0, last)
    }

    /// Lists records that are missing, from the next one to `last`, and has the copy pass over their numbers.
    fn list(&mut self, last: Lsn) -> Result<()> {
        let Some(first) = self.next.filter(|&first| first <= last) else { return Ok(()) };
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
        self.next = Some(last.next());
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

    fn finish(mut self, inspection: &Inspection) -> Result<Option<Copied>> {
        if let Some(last) = self.last_in_copies()? {
            let next = *self.next.get_or_insert(last);
            self.gap(next, last)?;
        }
        self.list_end(inspection)?;
        self.print_run(self.run)?;
        self.bar.finish_and_clear();
        let out = &*self.arguments.out;
        let Some(log) = self.out.take() else { return Ok(None) };
        for (&slot, value) in self.meta.iter().filter(|_| !self.arguments.renumber) {
            log.put_meta(slot, value).about(out)?;
        }
        log.close().about(out)?;
        Ok(Some(Copied { records: self.copied, has_gaps: self.has_gaps }))
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
