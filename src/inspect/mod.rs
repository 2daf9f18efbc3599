//! Looking at the files of a log without opening it, live or damaged: what they hold, and all that is wrong with them.

mod chain;
mod check;
mod extent;
mod judge;
mod printed;
mod remains;
mod report;
mod segment;
mod verify;
mod walker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Corruption, Damage, Error, Result};
use crate::format::link::Seal;
use crate::format::name;
use crate::lsn::Lsn;
use crate::read::SegmentTip;
pub use crate::read::{FrameRole, ScanItem, ScannedFrame, SegmentScan};
pub use crate::segment::Activity;
use crate::segment::control::{ControlState, PageFound};
use crate::segment::directory::{self, Found};
use crate::segment::pins::{self, PinStatus};
use crate::segment::{Segment, SegmentList, Segments};
use crate::storage::{Access, Disk, Storage};
use chain::LinkedSegments;
pub use check::{RecordDigest, SegmentCheck};
pub use extent::Extent;
pub use remains::{LostBeginning, Remains};
pub use report::{SegmentReport, SegmentState, VerifyOptions, VerifyReport};
pub use segment::{SegmentSummary, verify_segment};

/// The files of a log, from what their first bytes say. Nothing is changed, no lock is taken, and nothing is mapped: a log
/// that is being written is not disturbed, and one that is damaged can be looked at.
///
/// [`LogReader`](crate::LogReader) reads records; this tells what state the files are in.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::inspect::{Activity, Inspection, KeptFile, SegmentFile};
///
/// # log.append(1, b"a")?;
/// # log.sync()?;
/// let found = Inspection::open(dir.path())?; // also beside a writer, or of a damaged log
/// println!("log {:032x}, {} bytes", found.log_id(), found.disk_bytes());
/// for SegmentFile { number, path, first_lsn, counts, .. } in found.segments() {
///     println!("segment {number} in {}: from {first_lsn:?}, counts: {counts}", path.display());
/// }
/// for KeptFile { path, file_len_bytes, is_read, .. } in found.kept_files() {
///     println!("{}: {file_len_bytes} bytes for a further segment, still read: {is_read}", path.display());
/// }
/// assert_eq!(found.faults().count(), 0); // of headers and links; `verify` reads all
///
/// // What the control page tells of the writer:
/// assert_eq!(found.is_being_written(), Some(true));
/// assert_eq!(found.writer_pid(), Some(std::process::id()));
/// assert!(!found.is_poisoned() && !found.takes_requests());
/// println!("durable up to {:?}, segments {:?} to {:?}", found.durable_lsn(), found.oldest_segment(), found.active_segment());
/// if let Some(Activity { syncs, sync_time_p99, .. }) = found.activity() {
///     println!("{syncs} syncs, 99 of 100 within {sync_time_p99:?}");
/// }
/// assert!(found.pins()?.is_empty());
/// // A scan of the newest segment has found a seal that names segment 2:
/// if let Some(missing) = found.missing_after(2, false) {
///     println!("{missing}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Inspection {
    pub(crate) storage: Arc<dyn Storage>,
    log_id: u128,
    pub(crate) files: Vec<SegmentFile>,
    /// The files that are kept for further segments.
    kept: Vec<KeptFile>,
    /// Which segments count.
    linked: LinkedSegments,
    control: Option<ControlState>,
    /// What the control page said before the directory was read, whichever log it is of.
    page: Option<PageFound>,
    /// What is wrong with headers.
    faults: Vec<Corruption>,
}

/// A file that has a segment's name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentFile {
    /// The number in its name.
    pub number: u64,
    /// Its path.
    pub path: PathBuf,
    /// Its length in bytes; 0 if its header is damaged.
    pub file_len_bytes: u64,
    /// The number of its first record, or of the next one if there is none; `None` if it has not been begun, or is damaged.
    pub first_lsn: Option<Lsn>,
    /// Whether its records count. Not those of spares, nor of what a crash, a truncation or a trim has left.
    pub counts: bool,
    /// Where those that count end, if the next segment says so: a byte offset.
    pub end: Option<u64>,
    /// The checksum of the frame that ends there, if the next segment says so.
    pub end_checksum: Option<u32>,
    /// The number after its last record that counts, if the next segment says so.
    pub next_lsn: Option<Lsn>,
    /// The segment before it, and where that ends, as its first frame says; `None` if there is none before it, and if the frame
    /// is damaged or not there.
    pub predecessor: Option<SegmentTip>,
}

/// The file of a dropped segment, kept for a further one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptFile {
    /// Its path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub file_len_bytes: u64,
    /// Whether a reader still sees it: until that is over it is no other segment.
    pub is_read: bool,
}

