//! The directory that is restored into. Until the restore has ended it has a file that no log opens beside; all else is in a directory of
//! its own below it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use mapwal::inspect::{ScanItem, SegmentScan};
use mapwal::{Log, Lsn, Options};
use serde::{Deserialize, Serialize};

use super::RestoreTo;
use super::plan::Plan;
use crate::chain::Piece;
use crate::directory::{sync, sync_above};
use crate::error::{Error, ObjectDamage, Result};
use crate::file_lock::FileLock;
use crate::store::encode;

/// Says whose the files are while they are not a log yet. Ends like a segment's name, and is none's: no log opens in a directory that has
/// it.
const MARK: &str = "restore-under-way.seg";
const MARK_TEMPORARY: &str = "restore-under-way.tmp";
/// Where the log is made. It has a file with the name of the mark as well, so that no log opens there either.
const FOLDER: &str = "restore-under-way";
const SEGMENT_SUFFIX: &str = ".seg";
/// After the name of a segment that is being downloaded.
const PARTIAL_SUFFIX: &str = ".partial";
/// After the names of files that a log makes ready.
const TEMPORARY_SUFFIX: &str = ".tmp";
/// No file system has larger pages than this.
const PROBE_LEN: usize = 64 << 10;
/// In the root of a volume.
const OF_SYSTEM: &str = "lost+found";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    log: String,
    epoch: u64,
    to: Option<u64>,
}

/// A directory that becomes a log's.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    folder: PathBuf,
    file_mode: u32,
    /// The mark, locked for as long as anything is done for this restore.
    _mark: FileLock,
}

impl Target {
    /// A directory that is empty, or that an interrupted restore of the same has left; made if there is none.
    pub(crate) fn open(path: &Path, log_id: u128, epoch: u64, to: RestoreTo, file_mode: u32) -> Result<Self> {
        let to = if let RestoreTo::Lsn(lsn) = to { Some(lsn.0) } else { None };
        let mark = Mark { log: format!("{log_id:032x}"), epoch, to };
        make_directory(path, file_mode)?;
        let names = names(path)?;
        let is_begun = names.iter().any(|name| name == MARK);
        if !is_begun && names.iter().any(|name| name != OF_SYSTEM && name != MARK_TEMPORARY) {
            return Err(Error::NotEmpty { path: path.to_owned() });
        }
        let opened = if is_begun { open_mark(path, &mark)? } else { write_mark(path, &mark)? };
        let target = Self { path: path.to_owned(), folder: path.join(FOLDER), file_mode, _mark: opened };
        make_directory(&target.folder, file_mode)?;
        // Before there is anything that it keeps from being opened.
        let guard = target.folder.join(MARK);
        let made = File::create(&guard).and_then(|file| file.sync_all());
        made.map_err(|source| Error::io("create", &guard, source))?;
        sync_directory(&target.folder)?;
        target.take_back()?;
        Ok(target)
    }

