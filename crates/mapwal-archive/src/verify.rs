//! Reading everything again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use futures_util::{StreamExt, stream};
use mapwal::inspect::SegmentCheck;
use mapwal::{Lsn, SegmentTip};
use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::backoff::patiently;
use crate::conflict::{Claims, judge_faults, tell_misnamed};
use crate::error::{Error, ObjectDamage, Result};
use crate::faults::faults;
use crate::frames::read_checked;
use crate::gaps::told;
use crate::history::History;
use crate::object::{ArchivedSegment, epoch_key, is_note};
use crate::overlap::in_a_row;
use crate::rebuild::disproven;

/// Objects that are read at the same time.
const AT_ONCE: usize = 4;

/// The log that an object is of, and the end of the segment before it.
type Begin = Option<(u128, Option<SegmentTip>)>;

/// How far a verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Objects that have been looked at, and all.
    pub objects: (u64, u64),
    /// Bytes of them, and of all.
    pub bytes: (u64, u64),
}

/// What a verification has found. To be kept, as JSON or otherwise, for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Epochs: 0 if there is no archive.
    pub epochs: u64,
    /// Objects that were read.
    pub read: u64,
    /// Objects that had not changed since the earlier report.
    pub unchanged: u64,
    /// Objects that are not what their keys say.
    pub damaged: Vec<(String, ObjectDamage)>,
    /// Objects that could not be read, and why: they may not be, or their disk has failed there.
    #[serde(default)]
    pub unread: Vec<(String, String)>,
    /// What keeps an epoch from being restored to its end.
    pub faults: Vec<EpochFault>,
    /// Those whose frames are sound: their lengths, and what tells their versions apart. A report of a verification that did not check
    /// frames has another name for it.
    #[serde(default, rename = "checked")]
    sound: BTreeMap<String, (u64, Option<String>)>,
}

/// What is wrong between the objects of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EpochFault {
    /// Records are missing: from the first number, up to but without the second.
    Gap {
        /// The epoch.
        epoch: u64,
        /// The missing records.
        missing: (u64, u64),
    },
    /// Records before it, which no epoch leads to: they were trimmed before they were archived, or have vanished with their epoch. From
    /// the first number, up to but without the second. No restore has both what is before them and what comes after.
    Lost {
        /// The epoch that begins after them.
        epoch: u64,
        /// The lost records.
        missing: (u64, u64),
    },
    /// An object has another length than its key says. What is before it can be restored.
    Damaged {
        /// The epoch.
        epoch: u64,
        /// The object.
        key: String,
        /// Its length.
        damage: ObjectDamage,
    },
    /// An object that an epoch before this one has as well, where it belongs: no restore needs this one.
    Copy {
        /// The epoch.
        epoch: u64,
        /// The object.
        key: String,
        /// The one of the other epoch.
        original: String,
    },
    /// Two objects have the same record, and differ: one of them is another log's. What is before it can be restored.
    Conflict {
        /// The epoch.
        epoch: u64,
        /// One object.
        key: String,
        /// The other one.
        other: String,
        /// The first record that both have.
        lsn: u64,
        /// What else is known of them.
        claims: Claims,
    },
    /// The note of the epoch, or of one that it continues, is missing or cannot be used: nothing of it can be restored.
    Note {
        /// The epoch.
        epoch: u64,
        /// The note.
        key: String,
        /// What is wrong with it.
        damage: ObjectDamage,
    },
    /// An older epoch has all records that the newest one leads to, and more: this may be that of an old copy of the log's directory.
    Less {
        /// The newest epoch.
        epoch: u64,
        /// The older one.
        longer: u64,
    },
    /// It cannot be followed, for another reason.
    Broken {
        /// The epoch.
        epoch: u64,
        /// Why.
        why: String,
    },
}

impl fmt::Display for EpochFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { epoch, missing: (from, to) } => {
                write!(f, "epoch {epoch}: {}", told(&(Lsn(*from)..Lsn(*to)), ""))
            }
            Self::Lost { epoch, missing: (from, to) } => {
                write!(f, "epoch {epoch}: records {from}..{}, before its first one, are missing", to.saturating_sub(1))
            }
            Self::Damaged { epoch, key, damage } => write!(f, "epoch {epoch}: {key} is damaged: {damage}"),
            Self::Copy { epoch, key, original } => write!(f, "epoch {epoch}: {key} is a copy of {original}"),
            Self::Conflict { epoch, key, other, lsn, claims } => {
                write!(f, "epoch {epoch}: {key} and {other} both have record {lsn}, and differ{claims}")
            }
            Self::Note { epoch, key, damage } => {
                write!(f, "epoch {epoch}: ")?;
                Error::Damaged { key: key.clone(), damage: damage.clone(), offset: None, lsn: None }.fmt(f)
            }
            Self::Less { epoch, longer } => {
                write!(
                    f,
                    "epoch {epoch}, the newest, has less than epoch {longer}: that has all of its records, and more"
                )
            }
            Self::Broken { epoch, why } => write!(f, "epoch {epoch}: {why}"),
        }
    }
}

