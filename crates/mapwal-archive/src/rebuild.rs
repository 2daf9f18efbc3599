//! What can be done about an epoch whose note is lost: the note is made again, or the epoch is forgotten.

use std::ops::Range;

use mapwal::Lsn;
use mapwal::inspect::SegmentCheck;

use crate::archive::Archive;
use crate::backoff::patiently;
use crate::conflict::Claims;
use crate::cover::{covers, is_all_in_reach, longer_than};
use crate::epoch::{EpochNote, Parent, SessionNote, unix_ms};
use crate::error::{Error, ObjectDamage, Result};
use crate::frames::read_checked;
use crate::history::{Epoch, History};
use crate::object::{ArchivedSegment, epoch_key, forgotten_key, session_key};
use crate::prune::{PruneReport, delete, put_back};
use crate::tips::parent_by_tip;

pub(crate) async fn rebuild_note(archive: &Archive, epoch: u64, begins: bool) -> Result<()> {
    let mut history = archive.history().await?;
    let damage = match history.unnoted(archive, epoch) {
        Err(noted @ Error::Noted { .. }) => {
            // One that leads nowhere is as good as lost.
            let cut_off = history.is_cut_off(epoch).then_some(ObjectDamage::Missing);
            let damage = disproven(archive, &history, epoch).await?.or(cut_off).ok_or(noted)?;
            history.set_aside(epoch, damage.clone());
            damage
        }
        unnoted => unnoted?.1,
    };
    let key = epoch_key(&archive.prefix, epoch);
    // Not lost, but a later version's.
    if matches!(damage, ObjectDamage::Version { .. }) {
        return Err(Error::damaged(&key, damage));
    }
    let note = proven(archive, &history, (epoch, &damage), begins).await?;
    check_copy(archive, &mut history, (epoch, &damage), &note).await?;
    patiently(|| archive.store.replace_note(&key, &note)).await
}

/// What is wrong with a note that could be used, but is of another log than the first object of `epoch` and the last sealed one, as far as
/// they can be read. If only one of them is of another log, that one does not belong there.
pub(crate) async fn disproven(archive: &Archive, history: &History, epoch: u64) -> Result<Option<ObjectDamage>> {
    let (_, note) = history.noted(epoch)?;
    let is_other = |read: Result<Option<u128>>| match read {
        Ok(log) => Ok(log.is_some() && log != note.log_id()),
        // That says nothing of the note.
        Err(Error::Damaged { .. } | Error::Conflict { .. } | Error::NoObject { .. }) => Ok(false),
        Err(error) => Err(error),
    };
    let first = first_object(archive, history, epoch).await.map(|(_, frames)| frames.log_id());
    if !is_other(first)? {
        return Ok(None);
    }
    if let Some(last) = history.epochs[&epoch].segments.last() {
        let begin = SegmentCheck::new();
        let read = patiently(|| read_checked(archive, last, Some(&begin), |_, _| Ok(()))).await;
        if !is_other(read.map(|frames| frames.and_then(|frames| frames.log_id())))? {
            return Ok(None);
        }
    }
    Ok(Some(ObjectDamage::OtherLog { log: note.log.clone() }))
}

/// An error if `epoch`, with this `note`, has no record that the epoch does not have whose note is the same as the one that is there.
async fn check_copy(
    archive: &Archive,
    history: &mut History,
    (epoch, damage): (u64, &ObjectDamage),
    note: &EpochNote,
) -> Result<()> {
    let &ObjectDamage::Copy { epoch: original } = damage else { return Ok(()) };
    history.set_note(epoch, note.clone());
    let (Ok(copy), Ok(chain)) = (history.reach(epoch), history.reach(original)) else { return Ok(()) };
    let is_copy = is_all_in_reach(archive, history, epoch).await? && covers(archive, &chain, &copy).await?;
    if is_copy { Err(Error::Copied { epoch, original }) } else { Ok(()) }
}

