//! Dropping the oldest records of an archive.

mod refusal;

use std::ops::Range;

use mapwal::Lsn;
use object_store::ObjectMeta;
use object_store::path::Path;

use crate::archive::Archive;
use crate::backoff::patiently;
use crate::conflict::judge_faults;
use crate::error::{ObjectDamage, Result};
use crate::faults::listed_faults;
use crate::history::History;
use crate::marks::{Mark, Marks};
use crate::object::{ArchivedSegment, Object, epoch_key, pruned_key, session_key};
use crate::overlap::{Compared, Overlap};
use crate::verify::EpochFault;
use refusal::Asked;

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
    /// Of an epoch that was forgotten, the records that no other one leads to, by their numbers: those are lost for good.
    pub lost: Vec<Range<Lsn>>,
    /// The newest epoch that can be followed: no prune goes beyond its end.
    pub epoch: u64,
    /// The first record that is kept in that epoch.
    pub first_lsn: Lsn,
    /// What keeps epochs from being restored to their ends. One that cannot be followed is left as it is, with those that continue it.
    pub faults: Vec<EpochFault>,
}

/// What a prune does where records are missing before the first one that is to be kept, or an object that has them is shown by the list to be damaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PruneGaps {
    /// It deletes nothing, and says which are missing: what is before them may be all that can be restored.
    #[default]
    Refuse,
    /// It deletes what is before them as well. A restore then begins after them.
    GiveUp,
}

pub(crate) async fn prune(archive: &Archive, before: Lsn, gaps: PruneGaps) -> Result<PruneReport> {
    let history = archive.history().await?;
    let (newest, last) = newest_segment(archive, &history)?;
    let asked = Asked { history: &history, newest, last };
    if let Err(refusal) = asked.check(before, gaps) {
        return Err(refusal.explained(archive, &history).await);
    }
    // The newest segment stays: an archiver goes on after it, and without it a restore would find nothing.
    let before = before.min(last);
    let first_lsn = history.reach(newest)?.lsns.start;
    let mut report = PruneReport { epoch: newest, first_lsn, ..PruneReport::default() };
    let (superseded, conflicts) = superseded(archive, &history).await?;
    // That takes nothing away, and may make room for the mark.
    for part in &superseded {
        delete(archive, part, &mut report).await?;
    }
    let mut doomed = doomed(&asked, before, gaps);
    doomed.retain(|object| superseded.iter().all(|part| part.key != object.key));
    // Notes that a prune has left which was killed.
    let is_any_spent = history.epochs.keys().any(|&epoch| history.is_spent(epoch));
    if doomed.is_empty() && !is_any_spent && gaps == PruneGaps::Refuse {
        report.faults = faults_after(archive, &history, conflicts).await?;
        return Ok(report);
    }
    // Said before it is done, so that a restore can tell what is pruned, or given up, from what is missing.
    let mark = mark_of(&history, newest, before);
    let is_new = before > history.pruned.of(mark.epoch);
    let mut marked = if is_new { create_mark(archive, mark).await } else { Ok(()) };
    for object in doomed {
        marked = match marked {
            // There is room for it once something is gone.
            Err(error) if error.is_full() => {
                delete(archive, object, &mut report).await?;
                create_mark(archive, mark).await
            }
            marked => {
                marked?;
                delete(archive, object, &mut report).await?;
                Ok(())
            }
        };
    }
    marked?;
    report.epochs = forget_empty_epochs(archive, newest).await?;
    let history = archive.history().await?;
    if !history.epochs.contains_key(&newest) {
        // Another prune has found a later one meanwhile, or it was forgotten.
        report.epoch = newest_segment(archive, &history)?.0;
    }
    report.first_lsn = history.reach(report.epoch)?.lsns.start;
    report.faults = faults_after(archive, &history, conflicts).await?;
    forget_marks(archive, &history.pruned).await?;
    Ok(report)
}

/// What is wrong with the archive, and what was found to be by reading: each thing once.
async fn faults_after(archive: &Archive, history: &History, found: Vec<EpochFault>) -> Result<Vec<EpochFault>> {
    let is_missing = |fault: &EpochFault| matches!(fault, EpochFault::Damaged { damage: ObjectDamage::Missing, .. });
    if found.iter().any(is_missing) {
        // Another prune may have deleted it: then it is in no list any more, and if something lacks it, that is a gap.
        let history = archive.history().await?;
        let is_there = |fault: &EpochFault| !matches!(fault, EpochFault::Damaged { key, .. } if !history.has(key));
        return all_faults(archive, &history, found.into_iter().filter(is_there).collect()).await;
    }
    all_faults(archive, history, found).await
}

