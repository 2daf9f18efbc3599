//! What is left of a log, and what of it is missing, whatever the names of its files: "What is there, and what is missing" in
//! `docs/design/salvage.md`.

use std::path::PathBuf;

use super::chain::{self, LinkedSegments};
use super::{Inspection, SegmentFile, fault, read_page};
use crate::error::{Corruption, Damage, Error, Result};
use crate::format::Version;
use crate::format::frame::HEADER_LEN;
use crate::format::link::{self, Seal};
use crate::format::name;
use crate::format::segment_header::{self, Layout, salt_of};
use crate::lsn::Lsn;
use crate::read::{ScanItem, SegmentScan, SegmentTip};
use crate::segment::control::ControlState;
use crate::segment::directory::{self, Found};
use crate::storage::Storage;

/// What is left of a log: the segments whose headers are sound, each under the number in its header, whatever the name and the length of its
/// file; and what tells that others were there.
///
/// # Example
/// ```
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// use mapwal::inspect::{Inspection, LostBeginning, Remains, SegmentFile};
///
/// log.append(1, b"a")?;
/// log.rotate()?;
/// log.append(1, b"b")?;
/// log.close()?;
/// let [first, second] = [1, 2].map(|number| dir.path().join(format!("{number:020}.seg")));
/// std::fs::rename(&second, &first)?; // segment 1 is gone, and segment 2 has its name
/// let inspection = Inspection::open(dir.path())?;
/// let remains: Remains = inspection.remains()?;
/// let [SegmentFile { number: 2, path, .. }] = remains.segments() else { panic!("one segment") };
/// println!("log {:032x}, {} further copies, segments up to {}", remains.log_id(), remains.copies().len(), remains.newest_number());
/// assert_eq!(path, &first);
/// assert!(remains.foreign().is_empty(), "of another log");
/// let Some(LostBeginning { first, last, .. }) = remains.lost_beginning() else { panic!("record 1 is lost") };
/// assert_eq!((first.map(|lsn| lsn.0), last.0), (Some(1), 1));
/// assert!(!remains.is_end_lost(2, None, true, false), "it has been closed");
/// assert!(remains.is_closed() && remains.durable_lsn() == Some(mapwal::Lsn(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Remains {
    log_id: u128,
    /// Segments of other logs.
    foreign: Vec<Corruption>,
    segments: Vec<SegmentFile>,
    copies: Vec<SegmentFile>,
    lost_beginning: Option<LostBeginning>,
    /// What is known of each of `segments`.
    known: Vec<Known>,
    /// Files that may have been segments after all of them.
    unread: Vec<Unread>,
    control: Option<ControlState>,
}

/// What was before the first record that is left, and had not been trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostBeginning {
    /// The first of the records, if something tells which one that was.
    pub first: Option<Lsn>,
    /// The last of them.
    pub last: Lsn,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    version: Version,
    /// The file is shorter than the header says.
    is_cut: bool,
}

/// A file that has a segment's name, and does not hold that segment.
#[derive(Debug, Clone, Copy)]
struct Unread {
    number: u64,
    /// It holds something that the segment may have been.
    has_bytes: bool,
    /// It holds another segment of the log: a copy of that, or its file under another name.
    is_other: bool,
}

/// A segment that has a sound header.
struct Source {
    /// The number in the name of its file.
    name: u64,
    len: u64,
    found: Found,
    /// The number that its first sound frame has, and where that is.
    begin: Option<(Lsn, u64)>,
}

