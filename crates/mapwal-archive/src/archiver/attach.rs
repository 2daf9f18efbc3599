//! Finding the place in the archive where the log goes on.
//!
//! The archive decides, not what an archiver remembers: the last segment of the epoch has to be the one that a segment of
//! the log names as its predecessor, by number, end and checksum. Anything else is another history, and gets an epoch of
//! its own.

use std::ops::Range;

use mapwal::Lsn;

use super::Archiver;
use super::pin::Pinned;
use super::session::{Found, Place, Session};
use super::source::{Local, LocalLog, blocking};
use crate::epoch::{EpochNote, Owner, Parent, SessionNote, lsn_range, unix_ms};
use crate::error::{Error, ObjectDamage, Result};
use crate::frames::known_before;
use crate::gaps::MissingRecords;
use crate::history::{Epoch, History};
use crate::object::{EPOCH_MAX, epoch_key, session_key};
use crate::store::{Created, encode};
use crate::tips::parent_by_tip;

impl Archiver {
    /// Finds the epoch and the place, or begins a new epoch, and takes the right to write it.
    pub(super) async fn attach(&self) -> Result<Session> {
        let source = self.source.clone();
        let local = blocking(move || source.look()).await?;
        let mut pin = self.pinned(&local).await?;
        let mut history = History::load(&self.archive.store, &self.archive.prefix).await?;
        if let Err(error) = self.check_log(&history, &local).await {
            self.withdraw(&error, &mut pin, &local).await?;
            return Err(error);
        }
        self.abandon(&mut pin).await?;
        let abandoned = if let Owner::Begins { abandoned, .. } = pin.owner { abandoned } else { None };
        let (epoch, mut token) = self.find_epoch(&mut history, &mut pin, &local).await?;
        if let Some(epoch) = epoch {
            if let Owner::Begins { .. } = pin.owner {
                // Nothing was confirmed in it.
                let begin = Lsn(history.noted(epoch)?.1.first_lsn);
                pin.owner = Owner::Of { epoch, token: token.clone(), confirmed: Some(begin) };
            }
            self.compare_confirmed(&history, epoch, &mut pin, &local).await?;
            if let Some(session) = self.go_on(&mut history, epoch, &pin, &token, &local).await? {
                return Ok(session);
            }
            self.check_list(&history, epoch, pin.confirmed(), &local)?;
        }
        if self.is_gone(&history) && history.forgotten.is_empty() {
            // Nothing says that it was forgotten: this is no place for another.
            self.remember(&pin).await?;
            return Err(Error::Gone { key: self.archive.prefix.to_string() });
        }
        if abandoned.is_none() {
            self.check_end(&history, pin.confirmed()).await?;
        }
        if epoch.is_some() {
            token = self.leave_epoch(&mut pin, None).await?;
        }
        let (place, parent) = self.branch(&history, &local).await?;
        // No epoch has what comes then.
        let confirmed = pin.confirmed();
        self.hold_firmly(&mut pin, (place.next, confirmed), &local).await?;
        let lost = if parent.is_none() { history.lost_between(.., place.next, abandoned) } else { None };
        // Not the number of one that is abandoned: it would be abandoned again.
        let number = history.next_number().max(abandoned.map_or(0, |epoch| (epoch + 1).min(EPOCH_MAX)));
        let lost = (lost, abandoned);
        let (epoch, note) = self.begin_epoch(number, &local, &token, (place, parent), lost).await?;
        let session_note = self.take(epoch, &token).await?;
        pin.owner = Owner::Of { epoch, token, confirmed: Some(place.next) };
        let session = Session::new(epoch, session_note, pin, Found::at(place));
        // What is damaged of those before it is told again, as of this one.
        history.set_note(epoch, note);
        self.begin_session(session, &local, history).await
    }