async fn all_faults(archive: &Archive, history: &History, found: Vec<EpochFault>) -> Result<Vec<EpochFault>> {
    let mut faults = listed_faults(history);
    faults.extend(found);
    judge_faults(archive, history, &mut faults).await?;
    Ok(faults)
}

/// What a prune would accept where it refuses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneLimits {
    /// The most that keeps what can be restored before the records that are missing or damaged. `None` if nothing is before them.
    pub keeps: Option<Lsn>,
    /// The least that gives those up, with [`PruneGaps::GiveUp`]. `None` if they cannot be given up, since they are the last that there are.
    pub gives_up: Option<Lsn>,
}

pub(crate) async fn prune_limits(archive: &Archive, before: Lsn) -> Result<PruneLimits> {
    let history = archive.history().await?;
    let (newest, last) = newest_segment(archive, &history)?;
    Ok(Asked { history: &history, newest, last }.limits(before))
}

/// The newest epoch whose note can be used and that has a record, and the first record of its last segment.
fn newest_segment(archive: &Archive, history: &History) -> Result<(u64, Lsn)> {
    let mut failed = None;
    let mut empty = None;
    for (&number, epoch) in history.epochs.iter().rev() {
        match history.reach(number) {
            Ok(chain) => {
                let parts = epoch.later_parts().map(|part| part.number).min();
                let parts =
                    epoch.parts.iter().filter(|part| Some(part.number) == parts).map(|part| part.first_lsn).min();
                let own = parts.max(epoch.segments.last().map(|segment| segment.first_lsn));
                if let Some(first) = own.or_else(|| chain.pieces.last().map(|piece| piece.first_lsn)) {
                    return Ok((number, first));
                }
                empty = empty.or(Some((number, chain.lsns.start)));
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    empty.ok_or_else(|| failed.unwrap_or_else(|| archive.empty()))
}

/// What can go because it is old, the oldest records first. An epoch that cannot be followed is left alone, and so is one that continues
/// it: that may need what is left of it before its own records.
fn doomed<'a>(asked: &Asked<'a>, before: Lsn, gaps: PruneGaps) -> Vec<&'a ArchivedSegment> {
    let (history, newest, mut doomed) = (asked.history, asked.newest, Vec::new());
    let can_go = |number| history.line(number).into_keys().all(|at| asked.is_followed(at, before, gaps));
    for (&number, epoch) in history.epochs.iter().filter(|&(&number, _)| can_go(number)) {
        let last = epoch.segments.last().map(|segment| segment.number);
        let end = epoch.segments.last().map_or(Lsn(0), |segment| segment.next_lsn);
        // Before a gap that is given up it would lead nowhere.
        let is_given_up =
            gaps == PruneGaps::GiveUp && epoch.later_parts().all(|part| part.first_lsn > end) && before > end;
        let kept = if number == newest && !is_given_up { last } else { None };
        let is_old = |segment: &&ArchivedSegment| segment.next_lsn <= before && Some(segment.number) != kept;
        doomed.extend(epoch.segments.iter().filter(is_old));
        let next_of = |number| {
            let of_it = epoch.segments.iter().chain(&epoch.parts).filter(|object| object.number == number);
            of_it.map(|object| object.next_lsn).max()
        };
        let is_useless = |part: &&ArchivedSegment| {
            let may_go = number != newest || last.is_some_and(|last| part.number <= last);
            may_go && next_of(part.number).is_some_and(|next| next <= before)
        };
        doomed.extend(epoch.parts.iter().filter(is_useless));
        doomed.extend(epoch.strays.iter().map(|stray| &stray.object).filter(|object| object.next_lsn <= before));
    }
    doomed.sort_by_key(|object| (object.next_lsn, object.first_lsn, object.number));
    doomed
}

/// The parts that have what a sealed segment of their epoch has as well; and what is wrong where they do not. Those, and parts of a
/// segment that is not there, may be all that there is of the records of a log.
async fn superseded<'a>(
    archive: &Archive,
    history: &'a History,
) -> Result<(Vec<&'a ArchivedSegment>, Vec<EpochFault>)> {
    let (mut superseded, mut conflicts) = (Vec::new(), Vec::new());
    for (&epoch, own) in history.epochs.iter().filter(|&(&number, _)| history.chain(number).is_ok()) {
        for overlap in own.overlaps().into_iter().filter(Overlap::is_sealed) {
            let Compared { same, other, damaged } = patiently(|| overlap.compare(archive, Lsn(u64::MAX))).await?;
            superseded.extend(same);
            conflicts.extend(damaged.map(|(key, damage)| EpochFault::Damaged { epoch, key, damage }));
            conflicts.extend(other.first().map(|other| EpochFault::of(epoch, overlap.conflict(other))));
        }
    }
    Ok((superseded, conflicts))
}

