//! `mapwal backup`: a copy of a log that may be in use.
//!
//! What is copied of each segment ends with a frame: where the next segment says that it ends, or, of the newest, where the frames
//! end that are there. Neither changes any more, so it makes no difference that a writer goes on meanwhile.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use mapwal::error::PinFault;
use mapwal::inspect::{Inspection, ScanItem, SegmentFile, SegmentScan};
use mapwal::{Error, Lsn, PinDirectory};
use rustix::fs::{FallocateFlags, FlockOperation};

use crate::arguments::Backup;
use crate::failure::{Explain, Failure, Outcome, Result, Written, counted, describe};
use crate::stop::Stop;
use crate::{open, out, pins, progress};

const PIN: &str = "mapwal-backup";
const CHUNK_LEN: usize = 1 << 20;

pub(crate) fn run(arguments: &Backup) -> Result<Outcome> {
    out::check_empty(&arguments.out)?;
    let stop = Stop::listen()?;
    let pin = if arguments.no_pin { None } else { Some(HeldPin::take(arguments)?) };
    let copied = Copy::new(arguments, &stop).and_then(Copy::carry_out);
    let dropped = pin.map_or(Ok(()), HeldPin::drop_it);
    let done = copied?;
    dropped?;
    writeln!(io::stdout().lock(), "{done}").written()?;
    Ok(Outcome::Done)
}

/// A pin for as long as this process runs. The oldest segment is locked with it, so that another backup can tell
/// whether the process that made the pin lives: a pin whose segment is not locked is left over.
struct HeldPin {
    directory: PathBuf,
    pins: PinDirectory,
    _locked: File,
}

impl HeldPin {
    fn take(arguments: &Backup) -> Result<Self> {
        let directory = &*arguments.directory;
        let pins = PinDirectory::open(directory).about(directory)?;
        let owner = format!("process {}, to {}", std::process::id(), arguments.out.display());
        loop {
            let Some((first, locked)) = lock_oldest(directory)? else { continue };
            match pins.remove(PIN) {
                Ok(()) | Err(Error::Pin { fault: PinFault::Missing, .. }) => {}
                Err(error) => return Err(Failure::of_log(&error, directory)),
            }
            let limit = arguments.limit.map_or_else(|| pins::default_limit(directory, first), Ok)?;
            match pins.create(PIN, &owner, first, Some(limit)) {
                Ok(()) => return Ok(Self { directory: directory.to_owned(), pins, _locked: locked }),
                // Trimmed since it was looked at.
                Err(Error::Trimmed { .. }) => {}
                Err(error) => return Err(Failure::of_log(&error, directory)),
            }
        }
    }

    fn drop_it(self) -> Result<()> {
        self.pins.remove(PIN).about(&self.directory)
    }
}

/// Locks the oldest segment that counts; its first record's number. `None` if it is gone by now.
fn lock_oldest(directory: &Path) -> Result<Option<(Lsn, File)>> {
    let inspection = Inspection::open(directory).about(directory)?;
    let oldest = inspection.segments().iter().filter(|file| file.counts).find_map(|file| Some((file, file.first_lsn?)));
    let Some((oldest, first)) = oldest else {
        return Err(Failure::new("nothing to copy", "no segment is sound", directory));
    };
    let file = match File::open(&oldest.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed("open", &oldest.path))?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some((first, file))),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Failure::new("cannot copy", "another backup is under way", directory))
        }
        Err(error) => Err(failed("lock", &oldest.path)(error.into())),
    }
}

/// A copy under way.
struct Copy<'a> {
    arguments: &'a Backup,
    stop: &'a Stop,
    files: Vec<SegmentFile>,
    /// The last record that there was before.
    published: Lsn,
    /// The first record, and the one after the last that has been copied.
    first: Lsn,
    next: Lsn,
    bar: ProgressBar,
}

impl<'a> Copy<'a> {
    fn new(arguments: &'a Backup, stop: &'a Stop) -> Result<Self> {
        let directory = &*arguments.directory;
        // Finds out whether a segment is missing, or the newest one damaged at its end.
        let reader = open::reader(directory, arguments.archive)?;
        let first = reader.first_lsn().about(directory)?;
        let published = reader.published_lsn().about(directory)?;
        let inspection = Inspection::open(directory).about(directory)?;
        let files: Vec<_> = inspection.segments().iter().filter(|file| file.counts).cloned().collect();
        let bar = progress::of_bytes("backup", inspection.bytes_to_verify());
        Ok(Self { arguments, stop, files, published, first, next: first, bar })
    }

