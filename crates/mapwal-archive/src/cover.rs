//! Whether a history has all records of another one. Records are compared, and not bytes: what a log notes beside them, such as a trim, makes no
//! other history.

use std::collections::HashSet;
use std::ops::Range;

use mapwal::Lsn;
use mapwal::inspect::{RecordDigest, SegmentCheck};

use crate::archive::Archive;
use crate::backoff::patiently;
use crate::chain::{Chain, Piece};
use crate::error::{Error, Result};
use crate::frames::read_checked;
use crate::history::History;
use crate::overlap::Overlap;

/// An older epoch that leads to all records that `epoch` leads to, and to more after those.
pub(crate) async fn longer_than(archive: &Archive, history: &History, epoch: u64) -> Result<Option<u64>> {
    let chain = history.reach(epoch)?;
    if chain.fault().is_some() {
        // What comes after that may be had nowhere else.
        return Ok(None);
    }
    for (&other, _) in history.epochs.range(..epoch).rev() {
        let Ok(longer) = history.reach(other) else { continue };
        if longer.lsns.end > chain.lsns.end && covers(archive, &longer, &chain).await? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// Whether the history of `epoch` has the records of all objects of that epoch: it has no gap, and what it leaves out says the same as what
/// it takes.
pub(crate) async fn is_all_in_reach(archive: &Archive, history: &History, epoch: u64) -> Result<bool> {
    let (own, _) = history.noted(epoch)?;
    let Ok(chain) = history.reach(epoch) else { return Ok(false) };
    let overlaps = own.overlaps();
    let taken = chain.pieces.iter().flat_map(|piece| &piece.objects);
    let known: HashSet<_> = taken.chain(overlaps.iter().flat_map(Overlap::objects)).map(|object| &object.key).collect();
    let pruned = history.pruned.of(epoch);
    if chain.fault().is_some() || own.objects().any(|it| it.next_lsn > pruned && !known.contains(&it.key)) {
        return Ok(false);
    }
    for overlap in &overlaps {
        let found = patiently(|| overlap.compare(archive, Lsn(u64::MAX))).await?;
        if found.damaged.is_some() || found.same.len() < overlap.others.len() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `longer` leads to all records that `chain` leads to. What is damaged tells nothing.
pub(crate) async fn covers(archive: &Archive, longer: &Chain, chain: &Chain) -> Result<bool> {
    let is_within = longer.lsns.start <= chain.lsns.start && longer.lsns.end >= chain.lsns.end;
    if chain.lsns.is_empty() || !is_within {
        return Ok(false);
    }
    // What two histories do not share comes last.
    let parts: Vec<_> = spans(chain).collect();
    for (piece, lsns) in parts.into_iter().rev() {
        let is_same = |(other, of_it): &(&Piece, Range<Lsn>)| is_shared(piece, other) && *of_it == lsns;
        if spans(longer).any(|span| is_same(&span)) {
            continue;
        }
        let Some(digest) = digest(archive, chain, &lsns).await? else { return Ok(false) };
        if Some(digest) != self::digest(archive, longer, &lsns).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_shared(piece: &Piece, other: &Piece) -> bool {
    piece.objects.iter().map(|object| &object.key).eq(other.objects.iter().map(|object| &object.key))
}

/// The pieces of `chain`, each with the records that count of it.
fn spans(chain: &Chain) -> impl Iterator<Item = (&Piece, Range<Lsn>)> {
    let ends = chain.pieces.iter().skip(1).map(|next| next.first_lsn).chain([chain.lsns.end]);
    let spans = chain.pieces.iter().zip(ends).map(|(piece, end)| (piece, piece.first_lsn..piece.next_lsn.min(end)));
    spans.filter(|(_, lsns)| !lsns.is_empty())
}

/// That of the records `lsns`; `None` if an object that has some is damaged, which a restore or a verification tells.
async fn digest(archive: &Archive, chain: &Chain, lsns: &Range<Lsn>) -> Result<Option<RecordDigest>> {
    let mut all = RecordDigest::default();
    for (piece, of_it) in spans(chain) {
        let wanted = of_it.start.max(lsns.start)..of_it.end.min(lsns.end);
        if wanted.is_empty() {
            continue;
        }
        match patiently(|| digest_of(archive, piece, wanted.clone())).await {
            Err(Error::Damaged { .. }) => return Ok(None),
            digest => all = all + digest?,
        }
    }
    Ok(Some(all))
}

async fn digest_of(archive: &Archive, piece: &Piece, lsns: Range<Lsn>) -> Result<RecordDigest> {
    let mut check = SegmentCheck::of_records(lsns);
    for object in &piece.objects {
        let read = read_checked(archive, object, Some(&check), |_, _| Ok(())).await?;
        check = read.expect("frames are checked from the first one on");
    }
    Ok(check.digest())
}