impl Inspection {
    /// Reads the header and the first frames of each file that has a segment's name, and finds out which segments those are.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`]. Damage is not an error.
    pub fn remains(&self) -> Result<Remains> {
        let (mut sources, mut unread) = (Vec::new(), Vec::new());
        for file in &self.files {
            match directory::look_into(&*self.storage, file.number) {
                Ok(Some((found, len))) => sources.push(Source { name: file.number, len, found, begin: None }),
                // It has been trimmed meanwhile.
                Ok(None) => {}
                Err(Error::Corrupt(_)) => unread.push(file.number),
                Err(error) => return Err(error),
            }
        }
        let headers: Vec<Found> = sources.iter().map(|source| source.found.clone()).collect();
        let log_id = directory::common_log_id(&headers);
        // A trim says so before it removes the files.
        let now = read_page(&*self.storage).ok().flatten();
        let control = self.page.as_ref().and_then(|page| page.trimmed_since(now.as_ref(), log_id));
        let is_own = |source: &Source| source.found.log_id == log_id;
        let foreign: Vec<Corruption> =
            sources.iter().filter(|it| !is_own(it)).map(|it| self.foreign(it, log_id)).collect();
        sources.retain(is_own);
        // Of several files with one segment, that comes first which is as it should be.
        sources.sort_by_key(|source| {
            (source.found.number, source.len < source.found.size, source.name != source.found.number, source.name)
        });
        let others: Vec<u64> = sources.iter().filter(|it| it.name != it.found.number).map(|it| it.name).collect();
        let others: Vec<u64> =
            others.into_iter().filter(|name| sources.iter().all(|it| it.found.number != *name)).collect();
        for source in &mut sources {
            source.begin = begin_of(&*self.storage, source)?;
        }
        self.remains_of(&sources, (unread, others, foreign), log_id, control)
    }

    /// `unread` are the names of files without a sound header, `others` those with another segment than they name; `foreign` tells of those of another
    /// log.
    fn remains_of(
        &self,
        sources: &[Source],
        (unread, others, foreign): (Vec<u64>, Vec<u64>, Vec<Corruption>),
        log_id: u128,
        control: Option<ControlState>,
    ) -> Result<Remains> {
        let replaced = self.files.iter().filter(|file| foreign.iter().any(|fault| fault.path == file.path));
        let replaced: Vec<u64> = replaced.map(|file| file.number).collect();
        let mut first_of_each: Vec<&Source> = Vec::new();
        let mut further = Vec::new();
        for source in sources {
            let is_first = first_of_each.last().is_none_or(|last| last.found.number != source.found.number);
            if is_first { first_of_each.push(source) } else { further.push(source) }
        }
        let found: Vec<Found> = first_of_each.iter().map(|source| source.found.clone()).collect();
        let mut numbers: Vec<u64> = found
            .iter()
            .map(|found| found.number)
            .chain(unread.iter().chain(&others).chain(&replaced).copied())
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let linked = chain::sort_out(&numbers, &found, self.storage.path(), control);
        let tip = found.iter().rfind(|found| found.is_linked()).map_or(0, |tip| tip.number);
        let is_left = |number: u64| number > tip || linked.counting.iter().any(|linked| linked.number == number);
        first_of_each.retain(|source| is_left(source.found.number));
        further.retain(|source| is_left(source.found.number));
        let lost_beginning = lost_beginning(&first_of_each, &numbers, &linked, control);
        let mut segments: Vec<SegmentFile> = first_of_each.iter().map(|source| self.file_of(source, &linked)).collect();
        end_before_next(&mut segments, &first_of_each);
        let mut copies: Vec<SegmentFile> = further.iter().map(|source| self.file_of(source, &linked)).collect();
        for copy in &mut copies {
            copy.next_lsn = segments.iter().find(|file| file.number == copy.number).and_then(|file| file.next_lsn);
        }
        let known =
            first_of_each.iter().map(|it| Known { version: it.found.layout.version, is_cut: it.len < it.found.size });
        let known: Vec<Known> = known.collect();
        let last = segments.last().map_or(0, |last| last.number);
        let version = known.last().map_or(Version::V3, |last| last.version);
        let mut above = Vec::new();
        for number in unread.into_iter().filter(|&number| number > last) {
            let has_bytes = self.may_hold_frames(number, log_id, version)?;
            above.push(Unread { number, has_bytes, is_other: false });
        }
        let is_above = |number: &u64| *number > last;
        let overwritten = |is_other| move |number| Unread { number, has_bytes: true, is_other };
        above.extend(others.into_iter().filter(is_above).map(overwritten(true)));
        above.extend(replaced.into_iter().filter(is_above).map(overwritten(false)));
        Ok(Remains { log_id, foreign, segments, copies, lost_beginning, known, unread: above, control })
    }