impl Inspection {
    /// Looks at the log in directory `path`.
    ///
    /// # Errors
    /// [`Error::NoLog`], [`Error::NotALog`], [`Error::NotARegularFile`], [`Error::Format`], [`Error::Io`]. Damage is
    /// not an error, and is reported by [`Self::verify`]; but it is [`Error::Corrupt`] if no segment is left of a log
    /// that another file tells of.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let disk = Disk::open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::NoLog { path: path.to_owned() },
            _ => Error::io("open", path, source),
        })?;
        let storage: Arc<dyn Storage> = Arc::new(disk);
        let mut looks = 1;
        loop {
            let inspection = Self::look(&storage)?;
            let is_sure = inspection.faults().next().is_none() && !inspection.is_all_gone();
            if is_sure || looks == directory::LOOKS_MAX {
                return Ok(inspection);
            }
            looks += 1;
        }
    }

    /// Whether all that was there when the directory was listed has been trimmed since.
    fn is_all_gone(&self) -> bool {
        self.files.iter().all(|file| file.file_len_bytes == 0)
    }

    pub(crate) fn look(storage: &Arc<dyn Storage>) -> Result<Self> {
        // What is durable before the directory is read is found there. A page that is no file is told by the list.
        let before = read_page(&**storage);
        let listing = directory::list(&**storage)?;
        let before = before?;
        if listing.segments.is_empty() {
            return Err(Error::NoLog { path: storage.path().to_owned() });
        }
        let (found, mut faults) = sound_headers(&**storage, &listing.segments)?;
        if faults.is_empty() {
            directory::check_begun(&**storage, &found)?;
        }
        let log_id = found.first().map_or(0, |segment| segment.log_id);
        // A trim says so before it removes the files.
        let after = read_page(&**storage)?;
        let page_fault =
            after.as_ref().and_then(|page| page.fault(storage.path(), log_id, directory::is_old(found.iter())));
        faults.extend(page_fault.filter(|_| !found.is_empty()));
        let control = before.as_ref().and_then(|page| page.trimmed_since(after.as_ref(), log_id));
        let linked = chain::sort_out(&listing.segments, &found, storage.path(), control);
        let files = listing.segments.iter().map(|&number| segment_file(&**storage, number, &found, &linked)).collect();
        let kept = listing.temporaries.iter().filter(|name| name::temporary_number(name).is_some());
        // One that is taken just now is a segment by the next look.
        let kept = kept.filter_map(|name| kept_file(&**storage, name).ok()).collect();
        Ok(Self { storage: Arc::clone(storage), log_id, files, kept, linked, control, page: before, faults })
    }

    /// The identity of the log, the same in all its segments.
    #[must_use]
    pub fn log_id(&self) -> u128 {
        self.log_id
    }

    /// Every file with a segment's name, by number.
    #[must_use]
    pub fn segments(&self) -> &[SegmentFile] {
        &self.files
    }

    /// The files of dropped segments that are kept for further ones.
    #[must_use]
    pub fn kept_files(&self) -> &[KeptFile] {
        &self.kept
    }

    /// What is wrong with headers, and with the links between segments: the faults that show without reading records.
    /// [`Self::verify`] finds all.
    pub fn faults(&self) -> impl Iterator<Item = &Corruption> {
        self.faults.iter().chain(&self.linked.faults)
    }

    /// The process that has the log open for writing, by what it says itself: one that crashed is still named. `None`
    /// after a clean shutdown, and in a copy that came without the log's control page.
    #[must_use]
    pub fn writer_pid(&self) -> Option<u32> {
        self.control.and_then(|control| control.writer_pid)
    }

    /// Whether any process has the log open for writing at this moment, also in another container, and after its file
    /// `LOCK` was removed or replaced; `None` where the system cannot be asked.
    #[must_use]
    pub fn is_being_written(&self) -> Option<bool> {
        self.storage.is_locked().ok().flatten()
    }

    /// Whether the last writer had a failed sync.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.control.is_some_and(|control| control.poisoned)
    }

    /// Whether the last writer takes requests to trim ([`request_trim`](crate::request_trim)), as far as the log's control page tells.
    #[must_use]
    pub fn takes_requests(&self) -> bool {
        self.control.is_some_and(|control| control.takes_requests)
    }

    /// What the last writer has done since it opened the log, as far as its control page tells.
    #[must_use]
    pub fn activity(&self) -> Option<Activity> {
        self.control.and_then(|control| control.activity)
    }

    /// The last record that the writer has called durable, as far as the log's control page tells.
    #[must_use]
    pub fn durable_lsn(&self) -> Option<Lsn> {
        self.control.map(|control| control.durable.map_or(Lsn::ZERO, |stated| stated.lsn))
    }

    /// The number of the oldest segment that has not been trimmed, as far as the log's control page tells.
    #[must_use]
    pub fn oldest_segment(&self) -> Option<u64> {
        self.control.and_then(|control| control.oldest_segment)
    }

    /// The number of the segment that takes appends, or took them last, as far as the log's control page tells: later ones are prepared,
    /// and hold nothing.
    #[must_use]
    pub fn active_segment(&self) -> Option<u64> {
        self.control.map(|control| control.active_segment).filter(|&active| active > 0)
    }

    /// The lengths of all segments and kept files together, spares and leftovers included, in bytes. What has not been used of a
    /// new segment takes no room yet.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let kept = self.kept.iter().map(|file| file.file_len_bytes);
        self.files.iter().map(|file| file.file_len_bytes).chain(kept).sum()
    }

    /// The named pins, by name.
    ///
    /// # Errors
    /// [`Error::Io`]. A damaged pin is not an error: it is in the list.
    pub fn pins(&self) -> Result<Vec<PinStatus>> {
        pins::list(&self.storage, &self.counting())
    }

    /// What is wrong if the newest segment that counts ends with a seal that names segment `named`, and that has no file. In copies of
    /// sealed segments (`is_archive`) only the control page can tell, if there is one.
    #[must_use]
    pub fn missing_after(&self, named: u64, is_archive: bool) -> Option<Corruption> {
        let tip = self.linked.counting.last()?;
        let version = tip.info?.layout.version;
        let active = self.control.map(|control| control.active_segment);
        self.missing(named).filter(|_| Seal::has_successor(version, is_archive, named, active))
    }

    /// What is wrong if the newest segment that counts names segment `named`, of which it is known that it has been there, and that has
    /// no file.
    pub(crate) fn missing(&self, named: u64) -> Option<Corruption> {
        let referrer = self.linked.counting.last()?.number;
        let is_there = self.files.iter().any(|file| file.number == named);
        let path = self.storage.path().join(name::segment(named));
        (!is_there).then(|| fault(&path, Damage::MissingSegment { referrer }))
    }

    /// The segments that count, without those that a trim is just removing.
    pub(crate) fn counting(&self) -> Arc<Segments> {
        let oldest = self.control.and_then(|control| control.oldest_segment).unwrap_or(0);
        let follow = |info| Arc::new(Segment::followed(info, Arc::clone(&self.storage), Arc::default()));
        let infos = self.linked.counting.iter().filter_map(|linked| linked.info);
        SegmentList::new(infos.filter(|info| info.number >= oldest).map(follow).collect()).load()
    }
}

