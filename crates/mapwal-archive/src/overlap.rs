//! Parts that have bytes of a segment which other objects have as well: those agree, or the epoch has the objects of two logs.

use mapwal::Lsn;

use crate::archive::Archive;
use crate::chain::longest;
use crate::conflict::Claims;
use crate::error::{Error, ObjectDamage, Result};
use crate::frames::read_checked;
use crate::history::Epoch;
use crate::object::ArchivedSegment;

/// Objects of one segment.
#[derive(Debug)]
pub(crate) struct Overlap<'a> {
    /// What a restore takes: the sealed segment, or parts in a row from its beginning.
    pub(crate) taken: Vec<ArchivedSegment>,
    /// The parts that it leaves out.
    pub(crate) others: Vec<&'a ArchivedSegment>,
}

/// What parts that are left out have in the place of the objects that are taken.
#[derive(Debug, Default)]
pub(crate) struct Compared<'a> {
    /// The same bytes.
    pub(crate) same: Vec<&'a ArchivedSegment>,
    /// Other bytes.
    pub(crate) other: Vec<&'a ArchivedSegment>,
    /// An object that is taken, and is damaged: nothing was compared with it then.
    pub(crate) damaged: Option<(String, ObjectDamage)>,
}

impl Epoch {
    /// The segments of which there are parts that a restore leaves out.
    pub(crate) fn overlaps(&self) -> Vec<Overlap<'_>> {
        let all = self.parts.chunk_by(|a, b| a.number == b.number).map(|parts| {
            let sealed = self.segments.iter().find(|segment| segment.number == parts[0].number);
            let taken = sealed.map_or_else(|| in_a_row(parts), |sealed| vec![sealed.clone()]);
            let is_left = |part: &&ArchivedSegment| taken.iter().all(|object| object.key != part.key);
            let others = parts.iter().filter(is_left).collect();
            Overlap { taken, others }
        });
        all.filter(|overlap| !overlap.taken.is_empty() && !overlap.others.is_empty()).collect()
    }
}

/// Those of `parts`, all of one segment, that a restore takes.
pub(crate) fn in_a_row(parts: &[ArchivedSegment]) -> Vec<ArchivedSegment> {
    let first = parts.iter().find(|part| part.part == Some(0)).map(|part| part.first_lsn);
    first.map_or_else(Vec::new, |first| longest(&parts.iter().collect::<Vec<_>>(), first))
}

impl<'a> Overlap<'a> {
    /// All of its objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &ArchivedSegment> {
        self.taken.iter().chain(self.others.iter().copied())
    }

    /// Whether the segment is sealed: parts of it are of no use any more.
    pub(crate) fn is_sealed(&self) -> bool {
        self.taken[0].part.is_none()
    }

    /// The number of the segment.
    pub(crate) fn number(&self) -> u64 {
        self.taken[0].number
    }

    /// [`Error::Conflict`] if a part that begins before record `limit` is left out, and is not what the objects that are taken have in its
    /// place. What is damaged is told by whatever reads it, and is no conflict.
    pub(crate) async fn check(&self, archive: &Archive, limit: Lsn) -> Result<()> {
        let Compared { other, .. } = self.compare(archive, limit).await?;
        other.first().map_or(Ok(()), |other| Err(self.conflict(other)))
    }

    /// Compares the parts that are left out, and begin before record `limit`, with the objects that are taken. The checksum in its key says
    /// what a part was uploaded with, so it is not read.
    pub(crate) async fn compare(&self, archive: &Archive, limit: Lsn) -> Result<Compared<'a>> {
        let end = self.taken.last().map_or(0, ArchivedSegment::end);
        let (mut found, mut compared) = (Compared::default(), Vec::new());
        for &other in self.others.iter().filter(|other| other.first_lsn < limit) {
            if other.end() <= end {
                compared.push((other, crc32fast::Hasher::new()));
            } else if self.is_sealed() {
                // No part is longer than its segment.
                found.other.push(other);
            }
            // A part that begins after a gap, which is told as one.
        }
        let taken = if compared.is_empty() { &[][..] } else { &self.taken };
        for object in taken {
            let read = read_checked(archive, object, None, |chunk, at| {
                for (other, hasher) in &mut compared {
                    let begin = other.part.unwrap_or(0);
                    hasher.update(shared(chunk, at, (begin, other.end())));
                }
                Ok(())
            });
            match read.await {
                Err(Error::Damaged { key, damage, .. }) => {
                    found.damaged = Some((key, damage));
                    return Ok(found);
                }
                read => drop(read?),
            }
        }
        for (other, hasher) in compared {
            let is_same = hasher.finalize() == other.checksum;
            if is_same { &mut found.same } else { &mut found.other }.push(other);
        }
        Ok(found)
    }

    /// Names `other`, and the object that is taken in its place.
    pub(crate) fn conflict(&self, other: &ArchivedSegment) -> Error {
        let is_before = |object: &&ArchivedSegment| object.part.unwrap_or(0) <= other.part.unwrap_or(0);
        let object = self.taken.iter().rev().find(is_before).unwrap_or(&self.taken[0]);
        Error::Conflict {
            key: object.key.to_string(),
            other: other.key.to_string(),
            lsn: other.first_lsn,
            claims: Claims::default(),
        }
    }
}

/// What `chunk`, which begins at byte `at` of a segment, has of its bytes from `from` to `to`.
fn shared(chunk: &[u8], at: u64, (from, to): (u64, u64)) -> &[u8] {
    let place = |offset: u64| usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX).min(chunk.len());
    &chunk[place(from)..place(to).max(place(from))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_has_what_it_shares_with_a_part_and_no_more() {
        let chunk = [10, 11, 12, 13];
        for (range, expected) in [
            ((0, 10), &[][..]),
            ((0, 11), &[10]),
            ((11, 13), &[11, 12]),
            ((13, 20), &[13]),
            ((14, 20), &[]),
            ((0, 99), &chunk),
        ] {
            assert_eq!(shared(&chunk, 10, range), expected, "{range:?}");
        }
    }
}