    /// Takes segments back that are in their place already, and removes what a log has made beside them.
    fn take_back(&self) -> Result<()> {
        for name in names(&self.path)?.iter().filter(|name| is_segment(name)) {
            rename(&self.path.join(name), &self.folder.join(name))?;
        }
        for directory in [&self.path, &self.folder] {
            for name in names(directory)?.iter().filter(|name| is_of_log(name)) {
                remove(&directory.join(name))?;
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn partial(&self, piece: &Piece) -> PathBuf {
        self.folder.join(format!("{}{PARTIAL_SUFFIX}", segment_name(piece.number)))
    }

    pub(crate) fn restored(&self, piece: &Piece) -> PathBuf {
        self.folder.join(segment_name(piece.number))
    }

    /// A new file for a segment.
    pub(crate) fn create(&self, piece: &Piece) -> Result<(File, PathBuf)> {
        let path = self.partial(piece);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(self.file_mode).open(&path);
        Ok((file.map_err(|source| Error::io("create", &path, source))?, path))
    }

    /// Gives the segment its name for whole ones, which [`Self::finish`] makes durable.
    pub(crate) fn keep(&self, piece: &Piece) -> Result<()> {
        rename(&self.partial(piece), &self.restored(piece))
    }

    /// Ends the last segment where the log is to end, makes a log of all, and puts it in its place; the number after the last record. All of
    /// it is durable when the mark is removed, which is the last step.
    pub(crate) fn finish(&self, plan: &Plan) -> Result<Lsn> {
        let last = plan.pieces.last().expect("a plan has pieces");
        let next_lsn = end_at(&self.restored(last), last, plan)?;
        for name in names(&self.folder)? {
            let is_wanted = |piece: &Piece| self.restored(piece).file_name() == Some(&*name);
            // An earlier try had other segments to restore, since the archive had not come as far.
            if name != MARK && !plan.pieces.iter().any(is_wanted) {
                remove(&self.folder.join(&name))?;
            }
        }
        self.begin_anew(plan.first_lsn, next_lsn, last)?;
        for name in names(&self.folder)?.iter().filter(|&name| name != MARK) {
            rename(&self.folder.join(name), &self.path.join(name))?;
        }
        sync_directory(&self.path)?;
        remove(&self.folder.join(MARK))?;
        fs::remove_dir(&self.folder).map_err(|source| Error::io("remove", &self.folder, source))?;
        let real = fs::canonicalize(&self.path).map_err(|source| Error::io("look at", &self.path, source))?;
        sync_above(&real).map_err(|source| Error::io("sync", &real, source))?;
        remove(&self.path.join(MARK))?;
        sync_directory(&self.path)?;
        Ok(next_lsn)
    }

    /// Opens the log as one of copies, and closes it: its new segment says that all of them count, also those that the log had
    /// trimmed when it made the last one.
    #[expect(unsafe_code, reason = "the directory belongs to this restore")]
    fn begin_anew(&self, first_lsn: Lsn, next_lsn: Lsn, last: &Piece) -> Result<()> {
        let size = SegmentScan::open(self.restored(last))?.file_len_bytes();
        let options = Options::new().archive(true).create(false).segment_size_bytes(size);
        // An application that opens it is told whether its promises hold there.
        let options = options.allow_unsupported_file_system(true).beside(MARK);
        // SAFETY: the mark is locked, so nothing but this restore writes to the files, and it does not after this; no record is
        // borrowed.
        let log = unsafe { Log::open(&self.folder, &options) }.map_err(|error| self.full(error))?;
        if (log.first_lsn(), log.next_lsn()) != (first_lsn, next_lsn) {
            return Err(Error::damaged(&last.objects[0].key, ObjectDamage::Contents));
        }
        // One that was closed goes on in its last segment, which still says what was trimmed then.
        log.rotate().map_err(|error| self.full(error))?;
        log.close().map_err(|error| self.full(error))
    }

    /// The same error, unless the disk is full: a file with holes then cannot even be read on some file systems.
    fn full(&self, error: mapwal::Error) -> Error {
        let probe = self.folder.join(format!("room{TEMPORARY_SUFFIX}"));
        let written = File::create(&probe).and_then(|file| (&file).write_all(&vec![1; PROBE_LEN]));
        let _ = fs::remove_file(&probe);
        match (&error, written) {
            (mapwal::Error::Io { path, .. }, Err(full)) if full.kind() == io::ErrorKind::StorageFull => {
                Error::io("write", path, full)
            }
            _ => error.into(),
        }
    }
}

/// Makes it, with those above it, if it is not there.
fn make_directory(path: &Path, file_mode: u32) -> Result<()> {
    let search = file_mode | (file_mode & 0o444) >> 2;
    let made = DirBuilder::new().recursive(true).mode(search | 0o700).create(path);
    made.map_err(|source| Error::io("create", path, source))
}

fn names(path: &Path) -> Result<Vec<OsString>> {
    let failed = |source| Error::io("list", path, source);
    let entries = fs::read_dir(path).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(failed)).collect()
}

fn is_segment(name: &OsString) -> bool {
    name != MARK && name.to_str().is_some_and(|name| name.ends_with(SEGMENT_SUFFIX))
}

/// Whether a log makes such a file, beside its segments, when it is opened.
fn is_of_log(name: &OsString) -> bool {
    name == "LOCK" || name == "control" || name.to_str().is_some_and(|name| name.ends_with(TEMPORARY_SUFFIX))
}

/// The mark of a restore that was interrupted; an error if that was of something else, or goes on.
fn open_mark(directory: &Path, mark: &Mark) -> Result<FileLock> {
    let path = directory.join(MARK);
    let file = match File::open(&path) {
        // The other one has just ended.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotEmpty { path: directory.to_owned() });
        }
        opened => opened.map_err(|source| Error::io("open", &path, source))?,
    };
    let file = FileLock::take(file, &path)?;
    let bytes = file.read().map_err(|source| Error::io("read", &path, source))?;
    // The other one may just have ended.
    let found = serde_json::from_slice::<Mark>(&bytes).ok().filter(|_| path.exists());
    let directory = directory.to_owned();
    match found {
        Some(found) if found == *mark => Ok(file),
        Some(Mark { log, epoch, to }) => {
            let other_log = (log != mark.log).then_some(log);
            Err(Error::OtherRestore { path: directory, epoch, to: to.map(Lsn), other_log })
        }
        // It says what it is of before it has its name: this one was made by something else.
        None if path.exists() => Err(Error::UnknownRestore { path }),
        None => Err(Error::NotEmpty { path: directory }),
    }
}

fn write_mark(directory: &Path, mark: &Mark) -> Result<FileLock> {
    let (temporary, path) = (directory.join(MARK_TEMPORARY), directory.join(MARK));
    let failed = |source| Error::io("write", &temporary, source);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&temporary);
    let file = FileLock::take(opened.map_err(failed)?, &path)?;
    file.write(&encode(mark)).map_err(failed)?;
    rename(&temporary, &path)?;
    sync_directory(directory)?;
    Ok(file)
}

