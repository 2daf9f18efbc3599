//! Whether what is missing at the cut, or bad, had been durable.

use super::recover::{Cut, Recovery};
use super::walked::Walked;
use crate::error::{Corruption, Damage, Error, Evidence, Result};
use crate::format::frame::FrameKind;
use crate::format::link::Seal;
use crate::format::position::Position;
use crate::format::walk::Place;
use crate::format::{name, segment_header};
use crate::lsn::Lsn;
use crate::segment::chain::{Chain, ChainLink};
use crate::segment::evidence;

impl Recovery<'_> {
    /// What is wrong at the cut, if that is no torn end.
    fn damage_at(&self, chain: &Chain, cut: &Cut) -> Corruption {
        let Walked { place, damage, last_kind, sealed_into, .. } = &cut.walked;
        let number = chain.links[cut.index].info.number;
        let found = |number, offset, damage| {
            let path = self.storage.path().join(name::segment(number));
            Corruption { path, offset, lsn: Some(place.next_lsn), damage, evidence: None }
        };
        let at_cut = found(number, place.offset as u64, damage.clone());
        if cut.index + 1 < chain.links.len() {
            return at_cut;
        }
        // The segment is whole, and what it leads to is not.
        if let Some(named) = sealed_into.filter(|_| *last_kind == FrameKind::Seal) {
            return match chain.beyond.iter().find(|segment| segment.number == named) {
                Some(next) => found(named, segment_header::LEN as u64, next.damage()),
                None => found(named, 0, Damage::MissingSegment { referrer: number }),
            };
        }
        self.lost_end(chain).filter(|_| *damage == Damage::MissingFrame).unwrap_or(at_cut)
    }

    /// An error if anything after the cut, or the control page, proves that what is missing there was durable. What ends inside an
    /// incomplete batch proves nothing: an interrupted truncation through the batch leaves that too.
    pub(super) fn judge(&mut self, chain: &Chain, cut: &Cut) -> Result<()> {
        let ChainLink { info, .. } = &chain.links[cut.index];
        let Place { offset, next_lsn, .. } = cut.walked.place;
        let mut suspects = vec![(info.number, info.size, info.layout, offset)];
        suspects.extend(
            chain.links[cut.index + 1..]
                .iter()
                .map(|l| (l.info.number, l.info.size, l.info.layout, segment_header::LEN)),
        );
        suspects.extend(chain.beyond.iter().map(|s| (s.number, s.size, s.layout, segment_header::LEN)));
        let suspect = Position::new(info.number, cut.walked.good_end as u64);
        self.hear_all(&suspects, suspect)?;
        if let Some(evidence) = self.proof(suspect) {
            return Err(Corruption { evidence: Some(evidence), ..self.damage_at(chain, cut) }.into());
        }
        let active = self.known.map(|known| known.active);
        let is_told = |named: u64| Seal::has_successor(info.layout.version, self.is_archive, named, active);
        let named = cut.walked.sealed_into.filter(|&named| cut.index + 1 == chain.links.len() && is_told(named));
        let is_torn = self.torn_bytes > 0 || cut.walked.damage != Damage::MissingFrame;
        match named.filter(|named| !chain.beyond.iter().any(|s| s.number == *named)) {
            None => self.check_page(is_torn, next_lsn),
            Some(missing) => {
                let path = self.storage.path().join(name::segment(missing));
                Err(Error::corrupt(&path, 0, Some(next_lsn), Damage::MissingSegment { referrer: info.number }))
            }
        }
    }

    /// What shows that the log had been durable beyond `suspect`.
    fn proof(&self, suspect: Position) -> Option<Evidence> {
        evidence::proof(&self.claim, self.known.and_then(|known| known.durable), suspect)
    }

    /// An error if something is to be dropped from record `next` on and the control page is damaged, which could have said that it was durable.
    pub(super) fn check_page(&self, is_torn: bool, next: Lsn) -> Result<()> {
        match self.page_fault.as_ref().filter(|_| is_torn) {
            Some(fault) => Err(Corruption { lsn: Some(next), ..fault.clone() }.into()),
            None => Ok(()),
        }
    }

    /// What is missing if the control page says that the log was durable up to a segment that is not in `chain`.
    pub(super) fn lost_end(&self, chain: &Chain) -> Option<Corruption> {
        let stated = self.known.and_then(|known| known.durable)?;
        let lost = chain.lost_end(self.storage.path(), stated.position)?;
        Some(Corruption { evidence: Some(stated.evidence()), ..lost })
    }
}
