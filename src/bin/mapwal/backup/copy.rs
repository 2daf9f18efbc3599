//! A copy under way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use mapwal::Lsn;
use mapwal::error::Corruption;
use mapwal::inspect::{Extent, Inspection, ScanItem, SegmentFile, SegmentScan};

use super::check::{Held, check, damaged};
use super::earlier::Earlier;
use super::files::{self, failed, temporary};
use super::report::Report;
use crate::arguments::Backup;
use crate::failure::{BACKUP_GUARD, Explain, Failure, Outcome, Result};
use crate::look::tell_page_fault;
use crate::step::step;
use crate::stop::Stop;
use crate::{open, out, progress};

const CHUNK_LEN: usize = 1 << 20;
/// How often a log that is being written is copied before it is called damaged.
const TRIES_MAX: u32 = 4;
/// The same for one whose newest segment alone is in doubt.
const SHORT_TRIES_MAX: u32 = 40;
/// Between two of these.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Copy<'a> {
    arguments: &'a Backup,
    earlier: Option<&'a Earlier>,
    stop: &'a Stop,
    log_id: u128,
    files: Vec<SegmentFile>,
    /// The last record that there was before.
    published: Lsn,
    page_fault: Option<Corruption>,
    /// What has been made of segments that have a successor, by number: where they end, and with what.
    made: BTreeMap<u64, Made>,
    /// Segments that an earlier copy has as they are.
    same: BTreeSet<u64>,
    /// The newest segment has ended too early: a truncation between the looks at it does that as well.
    is_short: bool,
    /// Whose the files of the log are.
    owner: Metadata,
    /// The directory of the copy, if it has been made.
    made_directory: Option<out::Made>,
    /// Files have been given the names that those of a log have.
    is_named: bool,
    bar: ProgressBar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Made {
    end: (Option<u64>, Option<u32>),
    means: Means,
    records: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Means {
    Copied,
    /// It has the blocks of the log's own file.
    Reflinked,
    /// It has those of an earlier copy.
    Shared,
}

impl<'a> Copy<'a> {
    pub(super) fn new(arguments: &'a Backup, earlier: Option<&'a Earlier>, stop: &'a Stop) -> Result<Self> {
        let bar = progress::of_bytes("backup", 0);
        let (log_id, files, published, page_fault) = look(arguments)?;
        earlier.map_or(Ok(()), |earlier| earlier.check(log_id))?;
        let owner = out::owner_of(files.iter().rev(), &arguments.directory)?;
        Ok(Self {
            arguments,
            earlier,
            stop,
            log_id,
            files,
            published,
            page_fault,
            made: BTreeMap::new(),
            same: BTreeSet::new(),
            is_short: false,
            owner,
            made_directory: None,
            is_named: false,
            bar,
        })
    }

    /// Returns what to say of it.
    pub(super) fn carry_out(mut self) -> Result<Report> {
        let out = &*self.arguments.out;
        // Its pin is there.
        step();
        self.made_directory = Some(out::Made::directory(out, &self.arguments.directory)?);
        let guarded = files::create(&out.join(BACKUP_GUARD)).map_err(failed("create", out));
        let newest = guarded.and_then(|_| out::sync_directory(out)).and_then(|()| self.try_all());
        let newest = newest.map_err(|failure| self.clear(failure))?;
        let parting = self.earlier.map_or(Ok(None), |earlier| earlier.parting(&self.copied(), &self.same))?;
        self.bar.finish_and_clear();
        Ok(self.report(newest, parting))
    }

    /// Removes what has been made, as far as it says by its names that it is no log.
    fn clear(&self, failure: Failure) -> Failure {
        let out = &*self.arguments.out;
        for file in &self.files {
            let _ = fs::remove_file(temporary(out, file));
        }
        if self.is_named {
            return failure.and("delete the directory of the copy, which is not finished");
        }
        let _ = fs::remove_file(out.join(BACKUP_GUARD));
        self.made_directory.iter().for_each(out::Made::remove);
        failure
    }

    fn report(&self, newest: Held, parting: Option<Lsn>) -> Report {
        let count = |means| self.made.values().filter(|made| made.means == means).count();
        Report {
            first: self.first(),
            next: newest.next,
            records: newest.records + self.made.values().map(|made| made.records).sum::<u64>(),
            segments: self.files.len(),
            reflinked: count(Means::Reflinked),
            shared: count(Means::Shared),
            against: self.earlier.map(|earlier| (earlier.path.clone(), parting)),
            page_fault: self.page_fault.clone(),
        }
    }

    /// The files of the finished copy: by now the log may have lost some of its own.
    fn copied(&self) -> Vec<SegmentFile> {
        let copied = |file: &SegmentFile| {
            let mut copied = file.clone();
            copied.path = self.arguments.out.join(file.path.file_name().expect("a segment has a name"));
            copied
        };
        self.files.iter().map(copied).collect()
    }

    fn first(&self) -> Lsn {
        self.files.first().and_then(|file| file.first_lsn).unwrap_or(Lsn(1))
    }

    /// Copies the log as it is at one moment, however often that takes; what its newest segment holds.
    fn try_all(&mut self) -> Result<Held> {
        let mut tries = 1;
        loop {
            match self.copy_all() {
                Err(failure) if self.is_to_be_tried_again(&failure, tries)? => tries += 1,
                done => return done,
            }
        }
    }

    /// Whether the log has changed since it was looked at, or may have; it is looked at anew then.
    fn is_to_be_tried_again(&mut self, failure: &Failure, tries: u32) -> Result<bool> {
        if self.is_named || self.stop.is_asked() || tries >= open::LOOKS_MAX {
            return Ok(false);
        }
        let inspection = Inspection::open(&self.arguments.directory).about(&self.arguments.directory)?;
        let is_there = |file: &SegmentFile| {
            inspection.segments().iter().any(|now| {
                (now.number, now.counts) == (file.number, true) && (file.end.is_none() || ends(now) == ends(file))
            })
        };
        let is_written = inspection.is_being_written().unwrap_or(false);
        let tries_max = if self.is_short && is_written { SHORT_TRIES_MAX } else { TRIES_MAX };
        // A writer that has ended since may have truncated it.
        let may_change =
            tries < tries_max && (is_written || self.is_short) && failure.outcome() == Some(Outcome::Damaged);
        if self.files.iter().all(is_there) && !may_change {
            return Ok(false);
        }
        std::thread::sleep(if may_change { PAUSE } else { Duration::ZERO });
        let first = self.first();
        let before = std::mem::take(&mut self.files);
        (self.log_id, self.files, self.published, self.page_fault) = look(self.arguments)?;
        if self.first() > first && self.files.first().is_some_and(|file| before.iter().any(|b| b.number == file.number))
        {
            let why = format!("records up to {} were trimmed before they were copied", self.first().previous());
            self.files = before;
            return Err(Failure::new("cannot copy", why, &self.arguments.directory));
        }
        for file in before {
            let is_right = self.files.iter().any(|now| now.number == file.number && ends(now) == ends(&file));
            if !is_right || file.end.is_none() || !self.made.contains_key(&file.number) {
                self.made.remove(&file.number);
                self.same.remove(&file.number);
                // It may not have come so far.
                let _ = fs::remove_file(temporary(&self.arguments.out, &file));
            }
        }
        Ok(true)
    }

    fn copy_all(&mut self) -> Result<Held> {
        self.is_short = false;
        self.bar.set_position(0);
        self.bar.set_length(self.files.iter().map(|file| file.end.unwrap_or(file.file_len_bytes)).sum());
        let Some((newest, sealed)) = self.files.split_last() else {
            return Err(Failure::new("nothing to copy", "no segment is sound", &self.arguments.directory));
        };
        let (newest, sealed) = (newest.clone(), sealed.to_vec());
        for file in &sealed {
            self.segment(file)?;
        }
        let end = end_of(&newest.path)?;
        let held = self.copy_bytes(&newest, end)?;
        // What the newest segment lacks at its end is found by that alone.
        self.is_short = self.published >= held.next;
        if self.is_short {
            return Err(damaged(&newest.path, (end, held.next), "frame is missing"));
        }
        self.is_named = true;
        self.give_names(end, held.next)?;
        Ok(held)
    }

    /// Makes a copy of a segment that has a successor, by the cheapest means there are.
    fn segment(&mut self, file: &SegmentFile) -> Result<()> {
        self.check_stop()?;
        let end = file.end.unwrap_or(file.file_len_bytes);
        if self.made.get(&file.number).is_some_and(|made| made.end == ends(file)) {
            self.bar.inc(end);
            return Ok(());
        }
        let path = temporary(&self.arguments.out, file);
        // While it is open for reading, no writer uses the file for another segment.
        let held = SegmentScan::open(&file.path).about(&file.path)?;
        let (means, records) = if let Some(records) = self.share(file, &path)? {
            self.bar.inc(end);
            (Means::Shared, records)
        } else {
            let source = File::open(&file.path).map_err(failed("open", &file.path))?;
            if files::reflink(&source, &path).map_err(failed("create", &path))? {
                out::give(&path, &self.owner)?;
                File::open(&path).and_then(|file| file.sync_all()).map_err(failed("sync", &path))?;
                let held = check(&path, end, file, &|| self.check_stop())?;
                self.bar.inc(end);
                (Means::Reflinked, held.records)
            } else {
                (Means::Copied, self.copy_bytes(file, end)?.records)
            }
        };
        drop(held);
        self.made.insert(file.number, Made { end: ends(file), means, records });
        Ok(())
    }

    /// How many records it has; `None` if it cannot be shared.
    fn share(&mut self, file: &SegmentFile, path: &Path) -> Result<Option<u64>> {
        let Some(earlier) = self.earlier else { return Ok(None) };
        let Some((same, records)) = earlier.same_as(file, &|| self.check_stop())? else { return Ok(None) };
        self.same.insert(file.number);
        let is_shared = files::share(same, path, &self.owner)?;
        Ok(is_shared.then_some(records))
    }

    /// Copies the frames of a segment up to `end`, and checks the copy.
    fn copy_bytes(&self, file: &SegmentFile, end: u64) -> Result<Held> {
        let path = temporary(&self.arguments.out, file);
        let _held = SegmentScan::open(&file.path).about(&file.path)?;
        let source = File::open(&file.path).map_err(failed("open", &file.path))?;
        let copy = files::create(&path).map_err(failed("create", &path))?;
        out::give(&path, &self.owner)?;
        files::allocate(&copy, file.file_len_bytes).map_err(failed("prepare", &path))?;
        let mut buffer = vec![0; CHUNK_LEN];
        let mut offset = 0;
        while offset < end {
            self.check_stop()?;
            let len = CHUNK_LEN.min(usize::try_from(end - offset).unwrap_or(CHUNK_LEN));
            source.read_exact_at(&mut buffer[..len], offset).map_err(failed("read", &file.path))?;
            copy.write_all_at(&buffer[..len], offset).map_err(failed("write", &path))?;
            offset += len as u64;
            self.bar.inc(len as u64);
        }
        copy.sync_all().map_err(failed("sync", &path))?;
        check(&path, end, file, &|| self.check_stop())
    }

    fn check_stop(&self) -> Result<()> {
        if self.stop.is_asked() {
            return Err(Failure::new("stopped", "the copy is removed", &self.arguments.out));
        }
        Ok(())
    }

    /// Makes a log of what has been copied, up to `end` of the newest segment, which is before record `next`.
    fn give_names(&self, end: u64, next: Lsn) -> Result<()> {
        let out = &*self.arguments.out;
        let number = |file: Option<&SegmentFile>| file.map_or(0, |file| file.number);
        let segments = number(self.files.first())..=number(self.files.last());
        let extent = Extent::new(self.log_id, segments, end, next.previous());
        write_control(out, &extent.control_page(), &self.owner)?;
        // The newest first: a log that loses its control page as well begins late, and lacks nothing after that.
        for file in self.files.iter().rev() {
            let name = file.path.file_name().expect("a segment has a name");
            fs::rename(temporary(out, file), out.join(name)).map_err(failed("rename", out))?;
        }
        out::sync_directory(out)?;
        fs::remove_file(out.join(BACKUP_GUARD)).map_err(failed("remove", out))?;
        out::sync_directory(out)?;
        out::sync_directory(out::parent_of(out))
    }
}

/// What the log is at this moment: its identity, its segments, the last record that there was before, and what is wrong with
/// its control page, which is told.
fn look(arguments: &Backup) -> Result<(u128, Vec<SegmentFile>, Lsn, Option<Corruption>)> {
    let directory = &*arguments.directory;
    // Finds out whether a segment is missing, or the newest one damaged at its end.
    let reader = open::reader(directory, arguments.archive)?;
    let published = open::again(|| reader.published_lsn()).about(directory)?;
    let inspection = Inspection::open(directory).about(directory)?;
    let page_fault = tell_page_fault(&inspection);
    let files = inspection.segments().iter().filter(|file| file.counts).cloned().collect();
    Ok((inspection.log_id(), files, published, page_fault))
}

/// Where the frames of a segment that may be being written end. A batch that does not end there is left out, and a seal, which names
/// a segment that is not in the copy.
fn end_of(path: &Path) -> Result<u64> {
    let mut scan = SegmentScan::open(path).about(path)?;
    let mut end = scan.offset();
    while let Some(ScanItem::Frame(frame)) = scan.next().about(path)? {
        if frame.is_seal() {
            break;
        }
        (end, _) = scan.whole_up_to();
    }
    Ok(end)
}

/// The file is durable, and has its name durably, before any segment has one.
fn write_control(out: &Path, page: &[u8], owner: &Metadata) -> Result<()> {
    let path: PathBuf = out.join("control");
    let temporary = path.with_extension("tmp");
    let write = |mut file: File| file.write_all(page).and_then(|()| file.sync_all());
    files::create(&temporary).and_then(write).map_err(failed("write", &temporary))?;
    out::give(&temporary, owner)?;
    fs::rename(&temporary, &path).map_err(failed("rename", &path))?;
    out::sync_directory(out)
}

fn ends(file: &SegmentFile) -> (Option<u64>, Option<u32>) {
    (file.end, file.end_checksum)
}