fn segment_name(number: u64) -> String {
    format!("{number:020}{SEGMENT_SUFFIX}")
}

/// Cuts the last segment of `plan`, in file `path`, after the last whole batch that is wanted, and without a seal, which names a
/// segment that is not there.
fn end_at(path: &Path, piece: &Piece, plan: &Plan) -> Result<Lsn> {
    let failed = |source| Error::io("cut", path, source);
    let mut scan = SegmentScan::open(path)?;
    scan.stop_at(piece.len_bytes());
    let size = scan.file_len_bytes();
    let (mut end, mut next_lsn) = (scan.whole_up_to().0, piece.first_lsn);
    while let Some(item) = scan.next()? {
        let ScanItem::Frame(frame) = item else {
            let object = &piece.objects[0];
            return Err(Error::damaged(&object.key, ObjectDamage::Contents));
        };
        let is_last = frame.is_seal();
        if is_last || scan.whole_up_to().1 > plan.limit {
            break;
        }
        (end, next_lsn) = scan.whole_up_to();
        // What follows the last record that is wanted was not there yet.
        if plan.is_cut && next_lsn == plan.limit {
            break;
        }
    }
    let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    file.set_len(end).and_then(|()| file.set_len(size)).and_then(|()| file.sync_all()).map_err(failed)?;
    Ok(next_lsn)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|source| Error::io("rename", from, source))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Such as that of pins, of a log that was opened there.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            fs::remove_dir_all(path).map_err(|source| Error::io("remove", path, source))
        }
        removed => removed.map_err(|source| Error::io("remove", path, source)),
    }
}

fn sync_directory(path: &Path) -> Result<()> {
    sync(path).map_err(|source| Error::io("sync", path, source))
}
