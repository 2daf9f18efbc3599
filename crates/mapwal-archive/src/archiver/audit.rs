//! Comparing what the archive has with what was confirmed: objects may vanish from a store.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Instant;

use mapwal::Lsn;
use mapwal::inspect::SegmentCheck;

use super::Archiver;
use super::pin::first_kept;
use super::session::Session;
use super::source::{Local, LocalLog, blocking};
use crate::chain::longest;
use crate::conflict::check;
use crate::error::{Error, ObjectDamage, Result};
use crate::faults::faults_beside;
use crate::gaps::MissingRecords;
use crate::history::{Epoch, History};
use crate::object::{ArchivedSegment, session_key};
use crate::overlap::{Compared, Overlap};

/// Records whose segment in the log is damaged, and what is wrong with it.
type Unsound = (Range<Lsn>, String);

/// What became of segments that the archive lacks.
#[derive(Debug, Default)]
struct Again {
    uploaded: Vec<ArchivedSegment>,
    unsound: Vec<Unsound>,
}

impl Archiver {
    /// As [`Self::audit`], if it is time for that; whether the epoch is still that of this log.
    pub(super) async fn audit_if_due(&self, session: &mut Session) -> Result<bool> {
        // What was gone is compared before anything else, also where no checks are asked for.
        let is_due = |at: Instant| self.options.check_interval.is_some_and(|interval| at.elapsed() >= interval);
        if !session.audited.is_none_or(is_due) {
            return Ok(true);
        }
        let history = History::load(&self.archive.store, &self.archive.prefix).await?;
        if self.has_others(session, &history).await? {
            tracing::error!(epoch = session.epoch, "the epoch has got objects of another log");
            return Ok(false);
        }
        self.audit(session, history).await?;
        self.check_session(session, &session_key(&self.archive.prefix, session.epoch), None).await?;
        Ok(true)
    }

    /// Whether the session's epoch has objects that another log's archiver was uploading when this one took it.
    async fn has_others(&self, session: &Session, listed: &History) -> Result<bool> {
        let Ok(has_conflict) = listed.has_conflict(session.epoch) else { return Ok(false) };
        let own = listed.noted(session.epoch)?.0;
        if has_conflict || own.later_parts().all(|part| part.number <= session.place.after) {
            return Ok(has_conflict);
        }
        match self.parts_after(own, session.place).await {
            // What is damaged of the log is told where it is archived.
            Err(Error::Log(_) | Error::NotDurable { .. }) => Ok(false),
            parts => Ok(parts?.is_none()),
        }
    }

    /// Uploads again what `listed` lacks of the epoch up to the session's place and the log still has, and notes what is missing for
    /// good, also of the epochs that this one continues. One list, and another one if something is.
    pub(super) async fn audit(&self, session: &mut Session, mut listed: History) -> Result<()> {
        let epoch = session.epoch;
        if let Err(error) = listed.noted(epoch) {
            return Err(match self.without_note(&listed, epoch, session.place.next) {
                deleted @ (Error::Pruned { .. } | Error::Forgotten { .. }) => deleted,
                _ => error,
            });
        }
        let source = self.source.clone();
        let local = blocking(move || source.look()).await?;
        let mut missing = lacking(&listed, session, &[])?;
        if let Some(from) = first_kept(&local, &listed, epoch, &missing) {
            // Until it is uploaded again, or can be followed.
            let confirmed = session.confirmed();
            self.hold(&mut session.pin, (from, confirmed), &local).await?;
        }
        let Again { uploaded: again, unsound } = self.upload_again(session, &listed, &local).await?;
        listed.insert(&again);
        missing = lacking(&listed, session, &unsound)?;
        let is_note_missing = listed.damaged(epoch).iter().any(|(_, damage)| *damage == ObjectDamage::Missing);
        if !missing.is_empty() || is_note_missing || !faults_beside(&listed, epoch).is_empty() {
            // That list may have been late.
            listed = History::load(&self.archive.store, &self.archive.prefix).await?;
            listed.insert(&again);
            missing = lacking(&listed, session, &unsound)?;
        }
        session.held = first_kept(&local, &listed, epoch, &missing);
        self.note_missing(missing);
        let (lost, mut damaged) = (listed.lost_on_the_way(epoch), listed.damaged(epoch));
        damaged.extend(self.compare_superseded(session, listed.noted(epoch)?.0).await?);
        for found in self.still_damaged(session, &listed).await? {
            if damaged.iter().all(|(key, _)| *key != found.0) {
                damaged.push(found);
            }
        }
        for (key, damage) in &damaged {
            tracing::error!(key, %damage, "damaged in the archive");
        }
        let beside = faults_beside(&listed, epoch);
        for fault in &beside {
            tracing::warn!(%fault, "in the archive, beside what the epoch leads to");
        }
        self.note(|progress| (progress.lost, progress.damaged, progress.beside) = (lost, damaged, beside));
        Self::take_back_parts(session, listed.noted(epoch)?.0);
        self.note_place(session);
        session.audited = Some(Instant::now());
        Ok(())
    }