    fn foreign(&self, source: &Source, log_id: u128) -> Corruption {
        let path = self.storage.path().join(name::segment(source.name));
        fault(&path, Damage::ForeignSegment { expected: log_id, found: source.found.log_id })
    }

    fn file_of(&self, source: &Source, linked: &LinkedSegments) -> SegmentFile {
        let number = source.found.number;
        let linked = linked.counting.iter().find(|linked| linked.number == number);
        let end = linked.and_then(|linked| linked.end);
        let link = source.found.link();
        SegmentFile {
            number,
            path: self.storage.path().join(name::segment(source.name)),
            file_len_bytes: source.found.size,
            first_lsn: link.map(|link| link.base_lsn),
            counts: linked.is_some(),
            end: end.map(|end| end.offset),
            end_checksum: end.map(|end| end.crc),
            next_lsn: end.map(|end| end.next_lsn),
            predecessor: link.and_then(|link| SegmentTip::before(&link.link)),
        }
    }

    /// Whether a file without a sound header may hold frames of the segment that its name says.
    fn may_hold_frames(&self, number: u64, log_id: u128, version: Version) -> Result<bool> {
        // A salt of version 2 is in the header alone: there, any byte may be of a frame.
        let layout = Layout { version, salt: salt_of(log_id, number), is_recycled: version >= Version::V3 };
        let name = name::segment(number);
        let path = self.storage.path().join(&name);
        let failed = |source| Error::io("read", &path, source);
        let mut scan =
            SegmentScan::open_as(&*self.storage, (&name, &path), (number, log_id, layout)).map_err(failed)?;
        Ok(scan.next()?.is_some())
    }
}

