//! What is in the directory of a log.

use std::io;
use std::path::{Path, PathBuf};

use super::lost;
use crate::error::{Damage, Error, FileKind, Result};
use crate::format::Version;
use crate::format::frame::{Frame, FrameHeader, padded};
use crate::format::link::{self, Link, Predecessor};
use crate::format::meta_len_max;
use crate::format::name::{self, Name};
use crate::format::segment_header::{self, Layout, SegmentHeader};
use crate::format::walk::{Check, Walk};
use crate::lsn::Lsn;
use crate::segment::control::PageFound;
use crate::storage::{Access, Storage};

/// Bytes read at the start of a segment: its header, and its link unless that carries much metadata.
const PREFIX_LEN: usize = 2 * segment_header::LEN;

/// How often a directory is read that may have changed while it was. Read while files get their names or lose them, it may lack one
/// that was there before another that it has.
pub(crate) const LOOKS_MAX: u32 = 5;

/// The names found, before any file is opened.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Numbers of segments, ascending.
    pub(crate) segments: Vec<u64>,
    /// Names of unfinished files, or of directories that a repair of the file system has made of some.
    pub(crate) temporaries: Vec<String>,
}

impl Listing {
    /// The largest number in a temporary name of a segment, or 0.
    pub(crate) fn temporary_number(&self) -> u64 {
        self.temporaries.iter().filter_map(|name| name::temporary_number(name)).max().unwrap_or(0)
    }
}

/// Lists the directory; an error if it is not, or not only, a log's, and if that log has lost all of its segments.
pub(crate) fn list(storage: &dyn Storage) -> Result<Listing> {
    let (mut listing, mut foreign) = names(storage)?;
    if listing.segments.is_empty()
        && let Some(lost) = lost::told_of(storage)
    {
        // Of a log that has been made since, the first segment was there before what tells of it.
        (listing, foreign) = names(storage)?;
        if listing.segments.is_empty() {
            return Err(lost);
        }
    }
    match foreign.filter(|_| listing.segments.is_empty()) {
        // Beside segments a stray file does no harm. Without any, the directory is not a log's.
        Some(path) => Err(Error::NotALog { path }),
        None => Ok(listing),
    }
}

/// The names in the directory, and a file that is not a log's.
fn names(storage: &dyn Storage) -> Result<(Listing, Option<PathBuf>)> {
    let mut listing = Listing::default();
    let mut foreign: Option<Vec<u8>> = None;
    let mut bad: Option<(Vec<u8>, FileKind)> = None;
    let visited = storage.entries(&mut |name, kind| {
        let parsed = Name::parse(name);
        let regular = kind == FileKind::Regular;
        match parsed {
            Name::Pins if kind == FileKind::Directory => {}
            Name::OfSystem | Name::UnfinishedPins => {}
            Name::Foreign => drop(foreign.get_or_insert_with(|| name.to_owned())),
            Name::Temporary if regular || kind == FileKind::Directory => {
                listing.temporaries.push(String::from_utf8_lossy(name).into_owned());
            }
            _ if !regular => drop(bad.get_or_insert_with(|| (name.to_owned(), kind))),
            Name::BadSegment | Name::Pins => drop(bad.get_or_insert_with(|| (name.to_owned(), FileKind::Regular))),
            Name::Segment(number) => listing.segments.push(number),
            Name::Temporary | Name::Lock | Name::Control => {}
        }
    });
    visited.map_err(|source| Error::io("list", storage.path(), source))?;
    let path = |name: &[u8]| storage.path().join(String::from_utf8_lossy(name).as_ref());
    if let Some((name, kind)) = bad {
        return Err(match kind {
            FileKind::Regular => Error::NotALog { path: path(&name) },
            found => Error::NotARegularFile { path: path(&name), found },
        });
    }
    listing.segments.sort_unstable();
    Ok((listing, foreign.map(|name| path(&name))))
}

/// A segment's identity and how it is tied to the others.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) layout: Layout,
    pub(crate) log_id: u128,
    /// Features, as bits, that a writer must know and this one does not.
    pub(crate) unknown_to_writers: u32,
    pub(crate) first: FirstFrame,
}

/// Whether no writer of this version has begun a segment among `found`, by number, but one of version 2.
pub(crate) fn is_old<'a>(found: impl DoubleEndedIterator<Item = &'a Found> + Clone) -> bool {
    let newest = found.clone().rfind(|segment| segment.is_linked()).or_else(|| found.last());
    newest.is_some_and(|newest| newest.layout.version == Version::V2)
}

