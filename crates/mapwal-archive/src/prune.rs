//! Dropping the oldest records of an archive.

use mapwal::Lsn;

use crate::archive::Archive;
use crate::backoff::patiently;
use crate::error::Result;
use crate::history::History;
use crate::object::{ArchivedSegment, epoch_key, pruned_key, session_key};

/// What a prune has deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneReport {
    /// Segments.
    pub segments: u64,
    /// Parts, which a segment supersedes or which hold none of the records that are kept.
    pub parts: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Epochs of which nothing is left.
    pub epochs: u64,
    /// The first record that is kept in the newest epoch.
    pub first_lsn: Lsn,
}

pub(crate) async fn prune(archive: &Archive, before: Lsn) -> Result<PruneReport> {
    let history = archive.history().await?;
    let Some(newest) = history.newest() else { return Err(archive.empty()) };
    let chain = history.chain(newest)?;
    // The newest segment stays: an archiver goes on after it, and without it a restore would find nothing.
    let last = chain.pieces.last().map_or(chain.lsns.start, |piece| piece.first_lsn);
    let before = before.min(last);
    let mut report = PruneReport { first_lsn: chain.lsns.start, ..PruneReport::default() };
    let doomed = doomed(&history, before, newest);
    if doomed.is_empty() {
        return Ok(report);
    }
    // Said before it is done, so that a restore can tell what is pruned from what is missing.
    if before > history.pruned {
        create_mark(archive, before).await?;
    }
    for object in doomed {
        patiently(|| async { archive.store.delete(&object.key).await }).await?;
        let counter = if object.part.is_some() { &mut report.parts } else { &mut report.segments };
        *counter += 1;
        report.bytes += object.len_bytes;
    }
    report.epochs = forget_empty_epochs(archive, newest).await?;
    let history = archive.history().await?;
    report.first_lsn = history.chain(newest)?.lsns.start;
    forget_marks(archive, history.pruned).await?;
    Ok(report)
}

/// What can go, the oldest records first.
fn doomed(history: &History, before: Lsn, newest: u64) -> Vec<&ArchivedSegment> {
    let mut doomed = Vec::new();
    for (&number, epoch) in &history.epochs {
        let last = epoch.segments.last().map(|segment| segment.number);
        let kept = if number == newest { last } else { None };
        let is_old = |segment: &&ArchivedSegment| segment.next_lsn <= before && Some(segment.number) != kept;
        doomed.extend(epoch.segments.iter().filter(is_old));
        let next_of = |number| epoch.parts.iter().filter(|part| part.number == number).map(|part| part.next_lsn).max();
        let is_useless = |part: &&ArchivedSegment| {
            let is_superseded = last.is_some_and(|last| part.number <= last);
            is_superseded || number != newest && next_of(part.number).is_some_and(|next| next <= before)
        };
        doomed.extend(epoch.parts.iter().filter(is_useless));
    }
    doomed.sort_by_key(|object| (object.next_lsn, object.first_lsn, object.number));
    doomed
}

async fn create_mark(archive: &Archive, before: Lsn) -> Result<()> {
    let key = pruned_key(&archive.prefix, before);
    patiently(|| async { archive.store.create(&key, bytes::Bytes::from_static(b"pruned\n")).await }).await?;
    Ok(())
}

/// Marks that a later one covers.
async fn forget_marks(archive: &Archive, pruned: Lsn) -> Result<()> {
    let listed = archive.store.list(&archive.prefix.clone().join("pruned")).await?;
    let newest = pruned_key(&archive.prefix, pruned);
    for mark in listed.into_iter().filter(|mark| mark.location < newest) {
        patiently(|| async { archive.store.delete(&mark.location).await }).await?;
    }
    Ok(())
}

/// Deletes the notes of epochs that have no segment, and that end before what is kept.
async fn forget_empty_epochs(archive: &Archive, newest: u64) -> Result<u64> {
    let history = archive.history().await?;
    let mut forgotten = 0;
    for (&number, epoch) in history.epochs.range(..newest) {
        let begins = epoch.note.as_ref().map_or(0, |note| note.first_lsn);
        if !epoch.segments.is_empty() || !epoch.parts.is_empty() || begins > history.pruned.0 {
            continue;
        }
        let is_needed = history.epochs.values().any(|other| {
            let note = other.note.as_ref().filter(|note| note.first_lsn > history.pruned.0);
            note.and_then(|note| note.parent).is_some_and(|parent| parent.epoch == number)
        });
        if is_needed {
            continue;
        }
        for key in [session_key(&archive.prefix, number), epoch_key(&archive.prefix, number)] {
            patiently(|| async { archive.store.delete(&key).await }).await?;
        }
        forgotten += 1;
    }
    Ok(forgotten)
}
