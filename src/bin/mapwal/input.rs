//! What `append` reads: lines, or records after their lengths.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;

use crate::failure::{Failure, Result, describe};
use crate::progress;

/// Bytes taken from the input at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// A stream of records.
pub(crate) struct Input {
    bytes: Box<dyn BufRead + Send>,
    name: PathBuf,
    length_prefixed: bool,
    /// The most bytes that a record may have.
    len_max: u64,
    progress: ProgressBar,
}

/// Where records come from: the file, or nothing for the standard input.
pub(crate) fn source(file: Option<&Path>) -> Result<Option<(&Path, File)>> {
    let Some(path) = file.filter(|file| *file != Path::new("-")) else { return Ok(None) };
    let failed = |error: io::Error| Failure::new("cannot read", describe(&error), path);
    let opened = File::open(path).map_err(failed)?;
    if opened.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    Ok(Some((path, opened)))
}

impl Input {
    /// Of what [`source`] has opened.
    pub(crate) fn new(source: Option<(&Path, File)>, length_prefixed: bool, len_max: u64) -> Result<Self> {
        let Some((path, opened)) = source else {
            let (bytes, name) =
                (Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin())), "standard input".into());
            return Ok(Self { bytes, name, length_prefixed, len_max, progress: progress::of_unknown("append") });
        };
        let failed = |error: io::Error| Failure::new("cannot read", describe(&error), path);
        let len = opened.metadata().map_err(failed)?.len();
        let bytes = Box::new(BufReader::with_capacity(BUFFER_BYTES, opened));
        let progress = progress::of_bytes("append", len);
        Ok(Self { bytes, name: path.to_owned(), length_prefixed, len_max, progress })
    }

    /// Puts the next record into `record`; false at the end.
    pub(crate) fn next(&mut self, record: &mut Vec<u8>) -> Result<bool> {
        record.clear();
        let read = if self.length_prefixed { self.read_prefixed(record) } else { self.read_line(record) };
        let found = read.map_err(|error| Failure::new("cannot read", describe(&error), &self.name))?;
        self.progress.inc(record.len() as u64);
        Ok(found)
    }

    fn read_line(&mut self, record: &mut Vec<u8>) -> io::Result<bool> {
        // A line that is too long is not taken into memory; one byte more than allowed is enough to refuse it.
        let read = (&mut self.bytes).take(self.len_max + 2).read_until(b'\n', record)?;
        record.pop_if(|last| *last == b'\n');
        Ok(read > 0)
    }

    fn read_prefixed(&mut self, record: &mut Vec<u8>) -> io::Result<bool> {
        if self.bytes.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let mut len = [0; 4];
        self.bytes.read_exact(&mut len).map_err(cut_short)?;
        let len = u64::from(u32::from_le_bytes(len));
        let wanted = len.min(self.len_max + 1);
        if (&mut self.bytes).take(wanted).read_to_end(record)? as u64 != wanted {
            return Err(cut_short(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(true)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.progress.finish_and_clear();
    }
}

fn cut_short(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the input ends inside of a record"),
        _ => error,
    }
}
