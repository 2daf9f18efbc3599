//! The archiver's pin: whose it says that it is, and what it keeps.

use mapwal::{Lsn, PinState};

use super::Archiver;
use super::source::{Local, LocalLog};
use crate::epoch::{Owner, token};
use crate::error::{Error, Result};
use crate::gaps::MissingRecords;
use crate::history::History;

/// What the pin says.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    pub(crate) owner: Owner,
    /// The first record that it keeps.
    pub(crate) from: Lsn,
}

impl Pinned {
    /// The record before which all was confirmed, also of a pin that was taken back.
    pub(crate) fn confirmed(&self) -> Lsn {
        match self.owner {
            Owner::Of { confirmed, .. } => confirmed.map_or(self.from, |confirmed| confirmed.max(self.from)),
            Owner::Begins { .. } => self.from,
        }
    }

    /// Whose it is once it is taken back.
    pub(crate) fn taken_back(&self) -> Owner {
        match self.owner.clone() {
            Owner::Of { epoch, token, .. } => Owner::Of { epoch, token, confirmed: Some(self.confirmed()) },
            owner @ Owner::Begins { .. } => owner,
        }
    }
}

impl Archiver {
    /// The pin; makes one if there is none that still keeps anything.
    pub(super) async fn pinned(&self, local: &LocalLog) -> Result<Pinned> {
        let (name, limit) = (self.options.pin.clone(), self.options.pin_limit_bytes);
        let first = local.segments.first().map_or(Lsn::FIRST, |segment| segment.first_lsn);
        self.change(move |source| {
            if let Some(pin) = source.pin(&name)? {
                let owner = Owner::parse(&pin.owner);
                match (pin.state, owner) {
                    (PinState::Lost | PinState::Damaged, _) => source.drop_pin(&name)?,
                    (_, Some(owner)) => return Ok(Pinned { owner, from: pin.lsn }),
                    (_, None) => return Err(Error::PinTaken { pin: name, owner: pin.owner }),
                }
            }
            let owner = Owner::Begins { token: token(), abandoned: None };
            source.create_pin(&name, &owner.to_string(), first, limit)?;
            Ok(Pinned { owner, from: first })
        })
        .await
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
        let held = first_kept(local, &missing);
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
                progress.place = (last_before(local, archived), 0);
            }
        });
        match held {
            Some(from) => self.hold(pin, from, local).await,
            None => Ok(()),
        }
    }

    /// Takes the pin back to record `from`, or as far as it goes: what the log has from there on is not in the archive, also where it was confirmed. The pin
    /// still says up to where that was.
    pub(super) async fn hold(&self, pin: &mut Pinned, from: Lsn, local: &LocalLog) -> Result<()> {
        if from >= pin.from {
            return Ok(());
        }
        pin.owner = pin.taken_back();
        tracing::warn!(
            lsn = from.0,
            confirmed = pin.confirmed().0,
            "pin taken back: the archive lacks what the log has"
        );
        let (name, owner) = (self.options.pin.clone(), pin.owner.to_string());
        self.change(move |source| {
            source.assign_pin(&name, &owner)?;
            source.rewind_pin(&name, from)
        })
        .await?;
        pin.from = from;
        self.note(|progress| {
            progress.sealed = progress.sealed.min(from);
            if from < progress.archived {
                progress.archived_only(from);
                progress.place = (last_before(local, from), 0);
            }
        });
        Ok(())
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

    /// Drops the pin if nothing will ever be archived under it: it would keep everything.
    pub(super) async fn withdraw(&self, error: &Error, owner: &Owner) -> Result<()> {
        if error.is_transient() || !matches!(owner, Owner::Begins { abandoned: None, .. }) {
            return Ok(());
        }
        let pin = self.options.pin.clone();
        self.change(move |source| source.drop_pin(&pin)).await
    }
}

/// The number of the last segment of the log that ends before record `lsn`.
fn last_before(local: &LocalLog, lsn: Lsn) -> u64 {
    let before = local.segments.windows(2).filter(|pair| pair[1].first_lsn <= lsn).map(|pair| pair[0].number);
    before.max().unwrap_or(0)
}

/// The first record that is `missing` and that the log has.
pub(super) fn first_kept(local: &LocalLog, missing: &[MissingRecords]) -> Option<Lsn> {
    let next = |at: usize| local.segments.get(at + 1).map_or(Lsn(u64::MAX), |next| next.first_lsn);
    let first = |missing: &MissingRecords| {
        let mut segments = local.segments.iter().enumerate();
        let has_some =
            |&(at, segment): &(usize, &Local)| segment.first_lsn < missing.lsns.end && missing.lsns.start < next(at);
        segments.find(has_some).map(|(_, segment)| segment.first_lsn.max(missing.lsns.start))
    };
    missing.iter().filter_map(first).min()
}
