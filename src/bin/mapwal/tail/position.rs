//! Where the last run of a `tail` has come to, in a file of that name.
//!
//! The file is replaced as a whole, after what it counts as printed has been handed over: after a crash some records may be
//! printed again, and none is left out. Two runs at a time are kept apart by a lock on a file beside it, whose name stays.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mapwal::{LogReader, Lsn};
use rustix::fs::FlockOperation;

use super::last::Last;
use crate::failure::{Explain, Failure, Result, describe};

/// What the file begins with.
const MAGIC: &str = "mapwal position 1";
/// A file with a position is shorter.
const LEN_MAX: u64 = 4096;

/// A position that this run alone moves.
pub(crate) struct Position {
    path: PathBuf,
    log_id: u128,
    said: Option<Said>,
    _lock: File,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    /// The record that comes next.
    pub(crate) next: Lsn,
    /// The last that was there before it, if one was seen.
    pub(crate) last: Option<Last>,
}

impl Position {
    /// Takes the position `name` in the log `log_id`, in directory `log`.
    pub(crate) fn take(name: &str, log: &Path, log_id: u128) -> Result<Self> {
        let path = path_of(name)?;
        check_outside(&path, log)?;
        // Where it cannot be gone on from, nothing is made beside it.
        read(&path, log_id)?;
        let directory = path.parent().expect("it is a file");
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("create", directory))?;
        let lock_path = with_suffix(&path, ".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(failed("open", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Failure::new("cannot go on", "another run with this position is under way", &path));
            }
            Err(error) => return Err(failed("lock", &lock_path)(error.into())),
        }
        // Only by now no other run moves it.
        let said = read(&path, log_id)?;
        Ok(Self { path, log_id, said, _lock: lock })
    }

    /// What the last run has left; `None` in the first.
    pub(crate) fn said(&self) -> Option<Said> {
        self.said
    }

    /// An error unless the log goes on from where the last run has ended.
    pub(crate) fn check(&self, reader: &LogReader, log: &Path) -> Result<()> {
        let Some(Said { next, last }) = self.said else { return Ok(()) };
        let (first, end) = (reader.first_lsn().about(log)?, reader.published_lsn().about(log)?.next());
        if next < first {
            return Err(self.trimmed(next, first));
        }
        if next > end {
            return Err(self.parted(&format!("record {} is not there, and the next will be {end}", next.previous())));
        }
        match last {
            Some(last) if last.lsn >= first && !last.is_in(reader).about(log)? => {
                Err(self.parted(&format!("record {} is not the one that was printed", last.lsn)))
            }
            _ => Ok(()),
        }
    }

    /// Record `lsn` is missed.
    pub(crate) fn trimmed(&self, lsn: Lsn, first: Lsn) -> Failure {
        self.parted(&format!("record {lsn} has been trimmed, and the log begins with {first}"))
    }

    /// The log does not go on from here.
    pub(crate) fn parted(&self, why: &str) -> Failure {
        let why = format!("{why}; look at what is missed, then remove this file to begin with the oldest record");
        Failure::new("cannot go on", why, &self.path)
    }

    /// All before `said.next` has been handed over. Durable on return.
    pub(crate) fn save(&mut self, said: Said) -> Result<()> {
        if self.said == Some(said) {
            return Ok(());
        }
        let temporary = with_suffix(&self.path, ".tmp");
        let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
        let written = file.write_all(text_of(self.log_id, said).as_bytes()).and_then(|()| file.sync_all());
        written.map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &self.path).map_err(failed("rename", &temporary))?;
        let directory = self.path.parent().expect("it is a file");
        File::open(directory).and_then(|opened| opened.sync_all()).map_err(failed("sync", directory))?;
        self.said = Some(said);
        Ok(())
    }
}

const NO_POSITION: &str =
    "the file holds no position, or is damaged; without it the next run begins with the oldest record";

const OTHER_LOG: &str = "the position is one in another log, as one is that `salvage` has made, or `repair` from its first segment on; look at what \
                         is missed, then remove this file to begin with the oldest record";

