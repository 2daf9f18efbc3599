//! The archiver's pin: whose it says that it is, and what it keeps.

use std::ops::Range;
use std::sync::Arc;

use mapwal::{LogReader, Lsn, PinDirectory, PinState, PinStatus};

use super::Archiver;
use super::lock::PinLock;
use super::options::ArchiverOptions;
use super::session::Session;
use super::source::{Local, LocalLog, Source};
use crate::epoch::{Owner, token};
use crate::error::{Error, Result};
use crate::gaps::MissingRecords;
use crate::history::History;
use crate::object::ArchivedSegment;

/// What the pin says.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    pub(crate) owner: Owner,
    /// The first record that it keeps: it goes back no further than its limit allows.
    pub(crate) from: Lsn,
}

impl Pinned {
    /// What pin `found` says, also if it is lost; `None` if it is no archiver's.
    pub(crate) fn of(found: &PinStatus) -> Option<Self> {
        Some(Self { owner: Owner::parse(&found.owner)?, from: found.lsn })
    }

    /// The record before which all was confirmed, wherever the pin is.
    pub(crate) fn confirmed(&self) -> Lsn {
        match self.owner {
            Owner::Of { confirmed, .. } => confirmed.unwrap_or(self.from),
            Owner::Begins { .. } => self.from,
        }
    }

    /// Whose it is where all before record `next` is confirmed, wherever it is.
    pub(crate) fn confirming(&self, next: Lsn) -> Owner {
        match self.owner.clone() {
            Owner::Of { epoch, token, .. } => Owner::Of { epoch, token, confirmed: Some(next) },
            owner @ Owner::Begins { .. } => owner,
        }
    }

    /// Whose it is when it is moved to record `to`, where all before record `confirmed` is. That is said before it is moved, and so of where it was
    /// as well.
    fn moving(&self, to: Lsn, confirmed: Lsn) -> Owner {
        match self.confirming(confirmed) {
            // The pin's place says so, before and after.
            Owner::Of { epoch, token, .. } if self.from == self.confirmed() && to.max(self.from) == confirmed => {
                Owner::Of { epoch, token, confirmed: None }
            }
            owner => owner,
        }
    }
}

impl Archiver {
    /// Has the log keep all of its records, or as many as half of the pin's limit allows, if it was archived in an epoch under the pin of `options`: where the
    /// archive cannot be found, nothing says that it still has what was confirmed. An archiver that finds it moves the pin on.
    ///
    /// Call it again while the archive is waited for: what the pin keeps of what was confirmed is given up before the log grows beyond its limit, and what was
    /// not is kept. A pin that is lost by then is made anew.
    ///
    /// # Errors
    /// [`Error::Busy`] when an archiver of the log is at work under this pin; [`Error::Log`] when the pins cannot be read, or written; [`Error::Io`].
    pub fn keep_all(log: &LogReader, options: &ArchiverOptions) -> Result<()> {
        let name = &options.pin;
        let _lock = PinLock::take(log.directory(), name)?;
        let source = Source::Reader(log.clone(), Arc::new(PinDirectory::open(log.directory())?));
        let Some(found) = source.pin(name)?.filter(|found| found.state != PinState::Damaged) else { return Ok(()) };
        if let Some(owner @ Owner::Of { .. }) = Owner::parse(&found.owner) {
            let pin = Pinned { owner, from: found.lsn };
            let pin = if keeps_any(found.state) {
                limited(&source, options, pin, found.limit_bytes)?
            } else {
                make_anew(&source, options, pin.confirming(pin.confirmed()))?
            };
            let first = source.first_lsn()?;
            if first < pin.from {
                take_back(&source, name, &pin.confirming(pin.confirmed()).to_string(), first)?;
            }
        }
        Ok(())
    }