/// The note of `epoch` as its objects, and those of earlier epochs, prove it.
async fn proven(
    archive: &Archive,
    history: &History,
    (epoch, damage): (u64, &ObjectDamage),
    begins: bool,
) -> Result<EpochNote> {
    let (first, frames) = first_object(archive, history, epoch).await?;
    let log = frames.log_id().ok_or_else(|| Error::damaged(&first.key, ObjectDamage::Identity))?;
    if history.log_id().is_some_and(|known| known != log) {
        // Of the notes that differ the other one may be the one that does not belong here.
        if matches!(damage, ObjectDamage::OtherLog { .. }) {
            return Err(Error::damaged(&epoch_key(&archive.prefix, epoch), damage.clone()));
        }
        return Err(Error::damaged(&first.key, ObjectDamage::OtherLog { log: format!("{log:032x}") }));
    }
    let parent = match frames.predecessor() {
        Some(tip) => patiently(|| parent_by_tip(archive, history, (tip, first.first_lsn), epoch)).await?,
        None => None,
    };
    let mut lost = None;
    if let (Some(tip), None) = (frames.predecessor(), parent) {
        check_begin(history, epoch, first)?;
        // What a prune may have deleted is not missed, wherever the epoch began.
        let is_pruned = first.first_lsn <= history.pruned.of(epoch);
        if !begins && !is_pruned {
            let ArchivedSegment { key, first_lsn, .. } = first;
            return Err(Error::Unproven { epoch, key: key.to_string(), number: tip.number, first_lsn: *first_lsn });
        }
        lost = history.lost_between(..epoch, first.first_lsn, None);
    }
    let note = EpochNote {
        version: EpochNote::VERSION,
        log: format!("{log:032x}"),
        token: token_of(archive, epoch).await?,
        first_lsn: first.first_lsn.0,
        parent,
        lost: lost.map(|lost| (lost.start.0, lost.end.0)),
        instead_of: None,
        created_unix_ms: unix_ms(),
        checksum: None,
    };
    Ok(note.signed())
}

/// The first object of `epoch`, which begins a segment, and what its frames say. An error if others have the first record, and say something else.
async fn first_object<'a>(
    archive: &Archive,
    history: &'a History,
    epoch: u64,
) -> Result<(&'a ArchivedSegment, SegmentCheck)> {
    let own = &history.epochs[&epoch];
    let all = || own.segments.iter().chain(own.parts.iter().filter(|part| part.part == Some(0)));
    let first = all().min_by_key(|object| (object.number, object.part)).ok_or(Error::NoObject { epoch })?;
    let begin = SegmentCheck::new();
    let read = async |object| {
        let read = patiently(|| read_checked(archive, object, Some(&begin), |_, _| Ok(()))).await?;
        Ok::<_, Error>(read.expect("frames are checked from the first one on"))
    };
    let frames = read(first).await?;
    let is_alike = |other: &&ArchivedSegment| {
        other.key != first.key && (other.number == first.number || other.first_lsn <= first.first_lsn)
    };
    for other in all().filter(is_alike) {
        let of_other = read(other).await?;
        let says = |frames: &SegmentCheck| (frames.log_id(), frames.number(), frames.first_lsn(), frames.predecessor());
        if says(&of_other) != says(&frames) {
            let (key, other, lsn) = (first.key.to_string(), other.key.to_string(), first.first_lsn);
            return Err(Error::Conflict { key, other, lsn, claims: Claims::default() });
        }
    }
    Ok((first, frames))
}

/// The token of `epoch`, as the archiver that wrote it last has noted it; empty where that is lost as well.
async fn token_of(archive: &Archive, epoch: u64) -> Result<String> {
    let key = session_key(&archive.prefix, epoch);
    match patiently(|| archive.store.note::<SessionNote>(&key)).await {
        Err(Error::Damaged { .. }) => Ok(String::new()),
        note => Ok(note?.map_or_else(String::new, |note| note.epoch_token)),
    }
}

