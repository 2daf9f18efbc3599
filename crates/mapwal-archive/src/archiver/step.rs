//! One thing at a time: a segment, a part, a rotation, or nothing.

use std::time::Instant;

use mapwal::Lsn;
use mapwal::error::PinFault;
use mapwal::inspect::SegmentCheck;
use object_store::path::Path;

use super::Archiver;
use super::session::{Parts, Session};
use super::source::{Prefix, Sealed, Source, blocking};
use crate::conflict::{Claims, check};
use crate::epoch::SessionNote;
use crate::error::{Error, ObjectDamage, Result};
use crate::frames::known_before;
use crate::history::{Epoch, History};
use crate::object::{ArchivedSegment, session_key, synced_key};
use crate::store::Created;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more to do.
    Done,
    /// There is nothing to do but to wait.
    Idle,
}

impl Archiver {
    /// As [`Self::step`], with a session, which is given up when the log or the pin is not what it was.
    pub(super) async fn try_step(&self, session: &mut Option<Session>, is_last: bool) -> Result<Step> {
        if session.is_none() {
            *session = Some(self.attach().await?);
            self.succeeded();
        }
        let current = session.as_mut().expect("there is one");
        let stepped = self.step(current, is_last).await;
        match stepped {
            // The log has another history: the next step finds where it goes on.
            Ok(None) => *session = None,
            Err(error) if is_pin_gone(&error) => {
                self.know(&current.pin, current.confirmed());
                *session = None;
            }
            // A note of the session that cannot be read is written anew by the next one.
            Err(error @ Error::Damaged { .. }) => {
                *session = None;
                return Err(error);
            }
            Err(error) => {
                if matches!(error, Error::Gone { .. }) {
                    // What the log has is kept before the next try, and what comes back may be older.
                    current.audited = None;
                }
                return Err(error);
            }
            Ok(Some(step)) => {
                self.succeeded();
                return Ok(step);
            }
        }
        Ok(Step::Done)
    }

    fn succeeded(&self) {
        self.note(|progress| (progress.failures, progress.last_error) = (0, None));
    }

    /// `None` if what the log has does not continue what the epoch has.
    async fn step(&self, session: &mut Session, is_last: bool) -> Result<Option<Step>> {
        // Where the segment that takes appends is damaged, those before it are archived nevertheless.
        let observed = self.observe(session).await;
        if !self.audit_if_due(session).await? {
            return Ok(None);
        }
        let sealed = match session.prepared.take() {
            Some(sealed) => Some(sealed),
            None => self.prepare(session.place.after).await?,
        };
        if let Some(sealed) = sealed {
            return self.archive_segment(session, sealed).await;
        }
        self.settle(session).await?;
        observed?;
        if is_last || self.is_part_due(session) {
            return self.archive_part(session, is_last).await;
        }
        self.rotate_if_old(session).await.map(Some)
    }

    /// Notes how far the log is, and what it keeps of what is missing, now and then: in a large directory that takes longer than looking for the next segment.
    async fn observe(&self, session: &mut Session) -> Result<()> {
        if session.observed.is_some_and(|at| at.elapsed() < self.options.poll_interval) {
            return Ok(());
        }
        self.ease_pin(&mut session.pin).await?;
        let source = self.source.clone();
        let next = blocking(move || source.next_lsn()).await;
        let seen = next.as_ref().map_or_else(known_before, |&next| Some(next));
        self.note(|progress| seen.into_iter().for_each(|next| progress.observe(next)));
        next?;
        session.observed = Some(Instant::now());
        Ok(())
    }

    pub(super) async fn prepare(&self, after: u64) -> Result<Option<Sealed>> {
        let source = self.source.clone();
        blocking(move || source.next_sealed(after)).await
    }

    async fn archive_segment(&self, session: &mut Session, sealed: Sealed) -> Result<Option<Step>> {
        if !session.continues_with(&sealed) {
            return Ok(None);
        }
        // Moving the pin looks at all of the log's files: not for each of many small segments.
        let is_due = session.moved.is_none_or(|at| at.elapsed() >= self.options.poll_interval);
        let (to, confirmed) = if is_due {
            session.moved = Some(Instant::now());
            (session.released(), session.confirmed())
        } else {
            (session.pin.from, session.pin.confirmed())
        };
        // Reading the next one takes processor time, moving the pin the disk's, and uploading this one the store's.
        let object = self.object(session.epoch, &sealed);
        let upload = self.upload(session, &object, sealed.bytes.clone(), sealed.path.display().to_string());
        let pinning = self.move_pin(session, (to, confirmed));
        let (uploaded, prepared, pinned) = tokio::join!(upload, self.prepare(sealed.tip.number), pinning);
        let pinned = pinned.map(|moved| session.pinned(moved));
        uploaded?;
        session.passed(&sealed);
        session.prepared = prepared.unwrap_or(None);
        self.note(|progress| {
            (progress.segments, progress.bytes) = (progress.segments + 1, progress.bytes + object.len_bytes);
            progress.archived(sealed.next_lsn);
            progress.place = (sealed.tip.number, 0);
        });
        pinned?;
        Ok(Some(Step::Done))
    }