impl Found {
    /// Whether frames follow its header in good order: then neither will ever change.
    pub(crate) fn is_linked(&self) -> bool {
        matches!(self.first, FirstFrame::Link(_))
    }

    /// Its link, if it has a good one.
    pub(crate) fn link(&self) -> Option<&LinkFrame> {
        match &self.first {
            FirstFrame::Link(frame) => Some(frame),
            FirstFrame::Nothing | FirstFrame::Damaged(_) => None,
        }
    }

    /// What is wrong with its first frame, if that should have been a link.
    pub(crate) fn damage(&self) -> Damage {
        match &self.first {
            FirstFrame::Damaged(damage) => damage.clone(),
            FirstFrame::Nothing | FirstFrame::Link(_) => Damage::MissingFrame,
        }
    }
}

/// The first frame of a segment.
#[derive(Debug, Clone)]
pub(crate) enum FirstFrame {
    Link(Box<LinkFrame>),
    /// No commit word: a spare, as far as can be seen here.
    Nothing,
    Damaged(Damage),
}

#[derive(Debug, Clone)]
pub(crate) struct LinkFrame {
    pub(crate) link: Link,
    /// The number of the segment's first record.
    pub(crate) base_lsn: Lsn,
}

impl LinkFrame {
    /// Damage if the link of segment `number` says what cannot be, as far as is known: `before` is the segment that it names, if that
    /// has a sound header. Also of one that is missing, which would be taken for one that was trimmed.
    pub(crate) fn check(&self, number: u64, before: Option<&Found>) -> Result<(), Damage> {
        let Some(Predecessor { number: previous, end, .. }) = self.link.previous else { return Ok(()) };
        let is_in_order =
            previous < number && before.and_then(Found::link).is_none_or(|link| link.base_lsn <= self.base_lsn);
        let is_within = end > segment_header::LEN as u64 && before.is_none_or(|before| end <= before.size);
        if is_in_order && is_within { Ok(()) } else { Err(Damage::FrameContents) }
    }
}

/// An error if one of the segments `found` in `directory` is not of log `log_id`.
pub(crate) fn check_identity(found: &[Found], log_id: u128, directory: &Path) -> Result<()> {
    let Some(odd) = found.iter().find(|segment| segment.log_id != log_id) else { return Ok(()) };
    let path = directory.join(name::segment(odd.number));
    Err(Error::corrupt(&path, 0, None, Damage::ForeignSegment { expected: log_id, found: odd.log_id }))
}

/// Reads header and link of segment `number`, and checks the header against name and length. `None` if the file is gone.
pub(crate) fn inspect(storage: &dyn Storage, number: u64) -> Result<Option<Found>> {
    let Some((found, len)) = look_into(storage, number)? else { return Ok(None) };
    let corrupt = |damage| Err(Error::corrupt(&storage.path().join(name::segment(number)), 0, None, damage));
    if found.number != number {
        return corrupt(Damage::SegmentNumber { expected: number, found: found.number });
    }
    if len != found.size {
        return corrupt(Damage::FileLength { expected: found.size, found: len });
    }
    Ok(Some(found))
}

/// Reads header and link of the segment in the file that is named as segment `name`, whichever that is; and the length of the file. `None` if the
/// file is gone.
pub(crate) fn look_into(storage: &dyn Storage, name: u64) -> Result<Option<(Found, u64)>> {
    let name = name::segment(name);
    let path = storage.path().join(&name);
    let failed = |operation| {
        let path = path.clone();
        move |source| Error::io(operation, &path, source)
    };
    let file = match storage.open(&name, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open")(error)),
    };
    let mut prefix = vec![0; PREFIX_LEN];
    let mut read = file.read_at(&mut prefix, 0).map_err(failed("read"))?;
    if let Some(len) = prefix_len(&prefix[..read]).filter(|&len| len > read) {
        prefix.resize(len, 0);
        read = file.read_at(&mut prefix, 0).map_err(failed("read"))?;
    }
    let Some((header, rest)) = prefix[..read].split_first_chunk::<{ segment_header::LEN }>() else {
        let damage = Damage::FileLength { expected: segment_header::LEN as u64, found: read as u64 };
        return Err(Error::corrupt(&path, 0, None, damage));
    };
    let header = SegmentHeader::parse(header).map_err(|fault| fault.into_error(&path))?;
    let len = file.len_bytes().map_err(failed("read the length of"))?;
    let found = Found {
        number: header.number(),
        size: header.segment_size(),
        layout: header.layout(),
        log_id: header.log_id(),
        unknown_to_writers: header.unknown_to_writers(),
        first: first_frame(rest, header),
    };
    Ok(Some((found, len)))
}