fn read_page(storage: &dyn Storage) -> Result<Option<PageFound>> {
    PageFound::read(storage).map_err(|source| Error::io("read", &storage.path().join(name::CONTROL), source))
}

/// What of `numbers` has a sound header and belongs to one log; what is wrong with the others.
fn sound_headers(storage: &dyn Storage, numbers: &[u64]) -> Result<(Vec<Found>, Vec<Corruption>)> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for &number in numbers {
        match directory::inspect(storage, number) {
            Ok(segment) => found.extend(segment),
            Err(Error::Corrupt(corruption)) => faults.push(*corruption),
            Err(error) => return Err(error),
        }
    }
    let log_id = directory::common_log_id(&found);
    found.retain(|segment| {
        let is_own = segment.log_id == log_id;
        if !is_own {
            let damage = Damage::ForeignSegment { expected: log_id, found: segment.log_id };
            faults.push(fault(&storage.path().join(name::segment(segment.number)), damage));
        }
        is_own
    });
    Ok((found, faults))
}

fn segment_file(storage: &dyn Storage, number: u64, found: &[Found], linked: &LinkedSegments) -> SegmentFile {
    let segment = found.iter().find(|segment| segment.number == number);
    let linked = linked.counting.iter().find(|linked| linked.number == number);
    let link = segment.and_then(Found::link);
    SegmentFile {
        number,
        path: storage.path().join(name::segment(number)),
        file_len_bytes: segment.map_or(0, |segment| segment.size),
        first_lsn: link.map(|link| link.base_lsn),
        counts: linked.is_some(),
        end: linked.and_then(|linked| linked.end).map(|end| end.offset),
        end_checksum: linked.and_then(|linked| linked.end).map(|end| end.crc),
        next_lsn: linked.and_then(|linked| linked.end).map(|end| end.next_lsn),
        predecessor: link.and_then(|link| SegmentTip::before(&link.link)),
    }
}

fn kept_file(storage: &dyn Storage, name: &str) -> std::io::Result<KeptFile> {
    let file = storage.open(name, Access::Read)?;
    let is_read = file.users().is_ok_and(|users| users.elsewhere);
    Ok(KeptFile { path: storage.path().join(name), file_len_bytes: file.len_bytes()?, is_read })
}

fn fault(path: &Path, damage: Damage) -> Corruption {
    Corruption { path: path.to_owned(), offset: 0, lsn: None, damage, evidence: None }
}