    /// The pin; makes one if there is none, and anew one that is lost.
    pub(super) async fn pinned(&self, local: &LocalLog) -> Result<Pinned> {
        let options = self.options.clone();
        let first = local.segments.first().map_or(Lsn::FIRST, |segment| segment.first_lsn);
        let known = self.progress.lock().owner.clone();
        let made = self.change(move |source| {
            let name = &options.pin;
            let found = source.pin(name)?;
            let is_there = found.is_some();
            if let Some(found) = found {
                match Owner::parse(&found.owner) {
                    Some(owner) if found.state == PinState::Lost => {
                        let lost = Pinned { owner, from: found.lsn };
                        let anew = make_anew(source, &options, last_told(&lost, known));
                        return anew.map(|pin| (pin, options.pin_limit_bytes));
                    }
                    _ if !keeps_any(found.state) => {}
                    Some(owner) => return Ok((Pinned { owner, from: found.lsn }, found.limit_bytes)),
                    None => return Err(Error::PinTaken { pin: options.pin, owner: found.owner }),
                }
            }
            let owner = Owner::Begins { token: token(), abandoned: None };
            let told = owner.to_string();
            if is_there {
                source.replace_pin(name, &told, first, options.pin_limit_bytes)?;
            } else {
                source.create_pin(name, &told, first, options.pin_limit_bytes)?;
            }
            Ok((Pinned { owner, from: first }, options.pin_limit_bytes))
        });
        let (mut pinned, limit_bytes) = made.await?;
        let (options, pin) = (self.options.clone(), pinned.clone());
        let eased = self.change(move |source| limited(source, &options, pin, limit_bytes)).await;
        self.unless_full(eased)?.into_iter().for_each(|eased| pinned = eased);
        self.know(&pinned, pinned.confirmed());
        Ok(pinned)
    }

    /// Remembers the epoch that the pin names, and that all before record `confirmed` is confirmed: it may be lost, or dropped.
    pub(super) fn know(&self, pin: &Pinned, confirmed: Lsn) {
        if let owner @ Owner::Of { .. } = pin.confirming(confirmed) {
            self.note(|progress| progress.owner = Some(owner));
        }
    }

    /// Has a pin that was made in the place of one that was dropped say again where the log was archived: that archive is gone, and is waited for, by the
    /// next archiver as well.
    pub(super) async fn remember(&self, pin: &Pinned) -> Result<()> {
        let known = self.progress.lock().owner.clone();
        let Some(known) = known.filter(|_| matches!(pin.owner, Owner::Begins { abandoned: None, .. })) else {
            return Ok(());
        };
        let (name, owner) = (self.options.pin.clone(), known.to_string());
        let told = self.change(move |source| source.assign_pin(&name, &owner)).await;
        self.unless_full(told).map(drop)
    }

    /// Notes what the archive has of what was confirmed in `epoch`, for as long as it cannot be gone on with; what it lacks and the log has is kept
    /// from here on.
    pub(super) async fn compare_confirmed(
        &self,
        history: &History,
        epoch: u64,
        pin: &mut Pinned,
        local: &LocalLog,
    ) -> Result<()> {
        let confirmed = pin.confirmed();
        let missing = history.missing(epoch, confirmed)?;
        let held = first_kept(local, history, epoch, &missing);
        // After what is missing in the middle, and in the log as well, the archive goes on.
        let end = missing.last().filter(|last| last.lsns.end >= confirmed).map(|last| last.lsns.start);
        let archived = [held, end].into_iter().flatten().min().unwrap_or(confirmed).min(confirmed);
        let own = &history.noted(epoch)?.0.segments;
        let sealed = own.iter().map(|segment| segment.next_lsn).filter(|&next| next <= archived).max();
        let sealed = if archived < confirmed { sealed.unwrap_or(archived) } else { confirmed };
        self.note(|progress| {
            let is_first = progress.epoch.replace(epoch).is_none();
            if is_first || archived < confirmed {
                progress.sealed = sealed;
                progress.archived_only(archived);
                progress.place = (local.last_before(archived), 0);
            }
        });
        match held {
            Some(from) => self.hold(pin, (from, confirmed), local).await,
            None => Ok(()),
        }
    }

