//! Where the last run of a `tail` has come to, in a file of that name.
//!
//! The file is replaced as a whole, after what it counts as printed has been handed over: after a crash some records may be
//! printed again, and none is left out. Two runs at a time are kept apart by a lock on a file beside it, whose name stays.

use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use mapwal::Lsn;
use rustix::fs::FlockOperation;

use crate::failure::{Failure, Result, describe};

/// What the file begins with.
const MAGIC: &str = "mapwal position 1";

/// A position that this run alone moves.
pub(crate) struct Position {
    path: PathBuf,
    log_id: u128,
    next: Option<Lsn>,
    _lock: File,
}

impl Position {
    /// Takes the position `name` in the log `log_id`.
    pub(crate) fn take(name: &str, log_id: u128) -> Result<Self> {
        let path = path_of(name)?;
        let directory = path.parent().expect("it is a file");
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("create", directory))?;
        let lock_path = path.with_added_extension("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(failed("open", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Failure::new("cannot go on", "another run with this position is under way", &path));
            }
            Err(error) => return Err(failed("lock", &lock_path)(error.into())),
        }
        let next = match fs::read_to_string(&path) {
            Ok(text) => Some(parse(&text, log_id).map_err(|why| Failure::new("cannot go on", why, &path))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Failure::new("cannot go on", NO_POSITION, &path));
            }
            Err(error) => return Err(failed("read", &path)(error)),
        };
        Ok(Self { path, log_id, next, _lock: lock })
    }

    /// The record that comes next; `None` in the first run.
    pub(crate) fn next(&self) -> Option<Lsn> {
        self.next
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All before record `next` has been handed over. Durable on return.
    pub(crate) fn save(&mut self, next: Lsn) -> Result<()> {
        if self.next == Some(next) {
            return Ok(());
        }
        let temporary = self.path.with_added_extension("tmp");
        let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
        let written = file.write_all(text_of(self.log_id, next).as_bytes()).and_then(|()| file.sync_all());
        written.map_err(failed("write", &temporary))?;
        fs::rename(&temporary, &self.path).map_err(failed("rename", &temporary))?;
        let directory = self.path.parent().expect("it is a file");
        File::open(directory).and_then(|opened| opened.sync_all()).map_err(failed("sync", directory))?;
        self.next = Some(next);
        Ok(())
    }
}

const NO_POSITION: &str = "the file holds no position, or is damaged; without it the next run begins anew";

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

fn text_of(log_id: u128, next: Lsn) -> String {
    let said = format!("{MAGIC}\nlog {log_id:032x}\nnext {next}\n");
    let sum = crc32fast::hash(said.as_bytes());
    format!("{said}checksum {sum:08x}\n")
}

/// What the text of a file says, or why it says nothing of the log `log_id`.
fn parse(text: &str, log_id: u128) -> std::result::Result<Lsn, &'static str> {
    let lines: Vec<&str> = text.lines().collect();
    let value = |at: usize, name: &str| lines.get(at)?.strip_prefix(name)?.strip_prefix(' ');
    let id = value(1, "log").and_then(|id| u128::from_str_radix(id, 16).ok());
    let next = value(2, "next").and_then(|next| next.parse().ok()).map(Lsn);
    match id.zip(next).filter(|&(id, next)| text_of(id, next) == text) {
        Some((id, next)) if id == log_id => Ok(next),
        Some(_) => Err("the position is one in another log"),
        None => Err(NO_POSITION),
    }
}

fn failed(operation: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::new(format!("cannot {operation}"), describe(&error), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_no_other_text_is_one() {
        let text = text_of(7, Lsn(u64::MAX));
        assert_eq!(parse(&text, 7), Ok(Lsn(u64::MAX)));
        assert_eq!(parse(&text, 8), Err("the position is one in another log"));
        for at in 0..text.len() {
            assert_eq!(parse(&text[..at], 7), Err(NO_POSITION), "{at} bytes");
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).expect("still letters");
            assert_eq!(parse(&changed, 7), Err(NO_POSITION), "byte {at}");
        }
    }
}