    /// Takes `epoch`, if the log goes on in it. What another archiver has confirmed before that is listed after it.
    async fn go_on(
        &self,
        history: &mut History,
        epoch: u64,
        pin: &Pinned,
        token: &str,
        local: &LocalLog,
    ) -> Result<Option<Session>> {
        let (mut own, mut backoff) = (None, self.backoff());
        loop {
            self.check_kept(history, epoch)?;
            let found = self.place_in(history, epoch, local, pin.confirmed()).await;
            self.note_damaged(&found);
            let Some(found) = found? else { return Ok(None) };
            let note = match own {
                None => self.take(epoch, token).await?,
                Some(note) => note,
            };
            let listed = History::load(&self.archive.store, &self.archive.prefix).await?;
            self.check_kept(&listed, epoch)?;
            if listed.keys(epoch) == history.keys(epoch) {
                let session = Session::new(epoch, note, pin.clone(), found);
                return self.begin_session(session, local, listed).await.map(Some);
            }
            *history = listed;
            own = Some(note);
            // What another archiver confirms meanwhile soon ends; a store's lists may never agree.
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// An error if `epoch` is being forgotten: what is confirmed in it from here on goes with it.
    fn check_kept(&self, listed: &History, epoch: u64) -> Result<()> {
        self.deleted(listed, epoch).map_or(Ok(()), Err)
    }

    /// That `epoch` was deleted, or is about to be: by itself, or by a prune.
    fn deleted(&self, history: &History, epoch: u64) -> Option<Error> {
        let (pin, prefix) = (self.options.pin.clone(), self.archive.prefix.to_string());
        if history.forgotten.contains(&epoch) {
            return Some(Error::Forgotten { pin, epoch, prefix });
        }
        // A prune leaves a mark, and the note of a later history.
        let is_left = history.epochs.iter().any(|(&number, other)| number > epoch && other.note.is_some());
        let is_gone = history.epochs.get(&epoch).is_none_or(Epoch::is_blank);
        let is_pruned = history.pruned.of(epoch) > Lsn(0) && is_left && is_gone || history.is_spent(epoch);
        is_pruned.then_some(Error::Pruned { pin, epoch, prefix })
    }

    /// Notes what is damaged of the epoch that is to be gone on with, which keeps it from that.
    pub(super) fn note_damaged<T>(&self, found: &Result<T>) {
        if let Err(Error::Damaged { key, damage, .. }) = found {
            self.note(|progress| progress.damaged = vec![(key.clone(), damage.clone())]);
        }
    }

    /// Takes the right to write the epoch: an archiver that had it finds out before and after each of its uploads.
    async fn take(&self, epoch: u64, token: &str) -> Result<SessionNote> {
        let note = SessionNote::new(token);
        self.archive.store.replace_note(&session_key(&self.archive.prefix, epoch), &note).await?;
        Ok(note)
    }

    /// An error, which may pass, if the archive lacks the end of `epoch` that was confirmed: all before record `confirmed` was. A
    /// list that is late must not look like another history.
    fn check_list(&self, history: &History, epoch: u64, confirmed: Lsn, local: &LocalLog) -> Result<()> {
        let (own, note) = history.noted(epoch)?;
        let begin = Lsn(note.first_lsn).max(history.pruned.of(epoch));
        let listed = own.segments.last().map_or(begin, |segment| segment.next_lsn);
        if listed >= confirmed {
            return Ok(());
        }
        // Parts have some of it, and the log may have its end.
        let parts = own.later_parts().map(|part| part.next_lsn).max();
        let listed = parts.filter(|&next| next < confirmed).map_or(listed, |next| listed.max(next));
        let kept = local.segments.first().map_or(confirmed, |segment| segment.first_lsn);
        let end = if kept > listed { confirmed.min(kept) } else { confirmed };
        let mut all = history.missing(epoch, confirmed)?;
        let key = all.iter().find(|missing| missing.lsns.start == listed).and_then(|missing| missing.key.clone());
        all.retain(|missing| missing.lsns.start < listed);
        let missing = MissingRecords { epoch, lsns: listed..end, key, log_fault: None };
        all.push(missing.clone());
        self.note_missing(all);
        Err(Error::Missing { missing, confirmed })
    }

    /// What is wrong with the log, if it is damaged, and the archive has as many records as what is sound of it: an epoch of that would be
    /// the newest, and have less.
    async fn check_end(&self, history: &History, confirmed: Lsn) -> Result<()> {
        let source = self.source.clone();
        let Err(error) = blocking(move || source.next_lsn()).await else { return Ok(()) };
        let ends = history.epochs.keys().filter_map(|&epoch| Some(history.reach(epoch).ok()?.lsns.end));
        let Some(archived) = ends.max().map(|end| end.max(confirmed)) else { return Ok(()) };
        if known_before(&error).is_some_and(|known| known > archived) { Ok(()) } else { Err(error) }
    }

    /// An error if the archive is of another log, or if it has this one under another pin.
    async fn check_log(&self, history: &History, local: &LocalLog) -> Result<()> {
        let prefix = self.archive.prefix.to_string();
        if let Some(archived) = history.log_id().filter(|&archived| archived != local.log_id) {
            return Err(Error::OtherLog { prefix, archived, log: local.log_id });
        }
        let source = self.source.clone();
        let pins = blocking(move || source.pins()).await?;
        let is_here = |owner: &str| {
            let note_of = |epoch: &Epoch, token: &str| epoch.note.as_ref().is_some_and(|note| note.token == token);
            match Owner::parse(owner) {
                None => false,
                Some(Owner::Begins { token, .. }) => history.epochs.values().any(|epoch| note_of(epoch, &token)),
                Some(Owner::Of { epoch, token, .. }) => {
                    let named = history.epochs.get(&epoch).and_then(|epoch| epoch.note.as_ref());
                    // Of one that was made again it may not be known.
                    named.is_some_and(|note| note.token.is_empty())
                        || history.epochs.values().any(|epoch| note_of(epoch, &token))
                }
            }
        };
        match pins.into_iter().find(|pin| pin.name != self.options.pin && is_here(&pin.owner)) {
            Some(pin) => Err(Error::ArchivedAlready { prefix, pin: pin.name }),
            None => Ok(()),
        }
    }

    /// The epoch of the pin, if it has been begun, and its token. What the log has is kept where the epoch is gone.
    async fn find_epoch(
        &self,
        history: &mut History,
        pin: &mut Pinned,
        local: &LocalLog,
    ) -> Result<(Option<u64>, String)> {
        let (epoch, token) = match pin.owner.clone() {
            Owner::Begins { token, .. } => {
                let is_it = |epoch: &&Epoch| epoch.note.as_ref().is_some_and(|note| note.token == token);
                let begun = history.epochs.iter().find(|(_, epoch)| is_it(epoch)).map(|(&number, _)| number);
                return Ok((begun, token));
            }
            Owner::Of { epoch, token, .. } => (epoch, token),
        };
        if let Some((own, damage)) = history.epochs.get(&epoch).and_then(|own| Some((own, own.damage.clone()?))) {
            self.hold_unlisted(pin, &own.segments, local).await?;
            let unusable = Err(Error::damaged(&epoch_key(&self.archive.prefix, epoch), damage));
            self.note_damaged::<()>(&unusable);
            unusable?;
        }
        // The list may be late.
        let own = history.epochs.entry(epoch).or_default();
        if own.note.is_none() {
            let note = self.archive.store.epoch_note(&self.archive.prefix, epoch).await;
            self.note_damaged(&note);
            own.note = note?;
        }
        if let Some(note) = &own.note {
            if note.token == token {
                return Ok((Some(epoch), token));
            }
            // It may be another log's, with none of this one's records.
            self.hold_unlisted(pin, &[], local).await?;
            let (pin, prefix) = (self.options.pin.clone(), self.archive.prefix.to_string());
            return Err(Error::OtherEpoch { pin, epoch, prefix });
        }
        let why = self.without_note(history, epoch, pin.confirmed());
        if matches!(why, Error::OtherArchive { .. }) {
            self.hold_unlisted(pin, &history.epochs[&epoch].segments, local).await?;
        }
        // Nothing says that it was forgotten.
        Err(if self.is_gone(history) && !matches!(why, Error::Forgotten { .. }) {
            Error::Gone { key: epoch_key(&self.archive.prefix, epoch).to_string() }
        } else {
            why
        })
    }

    /// Whether nothing is there of an archive that was there when this archiver began.
    fn is_gone(&self, history: &History) -> bool {
        history.epochs.values().all(Epoch::is_blank) && self.progress.lock().epoch.is_some()
    }

    /// Why the archive does not have the note of the epoch that the pin names, in which all before record `next` was confirmed.
    pub(super) fn without_note(&self, history: &History, epoch: u64, next: Lsn) -> Error {
        if let Some(deleted) = self.deleted(history, epoch) {
            return deleted;
        }
        let (pin, prefix) = (self.options.pin.clone(), self.archive.prefix.to_string());
        let objects = history.objects().filter(|object| object.epoch == epoch).count() as u64;
        Error::OtherArchive { pin, epoch, prefix, next, objects }
    }

    /// Where the log left a history that is archived, the latest such place; or its beginning.
    async fn branch(&self, history: &History, local: &LocalLog) -> Result<(Place, Option<Parent>)> {
        for segment in local.segments.iter().rev() {
            let Some(tip) = segment.predecessor else { continue };
            let named = (tip, segment.first_lsn);
            let parent = match parent_by_tip(&self.archive, history, named, u64::MAX).await {
                // No place to go on from; what is in it is told by a list.
                Err(Error::Damaged { .. }) => None,
                parent => parent?,
            };
            if let Some(parent) = parent {
                let place = Place { tip: Some(tip), after: tip.number, next: segment.first_lsn };
                return Ok((place, Some(parent)));
            }
        }
        let first = self.first_of(local)?;
        Ok((Place { tip: None, after: first.number - 1, next: first.first_lsn }, None))
    }

    fn first_of<'l>(&self, local: &'l LocalLog) -> Result<&'l Local> {
        let path = || self.source.directory().to_owned();
        local.segments.first().ok_or_else(|| mapwal::Error::NoLog { path: path() }.into())
    }