/// An error if other epochs say that `epoch`, whose first object does not follow what is there, may not have begun with that.
fn check_begin(history: &History, epoch: u64, first: &ArchivedSegment) -> Result<()> {
    if let Some((&earlier, _)) = history.epochs.range(..epoch).find(|(_, other)| other.note.is_none()) {
        return Err(Error::MayContinue { epoch, earlier });
    }
    for (&by, other) in history.epochs.range(epoch + 1..) {
        let Some(note) = &other.note else { continue };
        let is_before = |parent: &Parent| parent.epoch == epoch && parent.number < first.number;
        if history.parent_of(by, note).as_ref().is_some_and(is_before) {
            return Err(Error::Disproven { epoch, first_lsn: first.first_lsn, by, next: Lsn(note.first_lsn) });
        }
    }
    Ok(())
}

/// An error unless the note of `epoch` is lost, or it has no record that another epoch does not have, or its log has begun another one in its
/// place, or all but its note was deleted.
async fn check_worthless(archive: &Archive, history: &mut History, epoch: u64) -> Result<()> {
    let mut later = history.epochs.range(epoch + 1..).filter_map(|(_, later)| later.note.as_ref());
    let is_replaced = later.any(|later| later.instead_of == Some(epoch));
    let damage = match history.unnoted(archive, epoch) {
        Err(noted @ Error::Noted { .. }) => {
            let has_less = is_all_in_reach(archive, history, epoch).await?
                && longer_than(archive, history, epoch).await?.is_some();
            // By a call that was killed before it deleted the note, or what has no record.
            let is_emptied = history.forgotten.contains(&epoch)
                && history.epochs[&epoch].all_objects().all(|it| it.first_lsn == it.next_lsn);
            return if has_less || is_replaced || is_emptied { Ok(()) } else { Err(noted) };
        }
        unnoted => unnoted?.1,
    };
    let is_worthless = match damage {
        // Nothing is wrong with the epoch, or which of the notes belongs here is not known.
        ObjectDamage::Version { .. } | ObjectDamage::OtherLog { .. } => false,
        ObjectDamage::Copy { .. } if is_replaced => true,
        // The note alone may be a copy.
        ObjectDamage::Copy { .. } => match proven(archive, history, (epoch, &damage), true).await {
            Ok(note) => match check_copy(archive, history, (epoch, &damage), &note).await {
                Err(Error::Copied { .. }) => true,
                checked => checked.map(|()| false)?,
            },
            // Parts without a beginning may be had nowhere else.
            Err(Error::NoObject { .. }) => history.epochs[&epoch].all_objects().next().is_none(),
            Err(error) => return Err(error),
        },
        _ => true,
    };
    if is_worthless { Ok(()) } else { Err(Error::damaged(&epoch_key(&archive.prefix, epoch), damage)) }
}

/// An error if `epoch` must not be forgotten: [`check_worthless`], or a later one continues it, or may.
async fn check_forgettable(archive: &Archive, history: &mut History, epoch: u64) -> Result<()> {
    check_worthless(archive, history, epoch).await?;
    let continues = |(&later, other): (&u64, &Epoch)| {
        let is_it =
            other.note.as_ref().is_some_and(|note| history.parent_of(later, note).is_some_and(|it| it.epoch == epoch));
        is_it.then_some(later)
    };
    if let Some(by) = history.epochs.iter().rev().find_map(continues) {
        return Err(Error::Continued { epoch, by });
    }
    // What it continues, its note alone says.
    let unnoted = history.epochs.range(epoch + 1..).rev().find(|(_, later)| later.note.is_none());
    let has_objects = history.epochs[&epoch].all_objects().next().is_some();
    match unnoted.filter(|_| has_objects) {
        Some((&by, _)) => Err(Error::MayBeContinued { epoch, by }),
        None => Ok(()),
    }
}

