//! Checking the bytes of objects against their keys, and their frames: a key's checksum says what was uploaded, and not that it was sound.

use mapwal::Lsn;
use mapwal::inspect::SegmentCheck;

use crate::error::{Error, ObjectDamage, Result};
use crate::object::ArchivedSegment;

/// A check of one object, whose bytes come in pieces.
pub(crate) struct ObjectCheck<'a> {
    object: &'a ArchivedSegment,
    hasher: crc32fast::Hasher,
    len: u64,
    /// Of the segment, up to here; `None` where what comes before is not known.
    frames: Option<SegmentCheck>,
    fault: Option<mapwal::Error>,
}

impl<'a> ObjectCheck<'a> {
    /// `before` has passed all of the segment that comes before the object; `None` if that is not there, or damaged.
    pub(crate) fn new(object: &'a ArchivedSegment, before: Option<&SegmentCheck>) -> Self {
        Self { object, hasher: crc32fast::Hasher::new(), len: 0, frames: before.cloned(), fault: None }
    }

    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
        self.len += chunk.len() as u64;
        if let (Some(frames), None) = (&mut self.frames, &self.fault) {
            self.fault = frames.push(chunk).err();
        }
    }

    /// The check of the segment up to the end of the object. Otherwise [`Error::Damaged`], with the first frame of it that is not sound.
    pub(crate) fn finish(mut self) -> Result<Option<SegmentCheck>> {
        let object = self.object;
        let checksum = std::mem::take(&mut self.hasher).finalize();
        let read = check_read(object, self.len, checksum);
        let Some(frames) = self.frames.take() else { return read.map(|()| None) };
        let fault = self.fault.or_else(|| frames.expect_end(object.next_lsn, None).err());
        let begin = object.part.unwrap_or(0);
        let place = match &fault {
            Some(mapwal::Error::Corrupt(corruption)) => (corruption.offset, corruption.lsn),
            _ => (frames.offset(), frames.next_lsn()),
        };
        let (at, lsn) = (place.0.saturating_sub(begin), place.1.or(Some(object.first_lsn)));
        let is_first = begin == 0;
        let is_it = |frames: &SegmentCheck| {
            let is_first_lsn = !is_first || frames.first_lsn().is_none_or(|first| first == object.first_lsn);
            is_first_lsn && frames.number().is_none_or(|number| number == object.number)
        };
        if let Err(Error::Damaged { key, damage, .. }) = read {
            // Of another segment in its place, nothing.
            let (at, lsn) = if is_it(&frames) { (at.min(self.len), lsn) } else { (0, Some(object.first_lsn)) };
            return Err(Error::Damaged { key, damage, offset: Some(at), lsn });
        }
        if !is_it(&frames) {
            return Err(Error::damaged(&object.key, ObjectDamage::Identity));
        }
        let Some(fault) = fault else { return Ok(Some(frames)) };
        let told = match fault {
            mapwal::Error::Corrupt(corruption) => corruption.damage.to_string(),
            mapwal::Error::Format { fault, .. } => fault.to_string(),
            other => other.to_string(),
        };
        let damage = ObjectDamage::Frame { fault: told, offset: Some(at), lsn: lsn.map(|lsn| lsn.0) };
        Err(Error::Damaged { key: object.key.to_string(), damage, offset: Some(at), lsn })
    }
}

/// An error if `len` bytes with this checksum are not those of `object`.
pub(crate) fn check_read(object: &ArchivedSegment, len: u64, checksum: u32) -> Result<()> {
    let (expected, found) = (object.checksum, checksum);
    let length = ObjectDamage::Length { expected: object.len_bytes, found: len };
    match (len == object.len_bytes, expected == found) {
        (false, _) => Err(Error::damaged(&object.key, length)),
        (_, false) => Err(Error::damaged(&object.key, ObjectDamage::Checksum { expected, found })),
        _ => Ok(()),
    }
}

/// What is read of an object: its check, with all of its bytes. `take` gets each piece as well.
pub(crate) async fn read_checked(
    archive: &crate::Archive,
    object: &ArchivedSegment,
    before: Option<&SegmentCheck>,
    mut take: impl FnMut(&[u8], u64) -> Result<()>,
) -> Result<Option<SegmentCheck>> {
    let mut check = ObjectCheck::new(object, before);
    let read = archive.store.read(&object.key, |chunk| {
        take(chunk, object.part.unwrap_or(0) + check.len)?;
        check.push(chunk);
        Ok(())
    });
    match read.await {
        Err(Error::Store { source, .. }) if matches!(*source, object_store::Error::NotFound { .. }) => {
            Err(Error::damaged(&object.key, ObjectDamage::Missing))
        }
        Err(error) => Err(error),
        Ok(_) => check.finish(),
    }
}

/// The number after the last record that a segment of the log that is damaged is known to have.
pub(crate) fn known_before(error: &Error) -> Option<Lsn> {
    match error {
        Error::Log(mapwal::Error::Corrupt(corruption)) => corruption.lsn,
        _ => None,
    }
}
