//! Two objects that have the same records, and differ: which of them is damaged, or else what tells a person which one to delete.

use std::collections::HashMap;
use std::fmt;

use mapwal::inspect::SegmentCheck;
use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::backoff::patiently;
use crate::cover::longer_than;
use crate::error::{Error, ObjectDamage, Result};
use crate::frames::read_checked;
use crate::history::History;
use crate::object::ArchivedSegment;
use crate::verify::EpochFault;

/// What is known of two objects that have the same records, and are both what their keys say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Claims {
    /// The one that the next segment of the epoch goes on from: without it nothing after it can be restored from this epoch.
    pub continued: Option<String>,
    /// Those of which another epoch has the same segment, and a sound one, each with that epoch: deleted here, it is still there.
    pub elsewhere: Vec<(String, u64)>,
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.continued {
            write!(f, "; the segment after them goes on from {key}")?;
        }
        for (key, epoch) in &self.elsewhere {
            write!(f, "; epoch {epoch} has {key} as well")?;
        }
        Ok(())
    }
}

/// The same error, or, if it is about two objects of the archive, what is found when both are read: that one of them is damaged, or what
/// is known of both.
pub(crate) async fn judge(archive: &Archive, history: &History, error: Error) -> Error {
    let Error::Conflict { key, other, lsn, .. } = error else { return named_as_other(archive, history, error).await };
    let mut claims = Claims::default();
    let both = [&key, &other].map(|key| history.objects().find(|object| object.key.as_ref() == *key));
    let mut damaged = Vec::new();
    for object in both.into_iter().flatten() {
        match check(archive, object).await {
            // It has been deleted meanwhile.
            Err(Error::Damaged { damage: ObjectDamage::Missing, .. }) => {}
            Err(Error::Damaged { key, damage, offset, lsn }) => damaged.push((key, damage, offset, lsn)),
            Ok(Some(frames)) if is_continued(archive, history, object, &frames).await => {
                claims.continued = Some(object.key.to_string());
            }
            // What cannot be read says nothing.
            _ => {}
        }
        let same =
            history.objects().filter(|it| it.key.filename() == object.key.filename() && it.epoch != object.epoch);
        for it in same {
            // The name alone does not say that it is sound.
            if check(archive, it).await.is_ok() {
                claims.elsewhere.push((object.key.to_string(), it.epoch));
            }
        }
    }
    tell_misnamed(history, damaged.iter_mut().map(|(key, damage, ..)| (&**key, damage)));
    // One that has the contents of the other comes first: without it they are lost.
    let is_misnamed = |damaged: &&(_, ObjectDamage, _, _)| matches!(damaged.1, ObjectDamage::Misnamed { .. });
    match damaged.iter().find(is_misnamed).or(damaged.first()) {
        Some((key, damage, offset, lsn)) => {
            Error::Damaged { key: key.clone(), damage: damage.clone(), offset: *offset, lsn: *lsn }
        }
        None => Error::Conflict { key, other, lsn, claims },
    }
}

/// The same error, of an object that is not what its key says; or that it has the contents that another one should have, which is damaged.
async fn named_as_other(archive: &Archive, history: &History, error: Error) -> Error {
    let Error::Damaged { key, damage: ObjectDamage::Checksum { found, .. }, .. } = &error else { return error };
    let Some(object) = history.objects().find(|object| object.key.as_ref() == key) else { return error };
    let is_other =
        |it: &&ArchivedSegment| (it.checksum, it.len_bytes) == (*found, object.len_bytes) && it.key != object.key;
    let Some(other) = history.objects().find(is_other) else { return error };
    match check(archive, other).await {
        Err(Error::Damaged { damage: ObjectDamage::Checksum { .. } | ObjectDamage::Length { .. }, .. }) => {
            Error::damaged(&object.key, ObjectDamage::Misnamed { other: other.key.to_string() })
        }
        _ => error,
    }
}