    /// As [`Self::hold_firmly`], where going on without it does no harm: the pin may stay where it is for lack of room.
    pub(super) async fn hold(&self, pin: &mut Pinned, from: (Lsn, Lsn), local: &LocalLog) -> Result<()> {
        let held = self.hold_firmly(pin, from, local).await;
        self.unless_full(held).map(drop)
    }

    /// Takes the pin back to record `from`, or as far as it goes: what the log has from there on is not in the archive, also where it was confirmed. The pin
    /// says that this was so before record `confirmed`.
    pub(super) async fn hold_firmly(
        &self,
        pin: &mut Pinned,
        (from, confirmed): (Lsn, Lsn),
        local: &LocalLog,
    ) -> Result<()> {
        if from >= pin.from {
            return Ok(());
        }
        self.note(|progress| {
            progress.sealed = progress.sealed.min(from);
            if from < progress.archived {
                progress.archived_only(from);
                progress.place = (local.last_before(from), 0);
            }
        });
        let owner = pin.confirming(confirmed);
        let (name, told) = (self.options.pin.clone(), owner.to_string());
        let now = self.change(move |source| take_back(source, &name, &told, from)).await?;
        if now < pin.from {
            tracing::warn!(lsn = now.0, confirmed = confirmed.0, "pin taken back: the archive lacks what the log has");
        }
        *pin = Pinned { owner, from: now };
        self.note(|progress| progress.pin_error = None);
        Ok(())
    }

    /// What a change of the pin has given, or `None` if there was no room for it on the log's disk: then the pin keeps what it kept, which does no harm, and
    /// what is archived is what makes room. It is told until the pin can be changed.
    fn unless_full<T>(&self, changed: Result<T>) -> Result<Option<T>> {
        let told = match changed {
            Err(error @ Error::Log(mapwal::Error::NoSpace { .. })) => error.in_one_line(),
            changed => return changed.map(Some),
        };
        if self.progress.lock().pin_error.replace(told.clone()).is_none() {
            tracing::warn!(error = told, "the pin stays where it is");
        }
        Ok(None)
    }

    /// Has a pin that keeps what is missing keep no more of that than its limit allows.
    pub(super) async fn ease_pin(&self, pin: &mut Pinned) -> Result<()> {
        if self.options.pin_limit_bytes.is_some() && pin.from < pin.confirmed() {
            let (options, eased) = (self.options.clone(), pin.clone());
            let eased = self.change(move |source| ease(source, &options, eased)).await;
            self.unless_full(eased)?.into_iter().for_each(|eased| *pin = eased);
        }
        Ok(())
    }

    /// As [`Self::hold`], from the first segment on that is none of those that are `listed`, of an epoch whose note cannot be used.
    pub(super) async fn hold_unlisted(
        &self,
        pin: &mut Pinned,
        listed: &[ArchivedSegment],
        local: &LocalLog,
    ) -> Result<()> {
        let is_gone = |segment: &&Local| listed.iter().all(|listed| listed.number != segment.number);
        let Some(segment) = local.segments.iter().find(is_gone) else { return Ok(()) };
        let confirmed = pin.confirmed();
        self.hold(pin, (segment.first_lsn, confirmed), local).await
    }

    /// Moves the pin of `session` to record `to`, before which the log may trim all, where all before record `confirmed` is confirmed; or leaves it for lack of
    /// room. The pin as it is then, if it was changed.
    pub(super) async fn move_pin(&self, session: &Session, (to, confirmed): (Lsn, Lsn)) -> Result<Option<Pinned>> {
        let pin = &session.pin;
        let moved = Pinned { owner: pin.moving(to, confirmed), from: pin.from.max(to) };
        let told = (moved.owner != pin.owner || !session.is_told).then(|| moved.owner.to_string());
        let is_moved = pin.from < to;
        if told.is_none() && !is_moved {
            return Ok(None);
        }
        let name = self.options.pin.clone();
        let changed = self.change(move |source| {
            told.map_or(Ok(()), |owner| source.assign_pin(&name, &owner))?;
            if is_moved { source.advance_pin(&name, to) } else { Ok(()) }
        });
        let changed = self.unless_full(changed.await)?;
        if changed.is_some() {
            self.note(|progress| (progress.sealed, progress.pin_error) = (to, None));
        }
        Ok(changed.map(|()| moved))
    }

