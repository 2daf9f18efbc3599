//! What can be done about an epoch whose note is lost: the note is made again, or the epoch is forgotten.

use mapwal::Lsn;
use mapwal::inspect::SegmentCheck;

use crate::archive::Archive;
use crate::backoff::patiently;
use crate::epoch::{EpochNote, Parent, unix_ms};
use crate::error::{Error, ObjectDamage, Result};
use crate::frames::read_checked;
use crate::history::{Epoch, History};
use crate::object::{ArchivedSegment, epoch_key, forgotten_key, session_key};
use crate::prune::{PruneReport, delete};
use crate::tips::parent_by_tip;

pub(crate) async fn rebuild_note(archive: &Archive, epoch: u64, begins: bool) -> Result<()> {
    let history = archive.history().await?;
    let (own, damage) = history.unnoted(archive, epoch)?;
    let key = epoch_key(&archive.prefix, epoch);
    // Not lost, but a later version's, or that of an epoch that is a copy.
    let is_lost = !matches!(damage, ObjectDamage::Version { .. } | ObjectDamage::Copy { .. });
    let objects = own.segments.iter().chain(own.parts.iter().filter(|part| part.part == Some(0)));
    let first = objects.min_by_key(|object| (object.number, object.part)).filter(|_| is_lost);
    let Some(first) = first else { return Err(Error::damaged(&key, damage)) };
    let begin = SegmentCheck::new();
    let read = patiently(|| read_checked(archive, first, Some(&begin), |_, _| Ok(()))).await?;
    let frames = read.expect("frames are checked from the first one on");
    let log = frames.log_id().ok_or_else(|| Error::damaged(&first.key, ObjectDamage::Identity))?;
    if history.log_id().is_some_and(|known| known != log) {
        // Of the notes that differ the other one may be the one that does not belong here.
        if matches!(damage, ObjectDamage::OtherLog { .. }) {
            return Err(Error::damaged(&key, damage));
        }
        return Err(Error::damaged(&first.key, ObjectDamage::OtherLog { log: format!("{log:032x}") }));
    }
    let parent = match frames.predecessor() {
        Some(tip) => patiently(|| parent_by_tip(archive, &history, (tip, first.first_lsn), epoch)).await?,
        None => None,
    };
    let mut lost = None;
    if let (Some(tip), None) = (frames.predecessor(), parent) {
        check_begin(&history, epoch, first)?;
        if !begins {
            let ArchivedSegment { key, first_lsn, .. } = first;
            return Err(Error::Unproven { epoch, key: key.to_string(), number: tip.number, first_lsn: *first_lsn });
        }
        lost = history.lost_between(..epoch, first.first_lsn, None);
    }
    let note = EpochNote {
        version: EpochNote::VERSION,
        log: format!("{log:032x}"),
        token: String::new(),
        first_lsn: first.first_lsn.0,
        parent,
        lost: lost.map(|lost| (lost.start.0, lost.end.0)),
        created_unix_ms: unix_ms(),
        checksum: None,
    };
    let note = note.signed();
    patiently(|| archive.store.replace_note(&key, &note)).await
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

pub(crate) async fn forget_epoch(archive: &Archive, epoch: u64) -> Result<PruneReport> {
    let history = archive.history().await?;
    let (own, damage) = history.unnoted(archive, epoch)?;
    // Nothing is wrong with the epoch, or which of the notes belongs here is not known.
    if matches!(damage, ObjectDamage::Version { .. } | ObjectDamage::OtherLog { .. }) {
        return Err(Error::damaged(&epoch_key(&archive.prefix, epoch), damage));
    }
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
    let has_objects = !own.segments.is_empty() || !own.parts.is_empty();
    if let Some((&by, _)) = unnoted.filter(|_| has_objects) {
        return Err(Error::MayBeContinued { epoch, by });
    }
    let mut report = PruneReport { epochs: 1, ..PruneReport::default() };
    // Its number stays taken: marks of prunes, and pins of logs, name it.
    let (taken, word) = (forgotten_key(&archive.prefix, epoch), bytes::Bytes::from_static(b"forgotten\n"));
    let keep_number = || patiently(|| async { archive.store.create(&taken, word.clone()).await });
    let kept = match keep_number().await {
        // There is room for it once something is gone.
        Err(error) if error.is_full() => false,
        kept => kept.map(|_| true)?,
    };
    for object in own.segments.iter().chain(&own.parts) {
        delete(archive, object, &mut report).await?;
    }
    patiently(|| async { archive.store.delete(&session_key(&archive.prefix, epoch)).await }).await?;
    if !kept {
        keep_number().await?;
    }
    patiently(|| async { archive.store.delete(&epoch_key(&archive.prefix, epoch)).await }).await?;
    Ok(report)
}