pub(crate) async fn delete(archive: &Archive, object: &ArchivedSegment, report: &mut PruneReport) -> Result<()> {
    patiently(|| async { archive.store.delete(&object.key).await }).await?;
    let counter = if object.part.is_some() { &mut report.parts } else { &mut report.segments };
    *counter += 1;
    report.bytes += object.len_bytes;
    Ok(())
}

/// That records before `before` are pruned of all epochs that have some: one that is only about to begin gets what its log has.
fn mark_of(history: &History, newest: u64, before: Lsn) -> Mark {
    let last = history.objects().map(|object| object.epoch).max();
    Mark { before, epoch: last.map_or(newest, |last| last.max(newest)) }
}

/// How often a mark is written again that vanishes, though no list has one that says as much.
const MARK_TRIES: u32 = 8;

/// On return records before the mark are said to be pruned: by it, or by one that says more. A prune that leaves such a one deletes this one as
/// soon as it sees both.
async fn create_mark(archive: &Archive, mark: Mark) -> Result<()> {
    let key = pruned_key(&archive.prefix, mark);
    let create = || archive.store.create(&key, bytes::Bytes::from_static(b"pruned\n"));
    for _ in 0..MARK_TRIES {
        match patiently(create).await {
            Err(error) if error.is_not_found() => {
                let marks = listed_marks(archive).await?;
                if marks.iter().any(|(_, other)| other.covers(mark)) {
                    return Ok(());
                }
                // What has deleted it has seen another one: without that the store is not what it was.
                if marks.is_empty() {
                    return Err(error);
                }
            }
            created => return created.map(drop),
        }
    }
    create().await.map(drop)
}

async fn listed_marks(archive: &Archive) -> Result<Vec<(Path, Mark)>> {
    let listed = patiently(|| async { archive.store.list(&archive.prefix.clone().join("pruned")).await }).await?;
    let mark_in = |meta: ObjectMeta| match Object::of(&archive.prefix, &meta) {
        Object::Pruned(mark) => Some((meta.location, mark)),
        _ => None,
    };
    Ok(listed.into_iter().filter_map(mark_in).collect())
}

/// Marks that a later one covers.
async fn forget_marks(archive: &Archive, marks: &Marks) -> Result<()> {
    for (key, _) in listed_marks(archive).await?.into_iter().filter(|&(_, mark)| marks.supersede(mark)) {
        patiently(|| archive.store.delete(&key)).await?;
    }
    Ok(())
}

/// Writes a note again that was deleted. Where that vanishes as well, another prune is about to see whether the epoch is left.
pub(crate) async fn put_back(archive: &Archive, key: &Path, note: Vec<u8>) -> Result<()> {
    let note = bytes::Bytes::from(note);
    match patiently(|| archive.store.create(key, note.clone())).await {
        Err(error) if error.is_not_found() => Ok(()),
        created => created.map(drop),
    }
}

/// Deletes the notes of epochs of which nothing else is left, and that end before what is kept.
async fn forget_empty_epochs(archive: &Archive, newest: u64) -> Result<u64> {
    let history = archive.history().await?;
    let older = history.epochs.range(..newest).map(|(number, _)| *number);
    let mut sessions = Vec::new();
    for number in older.filter(|&number| history.is_spent(number)) {
        let key = session_key(&archive.prefix, number);
        let note = patiently(|| archive.store.all_of(&key)).await?;
        patiently(|| archive.store.delete(&key)).await?;
        sessions.push((number, key, note));
    }
    if sessions.is_empty() {
        return Ok(0);
    }
    // Without those notes an archiver confirms nothing more. What it has confirmed before is in this list.
    let history = archive.history().await?;
    let mut forgotten = 0;
    for (number, session, note) in sessions {
        let mut is_left = !history.is_spent(number);
        if !is_left {
            let key = epoch_key(&archive.prefix, number);
            let described = patiently(|| archive.store.all_of(&key)).await?;
            patiently(|| archive.store.delete(&key)).await?;
            // Another prune that saw an object may have put the note of the session back, or an archiver have begun anew with one that it had
            // uploaded: with that it confirms more.
            let history = archive.history().await?;
            is_left = history.epochs.get(&number).is_some_and(|epoch| epoch.all_objects().next().is_some());
            if let Some(described) = described.filter(|_| is_left) {
                put_back(archive, &key, described).await?;
            }
        }
        if !is_left {
            forgotten += 1;
        } else if let Some(note) = note {
            put_back(archive, &session, note).await?;
        }
    }
    Ok(forgotten)
}