    /// Says, durably, that another epoch is to be begun, with a new token, in the place of one that is `abandoned`: a try that is interrupted
    /// goes on with it.
    pub(super) async fn leave_epoch(&self, pin: &mut Pinned, abandoned: Option<u64>) -> Result<String> {
        let (name, token) = (self.options.pin.clone(), token());
        pin.owner = Owner::Begins { token: token.clone(), abandoned };
        let told = pin.owner.to_string();
        self.change(move |source| source.assign_pin(&name, &told)).await?;
        Ok(token)
    }

    /// Leaves the epoch of the pin if that is the one to be abandoned.
    pub(super) async fn abandon(&self, pin: &mut Pinned) -> Result<()> {
        match pin.owner {
            Owner::Of { epoch, .. } if self.options.abandon_epoch == Some(epoch) => {
                tracing::warn!(epoch, "epoch abandoned");
                self.leave_epoch(pin, Some(epoch)).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Drops the pin if nothing will ever be archived under it: it would keep everything. One that says where the log was archived keeps that where
    /// `error` says that this is another log's archive.
    pub(super) async fn withdraw(&self, error: &Error, pin: &mut Pinned, local: &LocalLog) -> Result<()> {
        if matches!((error, &pin.owner), (Error::OtherLog { .. }, Owner::Of { .. })) {
            return self.hold_unlisted(pin, &[], local).await;
        }
        if error.is_transient() || !matches!(pin.owner, Owner::Begins { abandoned: None, .. }) {
            return Ok(());
        }
        let pin = self.options.pin.clone();
        self.change(move |source| source.drop_pin(&pin)).await
    }
}

fn keeps_any(state: PinState) -> bool {
    !matches!(state, PinState::Lost | PinState::Damaged)
}

/// The pin, which has had the limit `limit_bytes`, with the one that is asked for by now: it moves on before it gets a lower one, to which a trim in
/// between would lose it.
fn limited(source: &Source, options: &ArchiverOptions, pin: Pinned, limit_bytes: Option<u64>) -> Result<Pinned> {
    let eased = ease(source, options, pin)?;
    if limit_bytes != options.pin_limit_bytes {
        source.limit_pin(&options.pin, options.pin_limit_bytes)?;
        tracing::info!(from = limit_bytes, to = options.pin_limit_bytes, "the pin has another limit");
    }
    Ok(eased)
}

/// The pin, moved on to where half of its limit allows, if it soon holds back more than the limit, and keeps what was confirmed once: beyond that it would be
/// lost, with all that was not.
fn ease(source: &Source, options: &ArchiverOptions, pin: Pinned) -> Result<Pinned> {
    let Some(limit) = options.pin_limit_bytes.filter(|_| pin.from < pin.confirmed()) else { return Ok(pin) };
    if source.pin(&options.pin)?.is_none_or(|found| found.retained_bytes <= limit / 4 * 3) {
        return Ok(pin);
    }
    // A log that was truncated may end before what was confirmed.
    let to = source.look()?.first_within(limit / 2).map_or(pin.from, |first| first.min(pin.confirmed()));
    source.advance_pin(&options.pin, to)?;
    tracing::warn!(lsn = to.0, "the pin keeps no more of what the archive lacks: that is more than its limit allows");
    Ok(Pinned { from: pin.from.max(to), ..pin })
}

/// Whose the `lost` pin is, with up to where all was confirmed, of which more may be `known` than it says.
fn last_told(lost: &Pinned, known: Option<Owner>) -> Owner {
    let confirmed = match (&lost.owner, known) {
        (Owner::Of { token, .. }, Some(Owner::Of { token: same, confirmed, .. })) if *token == same => confirmed,
        _ => None,
    };
    lost.confirming(lost.confirmed().max(confirmed.unwrap_or_default()))
}

/// Makes the pin of `options` anew, which is lost: at the oldest record that the log has, or that half of its limit allows. In one step: without a pin the next
/// archiver would begin as if the log had never been archived.
fn make_anew(source: &Source, options: &ArchiverOptions, owner: Owner) -> Result<Pinned> {
    let told = owner.to_string();
    let mut tries = 0;
    loop {
        let local = source.look()?;
        let limit = options.pin_limit_bytes.map_or(u64::MAX, |limit| limit / 2);
        let path = || source.directory().to_owned();
        let from = local.first_within(limit).ok_or_else(|| mapwal::Error::NoLog { path: path() })?;
        match source.replace_pin(&options.pin, &told, from, options.pin_limit_bytes) {
            // Meanwhile.
            Err(Error::Log(mapwal::Error::Trimmed { .. })) if tries < 10 => tries += 1,
            replaced => {
                replaced?;
                tracing::warn!(lsn = from.0, owner = told, "the pin was lost, and is made anew");
                return Ok(Pinned { owner, from });
            }
        }
    }
}

/// Takes pin `name` back to record `from`, or as far as it goes; where it is then. It is said first whose it is, and up to where all was confirmed.
fn take_back(source: &Source, name: &str, owner: &str, from: Lsn) -> Result<Lsn> {
    if source.pin(name)?.is_some_and(|pin| pin.owner != owner) {
        source.assign_pin(name, owner)?;
    }
    source.rewind_pin(name, from)?;
    Ok(source.pin(name)?.map_or(from, |pin| pin.lsn))
}

/// The first record that the log has, and that is `missing` of `epoch`, or of one before it that cannot be followed: nothing says what there is of that.
pub(super) fn first_kept(local: &LocalLog, listed: &History, epoch: u64, missing: &[MissingRecords]) -> Option<Lsn> {
    let next = |at: usize| local.segments.get(at + 1).map_or(Lsn(u64::MAX), |next| next.first_lsn);
    let first = |lsns: Range<Lsn>| {
        let mut segments = local.segments.iter().enumerate();
        let has_some = |&(at, segment): &(usize, &Local)| segment.first_lsn < lsns.end && lsns.start < next(at);
        segments.find(has_some).map(|(_, segment)| segment.first_lsn.max(lsns.start))
    };
    missing.iter().map(|missing| missing.lsns.clone()).chain(listed.unknown(epoch)).filter_map(first).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is said first, and then the pin is moved: a crash may come in between.
    #[test]
    fn what_a_pin_says_of_what_was_confirmed_is_so_before_and_after_it_is_moved() {
        for (from, told) in [(301, None), (301, Some(301)), (301, Some(901)), (601, Some(301)), (901, None)] {
            for (to, next) in [(301, 901), (401, 901), (901, 901), (901, 1001), (1001, 1001), (301, 401)] {
                let owner = Owner::Of { epoch: 1, token: token(), confirmed: told.map(Lsn) };
                let pin = Pinned { owner, from: Lsn(from) };
                let confirmed = pin.confirmed().max(Lsn(next));
                let owner = pin.moving(Lsn(to), confirmed);
                let between = Pinned { owner: owner.clone(), from: pin.from };
                let moved = Pinned { owner, from: pin.from.max(Lsn(to)) };
                let what = format!("{pin:?} to {to}, confirmed {confirmed}");
                assert!([pin.confirmed(), confirmed].contains(&between.confirmed()), "{what}: {between:?}");
                assert_eq!(moved.confirmed(), confirmed, "{what}: {moved:?}");
            }
        }
    }
}
