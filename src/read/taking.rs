//! What an archiver in another process than the writer's takes.

use std::path::Path;
use std::sync::Arc;

use super::archivable::{DurablePrefix, SealedSegment, next_sealed};
use super::reader::LogReader;
use super::source::Source;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::format::position::Position;
use crate::segment::Segments;

impl LogReader {
    /// The directory, by its absolute path.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.0.storage.absolute_path()
    }

    /// As [`Log::next_sealed`](crate::Log::next_sealed), of what the writer has called durable. All frames are checked.
    ///
    /// # Errors
    /// As [`Self::open`]; [`Error::Trimmed`] when the segment was trimmed meanwhile.
    pub fn next_sealed(&self, after: u64) -> Result<Option<SealedSegment>> {
        let (segments, durable) = self.durable_segments()?;
        let sealed = next_sealed(&segments, after, durable).map_err(|error| self.0.explain(error))?;
        let Some((segment, end)) = sealed else { return Ok(None) };
        let opened = SealedSegment::open(&*self.0.storage, &segment, end)?;
        opened.ok_or_else(|| segment.trimmed()).map(Some)
    }

    /// As [`Log::durable_prefix`](crate::Log::durable_prefix), of what the writer has called durable. All frames are checked.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn durable_prefix(&self) -> Result<Option<DurablePrefix>> {
        let (segments, durable) = self.durable_segments()?;
        DurablePrefix::of(&segments, durable).map_err(|error| self.0.explain(error))
    }

    fn durable_segments(&self) -> Result<(Arc<Segments>, Position)> {
        self.0.check_process()?;
        // Before the segments: a writer may open one, and make what is in it durable, at any moment.
        let durable = self.0.durable().1;
        self.0.refresh(false)?;
        Ok((self.0.segments(), durable))
    }
}