    async fn begin_epoch(
        &self,
        mut epoch: u64,
        local: &LocalLog,
        token: &str,
        (place, parent): (Place, Option<Parent>),
        (lost, instead_of): (Option<Range<Lsn>>, Option<u64>),
    ) -> Result<(u64, EpochNote)> {
        let note = EpochNote {
            version: EpochNote::VERSION,
            log: format!("{:032x}", local.log_id),
            token: token.to_owned(),
            first_lsn: place.next.0,
            parent,
            lost: lost.map(|lost| (lost.start.0, lost.end.0)),
            instead_of,
            created_unix_ms: unix_ms(),
            checksum: None,
        };
        let note = note.signed();
        // Another archiver may begin one in the same moment: each number has one maker.
        while self.archive.store.create(&epoch_key(&self.archive.prefix, epoch), encode(&note).into()).await?
            == Created::Other
        {
            let key = epoch_key(&self.archive.prefix, epoch);
            let other = match self.archive.store.epoch_note(&self.archive.prefix, epoch).await {
                // Nothing that an archiver has just written.
                Err(Error::Damaged { .. }) => {
                    epoch += 1;
                    continue;
                }
                other => other?,
            };
            let Some(other) = other else { continue };
            if let Some(archived) = other.log_id().filter(|&archived| archived != local.log_id) {
                let prefix = self.archive.prefix.to_string();
                return Err(Error::OtherLog { prefix, archived, log: local.log_id });
            }
            if other.token == token {
                // Of an earlier try, whose answer was lost. It says the same but for the time, unless the log has changed since.
                let is_same = (other.first_lsn, other.parent) == (note.first_lsn, note.parent);
                return if is_same { Ok((epoch, other)) } else { Err(Error::damaged(&key, ObjectDamage::Contents)) };
            }
            epoch += 1;
        }
        if let Some(lost) = lsn_range(note.lost) {
            tracing::warn!(
                epoch,
                first = lost.start.0,
                next = lost.end.0,
                "records before the epoch are missing in the archive"
            );
        }
        tracing::info!(epoch, lsn = place.next.0, "epoch begun");
        Ok((epoch, note))
    }

    /// Lets the log trim what the archive has of it: all before the place of `session`, also what was missing of that in `listed`, as far as the
    /// log has it. What comes after is kept.
    async fn begin_session(&self, mut session: Session, local: &LocalLog, listed: History) -> Result<Session> {
        let place = session.place;
        let confirmed = session.confirmed();
        self.hold(&mut session.pin, (place.next, confirmed), local).await?;
        self.audit(&mut session, listed).await?;
        let released = session.released();
        let moved = self.move_pin(&session, (released, session.confirmed())).await?;
        session.pinned(moved);
        self.know(&session.pin, session.confirmed());
        self.note(|progress| {
            progress.epoch = Some(session.epoch);
            progress.sealed = released;
        });
        self.note_place(&session);
        Ok(session)
    }

    /// Notes that all before the session's place is archived, and parts of what follows.
    pub(super) fn note_place(&self, session: &Session) {
        let archived = session.parts.as_ref().map_or(session.place.next, |parts| parts.next);
        self.note(|progress| {
            progress.archived_only(archived);
            progress.place = (session.place.after, session.parts.as_ref().map_or(0, |parts| parts.end));
        });
    }
}