/// The number of the first sound frame of a segment, and where it is.
fn begin_of(storage: &dyn Storage, source: &Source) -> Result<Option<(Lsn, u64)>> {
    if let Some(link) = source.found.link() {
        return Ok(Some((link.base_lsn, segment_header::LEN as u64)));
    }
    let name = name::segment(source.name);
    let path: PathBuf = storage.path().join(&name);
    let identity = (source.found.number, source.found.log_id, source.found.layout);
    let mut scan =
        SegmentScan::open_as(storage, (&name, &path), identity).map_err(|error| Error::io("open", &path, error))?;
    loop {
        match scan.next() {
            Ok(Some(ScanItem::Frame(frame))) => return Ok(Some((frame.lsn(), frame.offset()))),
            Ok(Some(ScanItem::Gap { .. })) => {}
            // What cannot be read is told when it is to be copied.
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

/// Where the link of the next segment is damaged, the number that its first sound frame has tells all the same where the numbers of this one
/// end: what has that number here has been replaced.
fn end_before_next(segments: &mut [SegmentFile], sources: &[&Source]) {
    let mut next: Option<Lsn> = None;
    for (segment, source) in segments.iter_mut().zip(sources).rev() {
        segment.next_lsn = [segment.next_lsn, next].into_iter().flatten().min();
        next = source.begin.map(|(lsn, _)| lsn).into_iter().chain(next).min();
    }
}

/// What was before the first of `sources`; `numbers` are those of all files.
fn lost_beginning(
    sources: &[&Source],
    numbers: &[u64],
    linked: &LinkedSegments,
    control: Option<ControlState>,
) -> Option<LostBeginning> {
    let at = sources.iter().position(|source| source.begin.is_some())?;
    let (first, (lsn, offset)) = (sources[at], sources[at].begin?);
    let number = first.found.number;
    let oldest = control.and_then(|control| control.oldest_segment);
    let before = |fault: &Corruption| match fault.damage {
        Damage::MissingSegment { .. } | Damage::MissingOldest => {
            fault.path < fault.path.with_file_name(name::segment(number))
        }
        _ => false,
    };
    // Without a tip nothing tells which of the files below count.
    let is_unsorted = linked.counting.is_empty();
    let is_below = |other: u64| other < number && oldest.is_none_or(|oldest| other >= oldest);
    let is_file_before = linked.counting.iter().any(|linked| linked.number < number)
        || is_unsorted && numbers.iter().any(|&number| is_below(number));
    // A damaged link alone holds no record.
    let is_gap = offset - segment_header::LEN as u64 >= (link::frame_len(0) + HEADER_LEN) as u64;
    let is_lost = is_file_before || linked.faults.iter().any(before) || is_gap;
    if !is_lost || lsn <= Lsn(1) {
        return None;
    }
    // Nothing was trimmed, so the log began with record 1, unless there was no room for that many.
    let room = number.saturating_mul(first.found.size) / HEADER_LEN as u64;
    let begin = (oldest == Some(1) && lsn.0 <= room).then_some(Lsn(1));
    Some(LostBeginning { first: begin, last: lsn.previous() })
}

impl Remains {
    /// The identity of the log, which most of the sound headers have.
    #[must_use]
    pub fn log_id(&self) -> u128 {
        self.log_id
    }

    /// The segments that count, and those above the newest of them that does; one file for each, by the numbers in their headers. `next_lsn` is also known where a
    /// later segment has no link, and begins with an earlier number.
    #[must_use]
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// What is a segment of another log, whatever its number.
    #[must_use]
    pub fn foreign(&self) -> &[Corruption] {
        &self.foreign
    }

    /// Further files of these.
    #[must_use]
    pub fn copies(&self) -> &[SegmentFile] {
        &self.copies
    }

    /// The records before the first that is left, if there were some that had not been trimmed.
    #[must_use]
    pub fn lost_beginning(&self) -> Option<LostBeginning> {
        self.lost_beginning
    }

    /// Whether the log went on after the frames of segment `last`, which is the newest that has some, as far as anything tells. Those end with a
    /// seal that names segment `sealed_into`, or with a close, or neither. Copies of sealed segments (`Options::archive`) end with a seal.
    #[must_use]
    pub fn is_end_lost(&self, last: u64, sealed_into: Option<u64>, is_closed: bool, is_archive: bool) -> bool {
        let active = self.active_segment();
        // The writer had prepared it, and not used it.
        let is_unused = |number: u64| active.is_some_and(|active| number > active);
        let is_left = |number: u64| self.segments.iter().any(|file| file.number == number);
        let version = self.of(last).map_or(Version::V3, |known| known.version);
        let is_successor_lost = |named| !is_left(named) && Seal::has_successor(version, is_archive, named, active);
        let is_ended = sealed_into.is_some() || is_closed;
        let is_cut = self.segments.iter().zip(&self.known).any(|(file, known)| {
            known.is_cut && !is_unused(file.number) && (file.number > last || file.number == last && !is_ended)
        });
        // After a close in a segment that has room left, a log goes on there.
        let is_lost = |file: &Unread| {
            file.number > last && file.has_bytes && !is_unused(file.number) && !(file.is_other && is_closed)
        };
        sealed_into.is_some_and(is_successor_lost)
            || is_cut
            || active.is_some_and(|active| active > last && !is_left(active))
            || self.unread.iter().any(is_lost)
    }

    /// Whether all that was appended was durable in the end, by the control page: the last writer has closed the log, and
    /// the page says what was durable.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.control.is_some_and(|control| control.writer_pid.is_none() && control.durable.is_some())
    }

    /// The last record that the writer has called durable, as far as the log's control page tells.
    #[must_use]
    pub fn durable_lsn(&self) -> Option<Lsn> {
        self.control.map(|control| control.durable.map_or(Lsn::ZERO, |stated| stated.lsn))
    }

    /// The largest number that a segment of the log has had, as far as anything tells.
    #[must_use]
    pub fn newest_number(&self) -> u64 {
        let numbers = self.segments.iter().map(|file| file.number).chain(self.unread.iter().map(|file| file.number));
        numbers.chain(self.active_segment()).max().unwrap_or(0)
    }

    fn active_segment(&self) -> Option<u64> {
        self.control.map(|control| control.active_segment).filter(|&active| active > 0)
    }

    fn of(&self, number: u64) -> Option<&Known> {
        self.segments.iter().zip(&self.known).find(|(file, _)| file.number == number).map(|(_, known)| known)
    }
}
