//! Whether the files of an open log are where they were: looked at while the log is in use, once a second at the most.
//!
//! A log whose directory, lock file, control page or segments have been removed or replaced would go on acknowledging records that the next
//! open does not find. So it is poisoned. A log that is left alone is not looked at: it acknowledges nothing either.

use std::io;

use crate::error::{Error, Result};
use crate::format::name;
use crate::log::shared::Shared;
use crate::segment::Segment;
use crate::storage::{Displaced, FileIdentity};

/// Sealed segments looked at each time, in turn.
const SEALED_MAX: usize = 64;

impl Shared {
    /// Poisons the log if a file of it is not where it was. Called without the rotation lock.
    pub(crate) fn look_around(&self) -> Result<()> {
        if !self.lookout.take_if_due() {
            return Ok(());
        }
        self.find_displaced().map_err(|displaced| self.poison_displaced(displaced))
    }

    /// Poisons the log if its control page is not where it was. Called without the rotation lock.
    pub(crate) fn look_for_control(&self) -> Result<()> {
        self.control.check_place(&*self.storage).map_err(|displaced| self.poison_displaced(displaced))
    }

    fn poison_displaced(&self, displaced: io::Error) -> Error {
        let error = self.poison(displaced);
        // Appenders find the segment closed, look why, and see the poison.
        self.lock_rotation().cursor_control.close(0);
        error
    }

    /// Only what is known to be displaced is an error: what cannot be looked at may be there.
    fn find_displaced(&self) -> io::Result<()> {
        match self.storage.check_place() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.control.check_place(&*self.storage)?;
        let segments = self.segments.load();
        let Some((active, sealed)) = segments.as_slice().split_last() else { return Ok(()) };
        self.check_segment(active)?;
        let resume = self.lookout.resume();
        let begin = sealed.partition_point(|segment| segment.number() < resume);
        let end = sealed.len().min(begin + SEALED_MAX);
        sealed[begin..end].iter().try_for_each(|segment| self.check_segment(segment))?;
        self.lookout.resume_at(sealed.get(end).map_or(0, |segment| segment.number()));
        Ok(())
    }

    fn check_segment(&self, segment: &Segment) -> io::Result<()> {
        let found = self.storage.find(&name::segment(segment.number()));
        let is_displaced = match found {
            Ok(Some(found)) => Self::open_identity(segment).is_some_and(|open| open != found),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(None) => false,
        };
        // A segment leaves the list before its file loses its name.
        if is_displaced && self.is_listed(segment.number()) { Err(Displaced::error(segment.path())) } else { Ok(()) }
    }

    /// Which file it is that is open for `segment`, if one is.
    fn open_identity(segment: &Segment) -> Option<FileIdentity> {
        FileIdentity::of(segment.unsynced()?.1.as_file()?)
    }
}