/// Says of damaged objects which have the contents that another one of them should have. That one cannot be had from elsewhere.
pub(crate) fn tell_misnamed<'a>(history: &History, damaged: impl Iterator<Item = (&'a str, &'a mut ObjectDamage)>) {
    let damaged: HashMap<&str, &mut ObjectDamage> = damaged.collect();
    if damaged.is_empty() {
        return;
    }
    let named: Vec<_> = history.objects().filter(|object| damaged.contains_key(object.key.as_ref())).collect();
    let by_contents: HashMap<_, _> =
        named.iter().rev().map(|object| ((object.checksum, object.len_bytes), object)).collect();
    let len_of: HashMap<_, _> = named.iter().map(|object| (object.key.as_ref(), object.len_bytes)).collect();
    for (key, damage) in damaged {
        // It is not its own, since that is damaged.
        let ObjectDamage::Checksum { found, .. } = *damage else { continue };
        if let Some(other) = len_of.get(key).and_then(|&len| by_contents.get(&(found, len))) {
            *damage = ObjectDamage::Misnamed { other: other.key.to_string() };
        }
    }
}

/// As [`judge`], of what is wrong with an archive; and whether the newest epoch has less than an older one.
pub(crate) async fn judge_faults(archive: &Archive, history: &History, faults: &mut Vec<EpochFault>) -> Result<()> {
    faults.extend(less(archive, history).await?);
    for fault in &mut *faults {
        if let EpochFault::Conflict { epoch, key, other, lsn, claims } = fault {
            let (key, other, lsn, claims) = (key.clone(), other.clone(), mapwal::Lsn(*lsn), claims.clone());
            *fault = EpochFault::of(*epoch, judge(archive, history, Error::Conflict { key, other, lsn, claims }).await);
        }
    }
    tell_once(faults);
    Ok(())
}

/// Leaves out what is told already. Of an object that is damaged its length may have told the same as its bytes.
fn tell_once(faults: &mut Vec<EpochFault>) {
    let mut told: Vec<EpochFault> = Vec::new();
    for fault in faults.drain(..) {
        let is_same = |other: &EpochFault| match (other, &fault) {
            (EpochFault::Damaged { key: other, .. }, EpochFault::Damaged { key, .. }) => other == key,
            (other, fault) => other == fault,
        };
        if !told.iter().any(is_same) {
            told.push(fault);
        }
    }
    *faults = told;
}

/// What a restore takes, if an older epoch has all of that, and more.
async fn less(archive: &Archive, history: &History) -> Result<Option<EpochFault>> {
    let newest = history.newest().filter(|&epoch| history.chain(epoch).is_ok_and(|chain| chain.gap.is_none()));
    let Some(epoch) = newest else { return Ok(None) };
    match longer_than(archive, history, epoch).await {
        // What cannot be read says nothing.
        Err(error) if error.is_of_one_object() => Ok(None),
        longer => Ok(longer?.map(|longer| EpochFault::Less { epoch, longer })),
    }
}

/// An error if the object is not what its key says.
pub(crate) async fn check(archive: &Archive, object: &ArchivedSegment) -> Result<Option<SegmentCheck>> {
    let begin = SegmentCheck::new();
    let before = if object.part.unwrap_or(0) == 0 { Some(&begin) } else { None };
    patiently(|| read_checked(archive, object, before, |_, _| Ok(()))).await
}

/// Whether the next segment of the epoch names the end of `object`, which has these `frames`.
async fn is_continued(archive: &Archive, history: &History, object: &ArchivedSegment, frames: &SegmentCheck) -> bool {
    let own = history.epochs.get(&object.epoch);
    let next = own.and_then(|own| own.needed().find(|next| next.number > object.number && next.part.unwrap_or(0) == 0));
    let Some(next) = next else { return false };
    let Ok(Some(next)) = check(archive, next).await else { return false };
    next.predecessor().is_some_and(|tip| {
        let is_end = (tip.number, tip.end_bytes) == (object.number, frames.offset());
        is_end && frames.expect_end(object.next_lsn, Some(tip.checksum)).is_ok()
    })
}
