//! What `append` reads: lines, or records after their lengths.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::failure::{Failure, Result, describe};
use crate::{progress, streams};

/// How often it is asked, while no input comes, whether any is wanted.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// Bytes taken from the input at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// A stream of records.
pub(crate) struct Input {
    bytes: Box<dyn BufRead + Send>,
    name: PathBuf,
    length_prefixed: bool,
    /// The most bytes that a record may have.
    len_max: u64,
    /// Where the next record begins.
    next: Place,
    progress: ProgressBar,
}

/// Which record of the input it is, from 1 on, and at which byte it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    number: u64,
    offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of the input, byte {}", self.number, self.offset)
    }
}

/// Where records come from: the file, or nothing for the standard input.
pub(crate) fn source(file: Option<&Path>) -> Result<Option<(&Path, File)>> {
    let Some(path) = file.filter(|file| *file != Path::new("-")) else {
        let opened = streams::check_input();
        return opened.map(|()| None).map_err(|error| failed(&error, Path::new("standard input")));
    };
    let opened = File::open(path).map_err(|error| failed(&error, path))?;
    if opened.metadata().map_err(|error| failed(&error, path))?.is_dir() {
        return Err(failed(&io::ErrorKind::IsADirectory.into(), path));
    }
    Ok(Some((path, opened)))
}

impl Input {
    /// Of what [`source`] has opened. Once it is to `stop`, it waits for nothing more.
    pub(crate) fn new(
        source: Option<(&Path, File)>,
        length_prefixed: bool,
        len_max: u64,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self> {
        let next = Place { number: 1, offset: 0 };
        let Some((path, opened)) = source else {
            let name = Path::new("standard input");
            // Without the buffer of the standard library, which would hide from a look at the file what it holds.
            let owned = io::stdin().as_fd().try_clone_to_owned().map_err(|error| failed(&error, name))?;
            let bytes = buffered(File::from(owned), stop);
            let progress = progress::of_unknown("append");
            return Ok(Self { bytes, name: name.to_owned(), length_prefixed, len_max, next, progress });
        };
        let len = opened.metadata().map_err(|error| failed(&error, path))?.len();
        let bytes = buffered(opened, stop);
        let progress = progress::of_bytes("append", len);
        Ok(Self { bytes, name: path.to_owned(), length_prefixed, len_max, next, progress })
    }

    /// Puts the next record into `record`; where it was, or nothing at the end.
    pub(crate) fn next(&mut self, record: &mut Vec<u8>) -> Result<Option<Place>> {
        record.clear();
        let place = self.next;
        let read = if self.length_prefixed { self.read_prefixed(record) } else { self.read_line(record) };
        let taken = read.map_err(|error| failed(&error, &self.name))?;
        if taken == 0 {
            return Ok(None);
        }
        self.next = Place { number: place.number + 1, offset: place.offset + taken };
        self.progress.inc(taken);
        Ok(Some(place))
    }

    /// Where the next record begins, or the one that could not be read.
    pub(crate) fn place(&self) -> Place {
        self.next
    }

    /// Bytes taken.
    fn read_line(&mut self, record: &mut Vec<u8>) -> io::Result<u64> {
        // A line that is too long is not taken into memory; one byte more than allowed is enough to refuse it.
        let read = (&mut self.bytes).take(self.len_max + 2).read_until(b'\n', record)?;
        record.pop_if(|last| *last == b'\n');
        if record.len() as u64 > self.len_max {
            return Err(io::Error::other(format!(
                "the line is longer than the largest record of {} bytes",
                self.len_max
            )));
        }
        Ok(read as u64)
    }

    /// The same.
    fn read_prefixed(&mut self, record: &mut Vec<u8>) -> io::Result<u64> {
        if self.bytes.fill_buf()?.is_empty() {
            return Ok(0);
        }
        let mut prefix = [0; 4];
        self.bytes.read_exact(&mut prefix).map_err(cut_short)?;
        let len = u64::from(u32::from_le_bytes(prefix));
        if len > self.len_max {
            return Err(io::Error::other(format!(
                "a length of {len} bytes exceeds the largest record of {} bytes",
                self.len_max
            )));
        }
        if (&mut self.bytes).take(len).read_to_end(record)? as u64 != len {
            return Err(cut_short(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(prefix.len() as u64 + len)
    }
}

/// What a file holds as it comes, until it is to stop.
struct Waiting {
    file: File,
    stop: Arc<AtomicBool>,
}

fn buffered(file: File, stop: &Arc<AtomicBool>) -> Box<dyn BufRead + Send> {
    Box::new(BufReader::with_capacity(BUFFER_BYTES, Waiting { file, stop: Arc::clone(stop) }))
}

impl Read for Waiting {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while !self.stop.load(Ordering::Relaxed) {
            let mut looked = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut looked, Some(&LOOK_INTERVAL)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return self.file.read(bytes),
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("no more is wanted"))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.progress.finish_and_clear();
    }
}

fn failed(error: &io::Error, path: &Path) -> Failure {
    Failure::new("cannot read", describe(error), path)
}

fn cut_short(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the input ends inside of a record"),
        _ => error,
    }
}