    /// Has the parts deleted that an archiver has left which was killed before it did so, and that the sealed segment has the bytes of;
    /// the others, with what is wrong.
    async fn compare_superseded(&self, session: &mut Session, own: &Epoch) -> Result<Vec<(String, ObjectDamage)>> {
        let mut damaged = Vec::new();
        for overlap in own.overlaps().into_iter().filter(Overlap::is_sealed) {
            let is_known = |part: &ArchivedSegment| session.superseded.contains(&part.key);
            if overlap.others.iter().all(|part| is_known(part)) {
                continue;
            }
            let compared = match overlap.compare(&self.archive, Lsn(u64::MAX)).await {
                Err(error) if error.is_of_one_object() => {
                    let why = error.in_one_line();
                    Compared {
                        damaged: Some((overlap.taken[0].key.to_string(), ObjectDamage::Unreadable { why })),
                        ..Compared::default()
                    }
                }
                compared => compared?,
            };
            let Compared { same, other, damaged: taken } = compared;
            damaged.extend(taken);
            let same = same.into_iter().filter(|part| !is_known(part)).map(|part| part.key.clone());
            let same: Vec<_> = same.collect();
            session.superseded.extend(same);
            damaged.extend(other.into_iter().map(|part| {
                let damage = ObjectDamage::Other { key: overlap.taken[0].key.to_string(), lsn: part.first_lsn.0 };
                (part.key.to_string(), damage)
            }));
        }
        Ok(damaged)
    }

    /// Of the objects that were damaged when the session began those that still are: they are read again.
    async fn still_damaged(&self, session: &mut Session, listed: &History) -> Result<Vec<(String, ObjectDamage)>> {
        let mut found = Vec::new();
        session.damaged.retain(|object| listed.has(object.key.as_ref()));
        for object in &session.damaged {
            match check(&self.archive, object).await {
                Err(Error::Damaged { key, damage, .. }) => found.push((key, damage)),
                // It is no better for that.
                Err(error) if error.is_of_one_object() => {
                    let why = error.in_one_line();
                    found.push((object.key.to_string(), ObjectDamage::Unreadable { why }));
                }
                checked => drop(checked?),
            }
        }
        session.damaged.retain(|object| found.iter().any(|(key, _)| key == object.key.as_ref()));
        Ok(found)
    }

    async fn upload_again(&self, session: &Session, listed: &History, local: &LocalLog) -> Result<Again> {
        let (own, note) = listed.noted(session.epoch)?;
        let there: HashSet<u64> = own.segments.iter().map(|segment| segment.number).collect();
        let parent = note.parent.map_or(0, |parent| parent.number);
        let is_lacking = |segment: &Local, next: &Local| {
            let is_archived = segment.number <= session.place.after;
            let is_own = segment.number > parent && segment.first_lsn.0 >= note.first_lsn;
            let is_kept = next.first_lsn > listed.pruned.of(session.epoch);
            is_archived && is_own && is_kept && !there.contains(&segment.number)
        };
        let mut again = Again::default();
        for pair in local.segments.windows(2).filter(|pair| is_lacking(&pair[0], &pair[1])) {
            let sealed = match self.prepare(pair[0].number - 1).await {
                // The others are archived nevertheless.
                Err(Error::Log(fault @ (mapwal::Error::Corrupt(_) | mapwal::Error::Format { .. }))) => {
                    again.unsound.push((pair[0].first_lsn..pair[1].first_lsn, fault.to_string()));
                    continue;
                }
                sealed => sealed?,
            };
            // It may have been trimmed meanwhile.
            let Some(sealed) = sealed.filter(|sealed| sealed.tip.number == pair[0].number) else { continue };
            let object = self.object(session.epoch, &sealed);
            tracing::warn!(key = object.key.as_ref(), "missing from the archive, and uploaded again");
            self.upload(session, &object, sealed.bytes.clone(), sealed.path.display().to_string()).await?;
            self.note(|progress| {
                progress.uploaded_again += 1;
                (progress.segments, progress.bytes) = (progress.segments + 1, progress.bytes + object.len_bytes);
            });
            again.uploaded.push(object);
        }
        Ok(again)
    }

    pub(super) fn note_missing(&self, missing: Vec<MissingRecords>) {
        for MissingRecords { epoch, lsns, key, .. } in &missing {
            tracing::error!(
                epoch,
                first = lsns.start.0,
                next = lsns.end.0,
                key,
                "missing from the archive, and not sound in the log"
            );
        }
        self.note(|progress| progress.missing = missing);
    }

    /// Of the segment that takes appends, goes on after what `own` has in a row: the next part has what is missing.
    fn take_back_parts(session: &mut Session, own: &Epoch) {
        let Some(parts) = session.parts.as_mut() else { return };
        let there: Vec<&ArchivedSegment> = own.parts.iter().filter(|part| part.number == parts.number).collect();
        let in_a_row = longest(&there, session.place.next);
        let (end, next) = in_a_row.last().map_or((0, session.place.next), |last| (last.end(), last.next_lsn));
        if end < parts.end {
            (parts.end, parts.next, session.parted) = (end, next, None);
            // What is uploaded again is checked again.
            parts.check = SegmentCheck::new();
        }
    }
}

/// What `listed` lacks, and cannot be uploaded: what comes after the session's place is in the log, and about to be.
fn lacking(listed: &History, session: &Session, unsound: &[Unsound]) -> Result<Vec<MissingRecords>> {
    let end = session.place.next;
    let mut missing = listed.missing(session.epoch, end)?;
    missing.retain_mut(|missing| {
        missing.lsns.end = missing.lsns.end.min(end);
        let is_in = |lsns: &Range<Lsn>| lsns.start < missing.lsns.end && missing.lsns.start < lsns.end;
        missing.log_fault = unsound.iter().find(|(lsns, _)| is_in(lsns)).map(|(_, fault)| fault.clone());
        missing.lsns.start < end
    });
    Ok(missing)
}
