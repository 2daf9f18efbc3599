//! Which segments a restore needs.

use mapwal::Lsn;

use super::RestoreTo;
use crate::archive::Archive;
use crate::backoff::patiently;
use crate::chain::{Chain, Piece};
use crate::error::{Error, Result};
use crate::history::{Epoch, History};
use crate::object::ArchivedSegment;
use crate::overlap::Overlap;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// In the log's order.
    pub(crate) pieces: Vec<Piece>,
    pub(crate) first_lsn: Lsn,
    /// The number after the last record that is wanted; the last segment ends there at the latest.
    pub(crate) limit: Lsn,
    /// Whether the log ends right after that record, or with all that the last segment has.
    pub(crate) is_cut: bool,
}

impl Plan {
    pub(crate) fn of(archive: &Archive, history: &History, epoch: u64, to: RestoreTo) -> Result<Self> {
        let plan = Self::new(history.reach(epoch)?, to).map_err(|error| match error {
            Error::NotArchived { lsn, kept, .. } => {
                Error::NotArchived { lsn, epoch, kept, other: history.other_with(lsn, epoch) }
            }
            error => error,
        });
        plan?.ok_or_else(|| archive.empty())
    }

    /// As [`Self::of`], and compared with what it leaves out.
    pub(crate) async fn checked(archive: &Archive, history: &History, epoch: u64, to: RestoreTo) -> Result<Self> {
        let plan = Self::of(archive, history, epoch, to)?;
        plan.check_overlaps(archive, history, epoch).await?;
        Ok(plan)
    }

    /// [`Error::Conflict`] if parts that are not needed have other bytes than the objects that are, of a segment of which records are wanted.
    async fn check_overlaps(&self, archive: &Archive, history: &History, epoch: u64) -> Result<()> {
        for (at, limit) in history.line(epoch) {
            let own = history.epochs.get(&at);
            let is_needed = |overlap: &Overlap<'_>| {
                let is_it = |piece: &Piece| piece.number == overlap.number() && piece.objects[0].epoch == at;
                self.pieces.iter().any(is_it)
            };
            for overlap in own.into_iter().flat_map(Epoch::overlaps).filter(is_needed) {
                patiently(|| overlap.check(archive, limit.min(self.limit))).await?;
            }
        }
        Ok(())
    }

    /// The same records, in what the archive has by now: a segment may have taken the place of parts. `None` if nothing has
    /// changed.
    pub(crate) fn renewed(
        &self,
        archive: &Archive,
        history: &History,
        epoch: u64,
        to: RestoreTo,
    ) -> Result<Option<Self>> {
        let mut now = Self::of(archive, history, epoch, to)?;
        let last = self.pieces.last().map_or(0, |piece| piece.number);
        // No more than that: the end of an archive that grows could be followed for ever.
        now.pieces.retain(|piece| piece.number <= last);
        now.limit = now.limit.min(now.pieces.last().ok_or_else(|| archive.empty())?.next_lsn);
        Ok((!now.keys().eq(self.keys())).then_some(now))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys().any(|it| it.as_ref() == key)
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::len_bytes).sum()
    }

    fn keys(&self) -> impl Iterator<Item = &object_store::path::Path> {
        self.pieces.iter().flat_map(|piece| &piece.objects).map(|object: &ArchivedSegment| &object.key)
    }

    /// `None` if there is nothing.
    fn new(chain: Chain, to: RestoreTo) -> Result<Option<Self>> {
        let fault = chain.fault();
        let Chain { epoch, mut pieces, lsns, .. } = chain;
        if pieces.is_empty() && fault.is_none() {
            return Ok(None);
        }
        let limit = match (to, fault) {
            (RestoreTo::Lsn(lsn), _) if lsns.contains(&lsn) => lsn.next(),
            (RestoreTo::Latest, None) => lsns.end,
            (RestoreTo::Lsn(lsn), None) => return Err(Error::NotArchived { lsn, epoch, kept: lsns, other: None }),
            (RestoreTo::Lsn(lsn), Some(_)) if lsn < lsns.start => {
                return Err(Error::NotArchived { lsn, epoch, kept: lsns, other: None });
            }
            (_, Some(fault)) => return Err(fault),
        };
        // What begins after the last record has metadata at most that was not there yet.
        let is_cut = to != RestoreTo::Latest;
        if is_cut {
            pieces.retain(|piece| piece.first_lsn < limit);
        }
        Ok((!pieces.is_empty()).then_some(Self { pieces, first_lsn: lsns.start, limit, is_cut }))
    }
}