/// The records that objects of `epoch` have, by number, and that no other epoch leads to.
fn only_in(history: &History, epoch: u64) -> Vec<Range<Lsn>> {
    let mut own: Vec<_> = history.epochs[&epoch].all_objects().map(|it| it.first_lsn..it.next_lsn).collect();
    own.sort_by_key(|lsns| lsns.start);
    let mut only: Vec<Range<Lsn>> = Vec::new();
    for lsns in own.into_iter().filter(|lsns| !lsns.is_empty()) {
        match only.last_mut().filter(|last| lsns.start <= last.end) {
            Some(last) => last.end = last.end.max(lsns.end),
            None => only.push(lsns),
        }
    }
    let others = history.epochs.keys().filter(|&&other| other != epoch);
    for had in others.filter_map(|&other| Some(history.reach(other).ok()?.lsns)) {
        let rest = |lsns: Range<Lsn>| [lsns.start..lsns.end.min(had.start), lsns.start.max(had.end)..lsns.end];
        only = only.into_iter().flat_map(rest).filter(|lsns| !lsns.is_empty()).collect();
    }
    only
}

pub(crate) async fn forget_epoch(archive: &Archive, epoch: u64) -> Result<PruneReport> {
    let mut history = archive.history().await?;
    // Its number stays taken: marks of prunes, and pins of logs, name it.
    let (taken, word) = (forgotten_key(&archive.prefix, epoch), bytes::Bytes::from_static(b"forgotten\n"));
    if let Err(error) = check_forgettable(archive, &mut history, epoch).await {
        let is_refusal = !matches!(error, Error::Store { .. } | Error::Io { .. });
        let is_left = history.epochs.contains_key(&epoch) && history.forgotten.contains(&epoch);
        if is_refusal && is_left {
            // An earlier call was killed that was not refused. Without its mark an archiver goes on in the epoch.
            patiently(|| archive.store.delete(&taken)).await?;
        }
        return Err(error);
    }
    let keep_number = || patiently(|| async { archive.store.create(&taken, word.clone()).await });
    let kept = match keep_number().await {
        // There is room for it once something is gone.
        Err(error) if error.is_full() => false,
        kept => kept.map(|_| true)?,
    };
    // Without this note an archiver confirms nothing more. What it has confirmed before is in the next list.
    let session = session_key(&archive.prefix, epoch);
    let noted = patiently(|| archive.store.all_of(&session)).await?;
    patiently(|| archive.store.delete(&session)).await?;
    // There may be room by now. An archiver that finds the note gone, or begins, writes it again unless it sees this.
    if !kept {
        let _ = keep_number().await;
        patiently(|| archive.store.delete(&session)).await?;
    }
    let mut history = archive.history().await?;
    if !history.epochs.contains_key(&epoch) && history.forgotten.contains(&epoch) {
        // Another call, or a prune, has deleted it meanwhile. Its number stays taken.
        return Ok(PruneReport::default());
    }
    if let Err(error) = check_forgettable(archive, &mut history, epoch).await {
        if let Some(noted) = noted {
            put_back(archive, &session, noted).await?;
        }
        patiently(|| archive.store.delete(&taken)).await?;
        return Err(error);
    }
    let mut report = PruneReport { epochs: 1, lost: only_in(&history, epoch), ..PruneReport::default() };
    // The newest first: if this is killed, what is left is an epoch without a gap, which has less, and can be forgotten.
    let objects: Vec<_> = history.epochs[&epoch].all_objects().collect();
    for object in objects.into_iter().rev() {
        delete(archive, object, &mut report).await?;
    }
    // A second call that was refused meanwhile has taken it back.
    keep_number().await?;
    patiently(|| async { archive.store.delete(&epoch_key(&archive.prefix, epoch)).await }).await?;
    Ok(report)
}