impl EpochFault {
    pub(crate) fn of(epoch: u64, error: Error) -> Self {
        match error {
            Error::Conflict { key, other, lsn, claims } => Self::Conflict { epoch, key, other, lsn: lsn.0, claims },
            Error::Damaged { key, damage, .. } if is_note(&key) => Self::Note { epoch, key, damage },
            Error::Damaged { key, damage, .. } => Self::Damaged { epoch, key, damage },
            error => Self::Broken { epoch, why: error.to_string() },
        }
    }
}

impl VerifyReport {
    /// Whether nothing is damaged or missing, and all could be read.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.faults.is_empty() && self.unread.is_empty()
    }

    fn knows(&self, object: &ArchivedSegment) -> bool {
        // A length alone does not tell one version from another.
        let version = (object.stored_bytes, object.e_tag.clone());
        version.1.is_some() && self.sound.get(object.key.as_ref()) == Some(&version)
    }
}

pub(crate) async fn verify(
    archive: &Archive,
    earlier: Option<&VerifyReport>,
    progress: &mut (dyn FnMut(VerifyProgress) + Send),
) -> Result<VerifyReport> {
    let history = archive.look().await?;
    let epochs = history.epochs.len() as u64;
    let mut report = VerifyReport { epochs, faults: faults(&history), ..VerifyReport::default() };
    let all = history.all_objects().fold((0, 0), |all, object| (all.0 + 1, all.1 + object.len_bytes));
    let is_known =
        |row: &Vec<&ArchivedSegment>| earlier.is_some_and(|earlier| row.iter().all(|object| earlier.knows(object)));
    let (known, unknown): (Vec<_>, Vec<_>) = rows(&history).into_iter().partition(is_known);
    let mut seen = VerifyProgress { objects: (0, all.0), bytes: (0, all.1) };
    let mut note = |report: &mut VerifyReport, object: &ArchivedSegment, damage: Option<ObjectDamage>| {
        let key = object.key.to_string();
        match damage {
            Some(damage) => report.damaged.push((key, damage)),
            None => drop(report.sound.insert(key, (object.stored_bytes, object.e_tag.clone()))),
        }
        (seen.objects.0, seen.bytes.0) = (seen.objects.0 + 1, seen.bytes.0 + object.len_bytes);
        progress(seen);
    };
    for object in known.into_iter().flatten() {
        report.unchanged += 1;
        note(&mut report, object, None);
    }
    let checks = unknown.into_iter().map(|row| check(archive, row));
    let mut checks = stream::iter(checks).buffer_unordered(AT_ONCE).flat_map(stream::iter);
    let mut logs = BTreeMap::<u64, Vec<(u128, String)>>::new();
    let mut predecessors = HashMap::new();
    while let Some((object, checked)) = checks.next().await {
        let is_read = match &checked {
            Ok(_) => true,
            Err(Error::Damaged { damage, .. }) => *damage != ObjectDamage::Missing,
            Err(_) => false,
        };
        report.read += u64::from(is_read);
        match checked {
            Ok(begin) => {
                if let Some((log, predecessor)) = begin {
                    logs.entry(object.epoch).or_default().push((log, object.key.to_string()));
                    predecessors.insert(object.key.to_string(), predecessor);
                }
                note(&mut report, object, None);
            }
            Err(Error::Damaged { damage, .. }) => note(&mut report, object, Some(damage)),
            Err(error) if error.is_of_one_object() => report.unread.push((object.key.to_string(), error.in_one_line())),
            Err(error) => return Err(error),
        }
    }
    report.unread.extend(history.unread());
    report.damaged.sort_by(|a, b| a.0.cmp(&b.0));
    report.unread.sort();
    let is_missing = |(_, damage): &(String, ObjectDamage)| *damage == ObjectDamage::Missing;
    if report.damaged.iter().any(is_missing) {
        // An archiver, or a prune, may have deleted it meanwhile: then it is in no list any more, and nothing lacks it.
        let history = archive.look().await?;
        report.faults = faults(&history);
        report.damaged.retain(|damaged| !is_missing(damaged) || history.has(&damaged.0));
    }
    compare(archive, &history, earlier, &mut report).await?;
    judge_faults(archive, &history, &mut report.faults).await?;
    judge_logs(archive, &history, logs, &mut report).await?;
    judge_links(&history, &predecessors, &mut report);
    tell_misnamed(&history, report.damaged.iter_mut().map(|(key, damage)| (&**key, damage)));
    // Each thing is told once.
    let is_unread = |damage: &ObjectDamage| matches!(damage, ObjectDamage::Unreadable { .. });
    report.faults.retain(|fault| !matches!(fault, EpochFault::Note { damage, .. } if is_unread(damage)));
    let damaged: Vec<_> = report.damaged.iter().map(|(key, _)| key.clone()).collect();
    report.faults.retain(|fault| !matches!(fault, EpochFault::Damaged { key, .. } if damaged.contains(key)));
    Ok(report)
}

