//! What can be restored where not all can.

use std::ops::Range;

use mapwal::Lsn;

use super::plan::Plan;
use super::{RestoreOptions, RestoreTo};
use crate::archive::Archive;
use crate::conflict::{check, judge};
use crate::error::{Error, Result};
use crate::history::History;
use crate::object::{ArchivedSegment, epoch_key, is_note};

/// What can be restored of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restorable {
    /// The epoch.
    pub epoch: u64,
    /// Whether it is the one that the options ask for.
    pub is_asked_for: bool,
    /// Whether a restore to its latest record can be done.
    pub is_whole: bool,
    /// The records that a restore to the last one of them gives.
    pub lsns: Range<Lsn>,
}

pub(crate) async fn restorable(
    archive: &Archive,
    options: &RestoreOptions,
    wrong: Option<&Error>,
) -> Result<Vec<Restorable>> {
    let mut history = archive.look().await?;
    let damaged = history.objects().filter(|object| object.damage().is_some()).map(|object| object.key.to_string());
    let mut damaged: Vec<String> = damaged.collect();
    if let Some(Error::Damaged { key, damage, .. }) = wrong {
        match history.epochs.keys().copied().find(|&epoch| epoch_key(&archive.prefix, epoch).as_ref() == key) {
            // That it cannot be used may have shown only now.
            Some(epoch) => history.set_aside(epoch, damage.clone()),
            None if is_note(key) => {}
            None => {
                damaged.push(key.clone());
                damaged.extend(damaged_beside(archive, &history, key).await);
            }
        }
    }
    let asked = options.epoch.or_else(|| history.newest());
    let epochs: Vec<u64> = history.epochs.keys().copied().collect();
    let mut found = Vec::new();
    for epoch in epochs.iter().copied() {
        let plan = Plan::checked(archive, &history, epoch, RestoreTo::Latest).await;
        let is_whole = plan.is_ok_and(|plan| damaged.iter().all(|key| !plan.has(key)));
        found.push(Restorable { epoch, is_asked_for: asked == Some(epoch), is_whole, lsns: Lsn(0)..Lsn(0) });
    }
    for key in &damaged {
        history.remove(key);
    }
    for restorable in &mut found {
        restorable.lsns = last_of(archive, &mut history, restorable.epoch).await.unwrap_or(Lsn(0)..Lsn(0));
    }
    found.retain(|restorable| !restorable.lsns.is_empty());
    Ok(found)
}

/// The records that a restore of `epoch` to the last one of them gives, as many as there are.
async fn last_of(archive: &Archive, history: &mut History, epoch: u64) -> Option<Range<Lsn>> {
    let mut next = history.reach(epoch).ok()?.lsns.end;
    loop {
        let lsns = history.reach(epoch).ok()?.lsns;
        next = next.min(lsns.end);
        if next <= lsns.start {
            return None;
        }
        let last = Lsn(next.0 - 1);
        let error = match Plan::checked(archive, history, epoch, RestoreTo::Lsn(last)).await {
            Ok(_) => return Some(lsns.start..next),
            Err(error) => judge(archive, history, error).await,
        };
        match error {
            Error::Damaged { key, .. } if history.has(&key) => history.remove(&key),
            Error::Conflict { lsn, .. } => next = lsn.min(last),
            Error::Gap { missing, .. } => next = missing.start.min(last),
            _ => return None,
        }
    }
}

/// Other objects of the epoch that have some of the same records as the one with this key, and are damaged.
async fn damaged_beside(archive: &Archive, history: &History, key: &str) -> Vec<String> {
    let Some(object) = history.objects().find(|object| object.key.as_ref() == key) else { return Vec::new() };
    let is_beside = |other: &&ArchivedSegment| {
        let is_it = other.epoch == object.epoch && other.key != object.key;
        is_it && other.first_lsn < object.next_lsn && object.first_lsn < other.next_lsn
    };
    let mut damaged = Vec::new();
    for other in history.objects().filter(is_beside) {
        if let Err(Error::Damaged { key, .. }) = check(archive, other).await {
            damaged.push(key);
        }
    }
    damaged
}