/// How long header and link are by what they say, if that can be true.
fn prefix_len(prefix: &[u8]) -> Option<usize> {
    let (header, frames) = prefix.split_first_chunk()?;
    let size = SegmentHeader::parse(header).ok()?.segment_size();
    let link = FrameHeader::stated(frames)?;
    let len_max = link::frame_len(usize::try_from(meta_len_max(size)).ok()?);
    (link.len() as usize <= len_max).then(|| segment_header::LEN + padded(link.len() as usize))
}

pub(crate) fn first_frame(rest: &[u8], header: &SegmentHeader) -> FirstFrame {
    let parsed = Frame::parse(rest).and_then(|frame| {
        // The link's own number is the segment's first; the walk compares it with the predecessor's.
        let frame = Walk::new(header.layout(), Check::Full, segment_header::LEN, frame.lsn()).step(rest)?;
        Ok(LinkFrame { link: Link::parse(frame.payload(), header.layout().version)?, base_lsn: frame.lsn() })
    });
    match parsed {
        Ok(link) => FirstFrame::Link(Box::new(link)),
        Err(Damage::MissingFrame) => FirstFrame::Nothing,
        Err(damage) => FirstFrame::Damaged(damage),
    }
}

/// Lists the directory, and inspects the segments that are not `known`. If all that were listed are gone by then, others have come.
pub(crate) fn find(storage: &dyn Storage, is_known: impl Fn(u64) -> bool) -> Result<(Listing, Vec<Found>)> {
    let mut looks = 1;
    loop {
        let listing = list(storage)?;
        let unknown: Vec<u64> = listing.segments.iter().copied().filter(|&number| !is_known(number)).collect();
        let found = inspect_all(storage, &unknown)?;
        if unknown.len() == listing.segments.len() {
            check_begun(storage, &found)?;
        }
        let is_all_gone = found.is_empty() && !unknown.is_empty() && unknown.len() == listing.segments.len();
        if !is_all_gone || looks == LOOKS_MAX {
            return Ok((listing, found));
        }
        looks += 1;
    }
}

/// The first record of the log in `storage`, as far as its files tell at once.
pub(crate) fn first_lsn(storage: &dyn Storage) -> Option<Lsn> {
    let numbers = names(storage).ok()?.0.segments;
    // A trim says so before it removes the files.
    let page = PageFound::read(storage).ok().flatten().and_then(|found| found.state());
    let oldest = page.and_then(|page| page.oldest_segment).unwrap_or(0);
    numbers.into_iter().filter(|&number| number >= oldest).find_map(|number| {
        match inspect(storage, number).ok()??.first {
            FirstFrame::Link(link) => Some(link.base_lsn),
            FirstFrame::Nothing | FirstFrame::Damaged(_) => None,
        }
    })
}

/// An error if no segment of `found` has been begun, and a pin says that some had been: they are lost, and what is left is a spare.
pub(crate) fn check_begun(storage: &dyn Storage, found: &[Found]) -> Result<()> {
    let is_unbegun = |segment: &Found| matches!(segment.first, FirstFrame::Nothing);
    if found.is_empty() || !found.iter().all(is_unbegun) {
        return Ok(());
    }
    let Some(lost) = lost::told_by_pin(storage) else { return Ok(()) };
    // A log that has been begun since had its first link before its first pin.
    let numbers: Vec<u64> = found.iter().map(|segment| segment.number).collect();
    if inspect_all(storage, &numbers)?.iter().all(is_unbegun) { Err(lost) } else { Ok(()) }
}

/// Inspects all of `numbers`, which belong to one log. Those that are gone meanwhile are left out.
pub(crate) fn inspect_all(storage: &dyn Storage, numbers: &[u64]) -> Result<Vec<Found>> {
    let mut found = Vec::with_capacity(numbers.len());
    for &number in numbers {
        found.extend(inspect(storage, number)?);
    }
    let log_id = common_log_id(&found);
    match found.iter().find(|segment| segment.log_id != log_id) {
        None => Ok(found),
        Some(odd) => {
            let path = storage.path().join(name::segment(odd.number));
            Err(Error::corrupt(&path, 0, None, Damage::ForeignSegment { expected: log_id, found: odd.log_id }))
        }
    }
}

/// The identity that most segments have (Boyer and Moore's majority vote), so that the error names the odd one.
pub(crate) fn common_log_id(found: &[Found]) -> u128 {
    let mut candidate = (0, 0_usize);
    for segment in found {
        candidate = match candidate {
            (_, 0) => (segment.log_id, 1),
            (id, count) if id == segment.log_id => (id, count + 1),
            (id, count) => (id, count - 1),
        };
    }
    candidate.0
}
