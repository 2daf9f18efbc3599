//! What `append` reads: lines, or records after their lengths.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use crate::failure::{Failure, Result, describe};
use crate::{progress, streams};

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
    /// Of what [`source`] has opened.
    pub(crate) fn new(source: Option<(&Path, File)>, length_prefixed: bool, len_max: u64) -> Result<Self> {
        let next = Place { number: 1, offset: 0 };
        let Some((path, opened)) = source else {
            let (bytes, name) =
                (Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin())), "standard input".into());
            let progress = progress::of_unknown("append");
            return Ok(Self { bytes, name, length_prefixed, len_max, next, progress });
        };
        let len = opened.metadata().map_err(|error| failed(&error, path))?.len();
        let bytes = Box::new(BufReader::with_capacity(BUFFER_BYTES, opened));
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