/// A name with a slash is a path. Others are files where programs keep their state.
fn path_of(name: &str) -> Result<PathBuf> {
    let refused = |why: &str| Err(Failure::new("cannot go on", why, Path::new(name)));
    if name.contains('/') {
        return match Path::new(name).file_name() {
            Some(_) if !name.ends_with('/') => std::path::absolute(name)
                .map_err(|error| Failure::new("cannot go on", describe(&error), Path::new(name))),
            _ => refused("a position is kept in a file, and this is a directory"),
        };
    }
    let is_valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !is_valid {
        return refused("a name has letters, digits, - and _, and a path a slash");
    }
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local/state"));
    match absolute("XDG_STATE_HOME").or_else(home) {
        Some(state) => Ok(state.join("mapwal").join(name)),
        None => refused("neither XDG_STATE_HOME nor HOME says where positions are kept: give a path"),
    }
}

/// What the file says of the log `log_id`; `None` if there is none.
fn read(path: &Path, log_id: u128) -> Result<Option<Said>> {
    let refused = |why: &str| Err(Failure::new("cannot go on", why, path));
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("look at", path)(error)),
        Ok(found) if found.is_dir() => return refused("a position is kept in a file, and this is a directory"),
        // Opening one of another kind may wait, and reading it may never end.
        Ok(found) if !found.is_file() || found.len() > LEN_MAX => return refused(NO_POSITION),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LEN_MAX).read_to_end(&mut bytes));
    read.map_err(failed("read", path))?;
    match String::from_utf8(bytes).map_err(|_| NO_POSITION).and_then(|text| parse(&text, log_id)) {
        Ok(said) => Ok(Some(said)),
        Err(why) => refused(why),
    }
}

/// An error if the file would be among those of the log.
fn check_outside(path: &Path, log: &Path) -> Result<()> {
    // What is missing of it would be made there.
    let parent = path.ancestors().skip(1).find_map(|parent| parent.canonicalize().ok());
    let is_inside = parent.zip(log.canonicalize().ok()).is_some_and(|(parent, log)| parent.starts_with(log));
    let why = "the file would be in the directory of the log";
    if is_inside { Err(Failure::new("cannot go on", why, path)) } else { Ok(()) }
}

fn text_of(log_id: u128, Said { next, last }: Said) -> String {
    let last = last.map_or("-".to_owned(), |last| last.to_string());
    let said = format!("{MAGIC}\nlog {log_id:032x}\nnext {next}\nlast {last}\n");
    let sum = crc32fast::hash(said.as_bytes());
    format!("{said}checksum {sum:08x}\n")
}

/// What the text of a file says, or why it says nothing of the log `log_id`.
fn parse(text: &str, log_id: u128) -> std::result::Result<Said, &'static str> {
    let lines: Vec<&str> = text.lines().collect();
    let value = |at: usize, name: &str| lines.get(at)?.strip_prefix(name)?.strip_prefix(' ');
    let id = value(1, "log").and_then(|id| u128::from_str_radix(id, 16).ok());
    let next = value(2, "next").and_then(|next| next.parse().ok()).map(Lsn);
    let last = value(3, "last").and_then(Last::parse);
    match id.zip(next).map(|(id, next)| (id, Said { next, last })).filter(|&(id, said)| text_of(id, said) == text) {
        Some((id, said)) if id == log_id => Ok(said),
        Some(_) => Err(OTHER_LOG),
        None => Err(NO_POSITION),
    }
}

fn failed(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::new(format!("cannot {operation}"), describe(&error), path)
}

/// The path of a file beside `path`, named after it.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_no_other_text_is_one() {
        let last = Some(Last { lsn: Lsn(3), sum: 0x1234_5678 });
        for last in [last, None] {
            let said = Said { next: Lsn(u64::MAX), last };
            assert_eq!(parse(&text_of(7, said), 7), Ok(said));
        }
        let text = text_of(7, Said { next: Lsn(u64::MAX), last });
        assert_eq!(parse(&text, 8), Err(OTHER_LOG));
        for at in 0..text.len() {
            assert_eq!(parse(&text[..at], 7), Err(NO_POSITION), "{at} bytes");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).expect("still letters");
            assert_eq!(parse(&changed, 7), Err(NO_POSITION), "byte {at}");
        }
    }
}
