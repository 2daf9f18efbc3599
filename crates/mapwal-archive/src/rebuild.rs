//! What can be done about an epoch whose note is lost: the note is made again, or the epoch is forgotten.

use mapwal::inspect::SegmentCheck;

use crate::archive::Archive;
use crate::backoff::patiently;
use crate::epoch::{EpochNote, unix_ms};
use crate::error::{Error, ObjectDamage, Result};
use crate::frames::read_checked;
use crate::object::{ArchivedSegment, epoch_key, session_key};
use crate::prune::{PruneReport, delete};
use crate::tips::parent_by_tip;

pub(crate) async fn rebuild_note(archive: &Archive, epoch: u64, begins: bool) -> Result<()> {
    let history = archive.history().await?;
    let (own, damage) = history.unnoted(archive, epoch)?;
    let key = epoch_key(&archive.prefix, epoch);
    // Not lost, but another's.
    let is_lost = matches!(damage, ObjectDamage::Missing | ObjectDamage::Contents | ObjectDamage::Note { .. });
    let objects = own.segments.iter().chain(own.parts.iter().filter(|part| part.part == Some(0)));
    let first = objects.min_by_key(|object| (object.number, object.part)).filter(|_| is_lost);
    let Some(first) = first else { return Err(Error::damaged(&key, damage)) };
    let begin = SegmentCheck::new();
    let read = patiently(|| read_checked(archive, first, Some(&begin), |_, _| Ok(()))).await?;
    let frames = read.expect("frames are checked from the first one on");
    let log = frames.log_id().ok_or_else(|| Error::damaged(&first.key, ObjectDamage::Identity))?;
    if history.log_id().is_some_and(|known| known != log) {
        return Err(Error::damaged(&first.key, ObjectDamage::OtherLog { log: format!("{log:032x}") }));
    }
    let parent = match frames.predecessor() {
        Some(tip) => patiently(|| parent_by_tip(archive, &history, (tip, first.first_lsn), epoch)).await?,
        None => None,
    };
    if let (Some(tip), None, false) = (frames.predecessor(), parent, begins) {
        let ArchivedSegment { key, first_lsn, .. } = first;
        return Err(Error::Unproven { epoch, key: key.to_string(), number: tip.number, first_lsn: *first_lsn });
    }
    let note = EpochNote {
        version: EpochNote::VERSION,
        log: format!("{log:032x}"),
        token: String::new(),
        first_lsn: first.first_lsn.0,
        parent,
        lost: None,
        created_unix_ms: unix_ms(),
    };
    patiently(|| archive.store.replace_note(&key, &note)).await
}

pub(crate) async fn forget_epoch(archive: &Archive, epoch: u64) -> Result<PruneReport> {
    let history = archive.history().await?;
    let (own, _) = history.unnoted(archive, epoch)?;
    let continues = |(&later, other): (&u64, &crate::history::Epoch)| {
        let is_it =
            other.note.as_ref().is_some_and(|note| history.parent_of(later, note).is_some_and(|it| it.epoch == epoch));
        is_it.then_some(later)
    };
    if let Some(by) = history.epochs.iter().rev().find_map(continues) {
        return Err(Error::Continued { epoch, by });
    }
    let mut report = PruneReport { epochs: 1, ..PruneReport::default() };
    for object in own.segments.iter().chain(&own.parts) {
        delete(archive, object, &mut report).await?;
    }
    for key in [session_key(&archive.prefix, epoch), epoch_key(&archive.prefix, epoch)] {
        patiently(|| async { archive.store.delete(&key).await }).await?;
    }
    Ok(report)
}