    /// What is left to be done once nothing is to be uploaded: lets the log trim what is confirmed, and deletes the parts that are
    /// superseded.
    async fn settle(&self, session: &mut Session) -> Result<()> {
        let moved = self.move_pin(session, (session.released(), session.confirmed())).await?;
        session.pinned(moved);
        if session.is_told && session.pin.from == session.released() {
            self.note(|progress| progress.pin_error = None);
        }
        while let Some(key) = session.superseded.pop() {
            // One that is left does no harm.
            let _ = self.archive.store.delete(&key).await;
        }
        Ok(())
    }

    pub(super) fn object(&self, epoch: u64, sealed: &Sealed) -> ArchivedSegment {
        let object = ArchivedSegment {
            epoch,
            first_lsn: sealed.first_lsn,
            next_lsn: sealed.next_lsn,
            number: sealed.tip.number,
            part: None,
            checksum: sealed.checksum,
            len_bytes: sealed.bytes.len() as u64,
            stored_bytes: sealed.bytes.len() as u64,
            key: Path::default(),
            e_tag: None,
        };
        object.with_key(&self.archive.prefix)
    }

    fn is_part_due(&self, session: &Session) -> bool {
        self.options
            .part_interval
            .is_some_and(|interval| session.parted.is_none_or(|parted| parted.elapsed() >= interval))
    }

    async fn archive_part(&self, session: &mut Session, is_last: bool) -> Result<Option<Step>> {
        let began = Instant::now();
        let source = self.source.clone();
        let prefix = blocking(move || source.durable_prefix()).await?;
        let Some(prefix) = prefix.filter(|prefix| prefix.number > session.place.after) else {
            return Ok(Some(Step::Idle));
        };
        if !session.continues_in(&prefix) {
            // Segments were sealed meanwhile, or the history is another one: a sealed segment tells.
            return Ok(if self.prepare(session.place.after).await?.is_some() { Some(Step::Done) } else { None });
        }
        let (from, first) = session.parts.as_ref().map_or((0, prefix.first_lsn), |parts| (parts.end, parts.next));
        if prefix.bytes.len() as u64 == from || prefix.is_bare {
            session.parted = Some(began);
            return Ok(Some(Step::Idle));
        }
        let check = session.parts.as_ref().map_or_else(SegmentCheck::new, |parts| parts.check.clone());
        let (part, check) = self.part(session.epoch, &prefix, (from, first), check).await?;
        let bytes = prefix.bytes.slice(usize::try_from(from).unwrap_or(usize::MAX)..);
        self.upload(session, &part, bytes, format!("segment {}", prefix.number)).await?;
        let (number, end, next) = (prefix.number, prefix.bytes.len() as u64, prefix.next_lsn);
        let mut keys = session.parts.take().map_or_else(Vec::new, |parts| parts.keys);
        keys.push(part.key);
        session.parts = Some(Parts { number, end, next, keys, check });
        session.parted = Some(began);
        self.note(|progress| {
            (progress.parts, progress.bytes) = (progress.parts + 1, progress.bytes + part.len_bytes);
            progress.archived(next);
            progress.place = (session.place.after, end);
        });
        Ok(Some(if is_last { Step::Idle } else { Step::Done }))
    }

    /// What `prefix` has from byte `from` on, where record `first` comes next, as an object; and `check` after all of it.
    async fn part(
        &self,
        epoch: u64,
        prefix: &Prefix,
        (from, first): (u64, Lsn),
        check: SegmentCheck,
    ) -> Result<(ArchivedSegment, SegmentCheck)> {
        let len_bytes = prefix.bytes.len() as u64 - from;
        let checked = prefix.clone();
        let (checksum, check) = blocking(move || checked.checked(from, check)).await?;
        let object = ArchivedSegment {
            epoch,
            first_lsn: first,
            next_lsn: prefix.next_lsn,
            number: prefix.number,
            part: Some(from),
            checksum,
            len_bytes,
            stored_bytes: len_bytes,
            key: Path::default(),
            e_tag: None,
        };
        Ok((object.with_key(&self.archive.prefix), check))
    }

    async fn rotate_if_old(&self, session: &mut Session) -> Result<Step> {
        let Some(age) = self.options.max_age else { return Ok(Step::Idle) };
        let source = self.source.clone();
        let next = blocking(move || source.next_lsn()).await?;
        let place = session.place.next;
        if next <= place {
            session.waiting = None;
            return Ok(Step::Idle);
        }
        let since = session.waiting.filter(|&(at, _)| at == place).map_or_else(Instant::now, |(_, since)| since);
        session.waiting = Some((place, since));
        if since.elapsed() < age {
            return Ok(Step::Idle);
        }
        self.change(Source::rotate).await?;
        Ok(Step::Done)
    }