/// Compares objects that have bytes of one segment, unless they were sound together before.
async fn compare(
    archive: &Archive,
    history: &History,
    earlier: Option<&VerifyReport>,
    report: &mut VerifyReport,
) -> Result<()> {
    for (&epoch, own) in &history.epochs {
        for overlap in own.overlaps() {
            if earlier.is_some_and(|earlier| overlap.objects().all(|object| earlier.knows(object))) {
                continue;
            }
            match patiently(|| overlap.check(archive, Lsn(u64::MAX))).await {
                Err(error @ Error::Conflict { .. }) => {
                    report.faults.push(EpochFault::of(epoch, error));
                    for object in overlap.objects() {
                        report.sound.remove(object.key.as_ref());
                    }
                }
                // It has been named.
                Err(error) if error.is_of_one_object() => {}
                checked => checked?,
            }
        }
    }
    Ok(())
}

/// Compares the notes with the `logs` that the objects of their epochs are of. Where none of these is of the note's log, the first and the last
/// object say which of both is wrong.
async fn judge_logs(
    archive: &Archive,
    history: &History,
    mut logs: BTreeMap<u64, Vec<(u128, String)>>,
    report: &mut VerifyReport,
) -> Result<()> {
    for (&epoch, note) in history.epochs.iter().filter_map(|(epoch, own)| Some((epoch, own.note.as_ref()?))) {
        let (alike, others): (Vec<_>, Vec<_>) =
            logs.remove(&epoch).unwrap_or_default().into_iter().partition(|(log, _)| Some(*log) == note.log_id());
        if alike.is_empty() {
            let disproven = match disproven(archive, history, epoch).await {
                // It has been named.
                Err(error) if error.is_of_one_object() => None,
                disproven => disproven?,
            };
            if let Some(damage) = disproven {
                let key = epoch_key(&archive.prefix, epoch).to_string();
                report.faults.push(EpochFault::Note { epoch, key, damage });
                continue;
            }
        }
        for (_, key) in others {
            report.sound.remove(&key);
            report.damaged.push((key, ObjectDamage::Identity));
        }
    }
    report.damaged.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(())
}

/// Compares what the first frames of objects name as the segment before with the one that is there.
fn judge_links(history: &History, predecessors: &HashMap<String, Option<SegmentTip>>, report: &mut VerifyReport) {
    for chain in history.epochs.keys().filter_map(|&epoch| history.reach(epoch).ok()) {
        for pair in chain.pieces.windows(2) {
            let key = pair[1].objects[0].key.as_ref();
            let fault = predecessors.get(key).and_then(|&predecessor| pair[0].fault_of_next(predecessor));
            // Several epochs may have it.
            if let Some(damage) = fault.filter(|_| report.damaged.iter().all(|(damaged, _)| damaged != key)) {
                report.sound.remove(key);
                report.damaged.push((key.to_owned(), damage));
            }
        }
    }
    report.damaged.sort_by(|a, b| a.0.cmp(&b.0));
}

/// Compares the bytes of the objects of `row` with their keys and lengths, and checks the frames from the segment's first one on. Returns the
/// log that each is of, and the segment that its segment follows, where that is known.
async fn check<'a>(archive: &Archive, row: Vec<&'a ArchivedSegment>) -> Vec<(&'a ArchivedSegment, Result<Begin>)> {
    let mut frames = row.first().filter(|first| first.part.unwrap_or(0) == 0).map(|_| SegmentCheck::new());
    let mut checked = Vec::new();
    for object in row {
        let read = patiently(|| read_checked(archive, object, frames.as_ref(), |_, _| Ok(())));
        let (after, result) = match read.await {
            Ok(after) => {
                let begin = after.as_ref().and_then(|after| Some((after.log_id()?, after.predecessor())));
                (after, Ok(begin))
            }
            Err(error) => (None, Err(error)),
        };
        frames = after;
        checked.push((object, result));
    }
    checked
}

/// The objects of an archive: segments, and parts in a row, which can be checked after the ones before them.
fn rows(history: &History) -> Vec<Vec<&ArchivedSegment>> {
    let mut rows = Vec::new();
    for epoch in history.epochs.values() {
        let strays = epoch.strays.iter().map(|stray| &stray.object);
        rows.extend(epoch.segments.iter().chain(strays).map(|segment| vec![segment]));
        for parts in epoch.parts.chunk_by(|a, b| a.number == b.number) {
            let chosen = in_a_row(parts);
            let (row, others): (Vec<_>, Vec<_>) =
                parts.iter().partition(|part| chosen.iter().any(|chosen| chosen.key == part.key));
            rows.extend(others.into_iter().map(|part| vec![part]));
            rows.push(row);
        }
    }
    rows
}
