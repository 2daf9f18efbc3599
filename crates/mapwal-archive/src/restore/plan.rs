//! Which segments a restore needs.

use mapwal::Lsn;

use super::RestoreTo;
use crate::error::{Error, Result};
use crate::history::{Chain, Piece};

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
    /// `None` if there is nothing.
    pub(crate) fn new(chain: Chain, to: RestoreTo) -> Result<Option<Self>> {
        let Chain { epoch, mut pieces, lsns, gap } = chain;
        let limit = match (to, gap) {
            (RestoreTo::Lsn(lsn), _) if lsns.contains(&lsn) => lsn.next(),
            (RestoreTo::Latest, None) => lsns.end,
            (RestoreTo::Lsn(lsn), None) => return Err(Error::NotArchived { lsn, kept: lsns }),
            (RestoreTo::Lsn(lsn), Some(_)) if lsn < lsns.start => return Err(Error::NotArchived { lsn, kept: lsns }),
            (_, Some(missing)) => return Err(Error::Gap { epoch, missing }),
        };
        // What begins after the last record has metadata at most that was not there yet.
        let is_cut = to != RestoreTo::Latest;
        if is_cut {
            pieces.retain(|piece| piece.first_lsn < limit);
        }
        Ok((!pieces.is_empty()).then_some(Self { pieces, first_lsn: lsns.start, limit, is_cut }))
    }
}