    /// On return the object is in the archive with these bytes, durably, and this archiver is the one that writes the epoch.
    pub(super) async fn upload(
        &self,
        session: &Session,
        object: &ArchivedSegment,
        bytes: bytes::Bytes,
        local: String,
    ) -> Result<()> {
        let (store, key) = (&self.archive.store, session_key(&self.archive.prefix, session.epoch));
        // The epoch gets nothing of a log that is not its own any more, but for what is under way at that moment.
        self.check_session(session, &key, None).await?;
        let created = store.create(&object.key, bytes).await?;
        if created == Created::Other {
            // Its key has the length and the checksum of these bytes: it is not what it was uploaded as. It is told, and waited for.
            let checked = check(&self.archive, object).await;
            self.note_damaged(&checked);
            checked?;
            return Err(Error::Conflict {
                key: object.key.to_string(),
                other: local,
                lsn: object.first_lsn,
                claims: Claims::default(),
            });
        }
        let made = (created == Created::New).then_some(object);
        self.check_session(session, &key, made).await?;
        if created == Created::Same {
            // In a directory, the name of an object that a killed archiver has made is durable only once another one was written
            // there. Not the note of the session, which may be another archiver's by now.
            store.touch(&synced_key(&self.archive.prefix, session.epoch)).await?;
        }
        Ok(())
    }

    /// An error if another archiver has taken the epoch, or the note `key` of the session is gone. `made` is what was uploaded meanwhile.
    pub(super) async fn check_session(
        &self,
        session: &Session,
        key: &Path,
        made: Option<&ArchivedSegment>,
    ) -> Result<()> {
        match self.archive.store.note::<SessionNote>(key).await? {
            Some(note) if note.token == session.note.token => Ok(()),
            Some(other) => {
                if let Some(part) = made.filter(|made| made.part.is_some()) {
                    // One that is left is named by a verification.
                    let _ = self.take_back(part).await;
                }
                Err(Error::Superseded { epoch: session.epoch, by: other.describe() })
            }
            None => Err(self.gone(session, key, made).await),
        }
    }

    /// Deletes a part that this archiver has made, and not confirmed, if the epoch has something else in its place.
    async fn take_back(&self, part: &ArchivedSegment) -> Result<()> {
        let history = History::load(&self.archive.store, &self.archive.prefix).await?;
        let overlaps = history.epochs.get(&part.epoch).map_or_else(Vec::new, Epoch::overlaps);
        for overlap in overlaps.into_iter().filter(|overlap| overlap.number() == part.number) {
            if let Err(Error::Conflict { key, other, .. }) = overlap.check(&self.archive, Lsn(u64::MAX)).await
                && [key, other].iter().any(|key| key == part.key.as_ref())
            {
                tracing::warn!(key = part.key.as_ref(), "taken back from an epoch that another archiver writes");
                self.archive.store.delete(&part.key).await?;
            }
        }
        Ok(())
    }

    /// The note `key` of the session was there when that began: it alone has vanished, the epoch was pruned, or this is no longer the same store, such
    /// as where a disk is not mounted any more. `made` is what was uploaded meanwhile.
    async fn gone(&self, session: &Session, key: &Path, made: Option<&ArchivedSegment>) -> Error {
        let mut history = match History::load(&self.archive.store, &self.archive.prefix).await {
            Ok(history) => history,
            Err(error) => return error,
        };
        if let Some(made) = made {
            history.remove(made.key.as_ref());
        }
        let why = self.without_note(&history, session.epoch, session.place.next);
        if !matches!(why, Error::Pruned { .. } | Error::Forgotten { .. }) {
            // The next session writes another one, and compares what is there then.
            return if has_own(&history, session) {
                Error::damaged(key, ObjectDamage::Missing)
            } else {
                Error::Gone { key: key.to_string() }
            };
        }
        if let Some(made) = made {
            // It would be the only thing left of the epoch, and no use.
            let _ = self.archive.store.delete(&made.key).await;
        }
        why
    }
}

/// Whether the session's epoch is there, and its own, and no prune is about to delete its notes, of which that of the session goes first.
fn has_own(listed: &History, session: &Session) -> bool {
    listed.noted(session.epoch).is_ok_and(|(own, note)| {
        let is_past = Lsn(note.first_lsn) <= listed.pruned.of(session.epoch);
        note.token == session.note.epoch_token && !(is_past && own.all_objects().next().is_none())
    })
}

/// Whether a failed call says that the pin, or what it kept, is gone.
fn is_pin_gone(error: &Error) -> bool {
    let is_gone = |fault: &PinFault| matches!(fault, PinFault::Missing | PinFault::Lost { .. } | PinFault::Damaged);
    match error {
        Error::Log(mapwal::Error::Pin { fault, .. }) => is_gone(fault),
        Error::Log(mapwal::Error::Trimmed { .. }) => true,
        _ => false,
    }
}