    /// Returns what to say of it.
    fn carry_out(mut self) -> Result<String> {
        let out = &*self.arguments.out;
        DirBuilder::new().recursive(true).mode(0o700).create(out).map_err(failed("create", out))?;
        let made = self.copy_all();
        if made.is_err() {
            // What is left of it says by its names that it is no log.
            for file in &self.files {
                let _ = fs::remove_file(temporary(out, file));
            }
        }
        made?;
        self.bar.finish_and_clear();
        let records = counted(self.next.0 - self.first.0, "record", "records");
        let segments = counted(self.files.len() as u64, "segment", "segments");
        Ok(format!("copied {records} from {} on, in {segments}", self.first))
    }

    fn copy_all(&mut self) -> Result<()> {
        let out = &*self.arguments.out;
        for file in self.files.clone() {
            self.copy_segment(&file)?;
        }
        // What the newest segment lacks at its end is found by that alone.
        if let Some(newest) = self.files.last().filter(|_| self.published >= self.next) {
            let why = format!("it ends before record {}, which was there", self.published);
            return Err(Failure::Told {
                what: "damaged".into(),
                why,
                place: newest.path.clone(),
                outcome: Outcome::Damaged,
            });
        }
        // The newest first: what a crash leaves in between begins late, and lacks nothing after that.
        for file in self.files.iter().rev() {
            let name = file.path.file_name().expect("a segment has a name");
            fs::rename(temporary(out, file), out.join(name)).map_err(failed("rename", out))?;
        }
        out::sync_directory(out)?;
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        out::sync_directory(parent)
    }

    /// Copies the frames of a segment that count, and checks the copy.
    fn copy_segment(&mut self, file: &SegmentFile) -> Result<()> {
        let end = file.end.map_or_else(|| end_of(&file.path), Ok)?;
        let path = temporary(&self.arguments.out, file);
        let source = File::open(&file.path).map_err(failed("open", &file.path))?;
        let mut options = OpenOptions::new();
        let copy = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed("create", &path))?;
        allocate(&copy, file.file_len_bytes).map_err(failed("prepare", &path))?;
        let mut buffer = vec![0; CHUNK_LEN];
        let mut offset = 0;
        while offset < end {
            if self.stop.is_asked() {
                return Err(Failure::new("stopped", "the copy is removed", &self.arguments.out));
            }
            let len = CHUNK_LEN.min(usize::try_from(end - offset).unwrap_or(CHUNK_LEN));
            source.read_exact_at(&mut buffer[..len], offset).map_err(failed("read", &file.path))?;
            copy.write_all_at(&buffer[..len], offset).map_err(failed("write", &path))?;
            offset += len as u64;
            self.bar.inc(len as u64);
        }
        copy.sync_all().map_err(failed("sync", &path))?;
        self.next = check(&path, end, &file.path)?;
        Ok(())
    }
}

/// Where the frames of a segment that may be being written end. A seal is left out: it names a segment that is not in
/// the copy.
fn end_of(path: &Path) -> Result<u64> {
    let mut scan = SegmentScan::open(path).about(path)?;
    let mut end = scan.offset();
    while let Some(ScanItem::Frame(frame)) = scan.next().about(path)? {
        if frame.is_seal() {
            break;
        }
        end = frame.offset() + frame.len_bytes();
    }
    Ok(end)
}

/// Checks that the segment in `path` is nothing but sound frames up to `end`; the number after its last record. Damage is that of
/// the original at `of`.
fn check(path: &Path, end: u64, of: &Path) -> Result<Lsn> {
    let damaged =
        |why: String| Failure::Told { what: "damaged".into(), why, place: of.to_owned(), outcome: Outcome::Damaged };
    let mut scan = SegmentScan::open(path).map_err(|error| damaged(error.to_string()))?;
    scan.stop_at(end);
    let mut next = Lsn(0);
    let mut reached = scan.offset();
    loop {
        match scan.next().about(path)? {
            Some(ScanItem::Frame(frame)) => {
                reached = frame.offset() + frame.len_bytes();
                next =
                    if frame.role() == mapwal::inspect::FrameRole::Control { frame.lsn() } else { frame.lsn().next() };
            }
            Some(ScanItem::Gap { range, damage, .. }) => {
                return Err(damaged(format!("{damage} at offset {}", range.start)));
            }
            Some(_) => {}
            None if reached == end => return Ok(next),
            None => return Err(damaged(format!("a frame is missing at offset {reached}"))),
        }
    }
}

/// Under this name no log takes it for a segment.
fn temporary(out: &Path, file: &SegmentFile) -> PathBuf {
    out.join(file.path.with_extension("tmp").file_name().expect("a segment has a name"))
}

/// With blocks for all of it, so that a copy on a full disk is an error here and not a signal when it is used.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(len),
        other => Ok(other?),
    }
}

fn failed(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::new(format!("cannot {operation}"), describe(&error), path)
}
