//! What an archiver copies of a log that this process writes.

use super::Log;
use super::shared::Shared;
use crate::error::Result;
use crate::format::link::SegmentEnd;
use crate::format::position::Position;
use crate::read::{DurablePrefix, SealedSegment, next_sealed};
use crate::segment::Segment;

impl Log {
    /// The sealed segments with numbers above `after`, oldest first, as far as they are durable: no crash takes back
    /// what is archived. 0 asks for all. Each has its file open: of a long log, [`Log::next_sealed`] gives one at a time.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when a file cannot be opened.
    pub fn sealed(&self, after: u64) -> Result<Vec<SealedSegment>> {
        let shared = &*self.shared;
        shared.check_open()?;
        let durable = shared.durability.position();
        let segments = shared.segments.load();
        let wanted = segments.as_slice().iter().filter(|segment| segment.number() > after);
        let sealed = wanted.filter_map(|segment| Some((segment, segment.end()?)));
        sealed
            .take_while(|(segment, end)| Position::new(segment.number(), end.offset) <= durable)
            .filter_map(|(segment, end)| shared.sealed_segment(segment, end).transpose())
            .collect()
    }

    /// The first of them, and `None` if there is none. Frames that an earlier run has written are checked.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Corrupt`](crate::Error::Corrupt).
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// log.append(1, b"to be archived")?;
    /// log.rotate()?;
    /// log.sync()?;
    /// let mut archived = 0;
    /// while let Some(segment) = log.next_sealed(archived)? {
    ///     archived = segment.number(); // once its bytes are stored elsewhere
    /// }
    /// assert_eq!(archived, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_sealed(&self, after: u64) -> Result<Option<SealedSegment>> {
        let shared = &*self.shared;
        shared.check_open()?;
        let durable = shared.durability.position();
        let segments = shared.segments.load();
        let sealed = next_sealed(&segments, after, durable)?;
        sealed.map_or(Ok(None), |(segment, end)| shared.sealed_segment(&segment, end))
    }

    /// What is durable of the segment that takes appends; `None` if that has nothing durable.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Corrupt`](crate::Error::Corrupt).
    pub fn durable_prefix(&self) -> Result<Option<DurablePrefix>> {
        self.shared.check_open()?;
        let durable = self.shared.durability.reached();
        DurablePrefix::of(&self.shared.segments.load(), durable)
    }
}

impl Shared {
    /// `None` if the segment has been trimmed or truncated away meanwhile.
    fn sealed_segment(&self, segment: &Segment, end: SegmentEnd) -> Result<Option<SealedSegment>> {
        let opened = SealedSegment::open(&*self.storage, segment, end)?;
        if opened.is_none() && self.is_listed(segment.number()) {
            // A segment leaves the list before its file loses its name.
            let source = std::io::ErrorKind::NotFound.into();
            return Err(crate::error::Error::io("open", &segment.path(), source));
        }
        Ok(opened)
    }

    pub(super) fn is_listed(&self, number: u64) -> bool {
        self.segments.with(|list| list.as_slice().binary_search_by_key(&number, |segment| segment.number()).is_ok())
    }
}
