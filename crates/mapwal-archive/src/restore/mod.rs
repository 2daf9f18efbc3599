//! From an archive to a directory that holds a log.

mod directory;
mod download;
mod plan;
mod rest;

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use mapwal::Lsn;
use tokio::task::JoinSet;

use crate::archive::Archive;
use crate::chain::Piece;
use crate::conflict::judge;
use crate::cover::{covers, longer_than};
use crate::error::{Error, ObjectDamage, Result};
use crate::history::History;
use crate::object::epoch_key;
use crate::rebuild::disproven;
use directory::Target;
use download::download;
use plan::Plan;
pub use rest::Restorable;
pub(crate) use rest::restorable;

/// Up to which record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreTo {
    /// The last one that is archived.
    Latest,
    /// This one, and none after it. A batch that it is in the middle of is left out as a whole.
    Lsn(Lsn),
}

/// How to restore.
///
/// ```
/// let options = mapwal_archive::RestoreOptions::new().epoch(Some(2)).parallel(8).file_mode(0o640);
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    epoch: Option<u64>,
    parallel: usize,
    file_mode: u32,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self { epoch: None, parallel: 4, file_mode: 0o600 }
    }
}

impl RestoreOptions {
    /// Of the newest epoch, four segments at a time, in files for their owner alone.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Restores this epoch, and not the newest one that has records.
    #[must_use]
    pub fn epoch(mut self, epoch: Option<u64>) -> Self {
        self.epoch = epoch;
        self
    }

    /// How many segments are downloaded at the same time, at least one. Each takes a few megabytes of memory and its longest record, however
    /// large the segments are.
    #[must_use]
    pub fn parallel(mut self, parallel: usize) -> Self {
        self.parallel = parallel.max(1);
        self
    }

    /// The permission bits of the files.
    #[must_use]
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.file_mode = mode;
        self
    }
}

/// How far a restore has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreProgress {
    /// Segments that are there, and all.
    pub segments: (u64, u64),
    /// Bytes of them, and of all.
    pub bytes: (u64, u64),
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Of which epoch.
    pub epoch: u64,
    /// The first record.
    pub first_lsn: Lsn,
    /// The number after the last one.
    pub next_lsn: Lsn,
    /// Segments, and how many of them an interrupted restore had left.
    pub segments: u64,
    /// Segments that an interrupted restore had left, and that were not downloaded again.
    pub resumed: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Records right before the first one that no epoch leads to, though the log had them.
    pub lost: Option<Range<Lsn>>,
    /// An older epoch that has all records of this one, and more: this one may be that of an old copy of the log's directory. Looked for
    /// where no epoch and no record was asked for.
    pub longer: Option<u64>,
    /// What other epochs have, each by its number: earlier records, or those of another history. Of a restore to a record, earlier ones
    /// alone.
    pub others: Vec<(u64, Range<Lsn>)>,
    /// Whether some of those come before the first one that the epoch ever led to.
    has_earlier: bool,
}

impl RestoreReport {
    /// Whether the log had records before the first restored one that have not been pruned: another epoch has them, or none.
    #[must_use]
    pub fn begins_late(&self) -> bool {
        self.lost.is_some() || self.has_earlier
    }
}

pub(crate) async fn restore(
    archive: &Archive,
    directory: &Path,
    to: RestoreTo,
    options: &RestoreOptions,
    progress: &mut (dyn FnMut(RestoreProgress) + Send),
) -> Result<RestoreReport> {
    let mut history = archive.look().await?;
    let epoch = epoch_of(archive, &history, options)?;
    let lost = history.lost_on_the_way(epoch);
    let is_earlier = |(_, lsns): &(u64, Range<Lsn>)| history.is_earlier(lsns, epoch);
    let mut others = history.beside(epoch);
    others.retain(|other| to == RestoreTo::Latest || is_earlier(other));
    let others = not_in(archive, &history, epoch, others).await?;
    let has_earlier = others.iter().any(is_earlier);
    let mut plan = first_plan(archive, &mut history, epoch, to).await?;
    let log_id = history.log_id().ok_or_else(|| archive.empty())?;
    let is_newest = to == RestoreTo::Latest && options.epoch.is_none();
    let longer = if is_newest { longer_than(archive, &history, epoch).await } else { Ok(None) };
    let longer = match longer {
        // What cannot be read of the other one says nothing.
        Err(error) if error.is_of_one_object() => None,
        longer => longer?,
    };
    let target = Arc::new(Target::open(directory, log_id, epoch, to, options.file_mode)?);
    let mut downloads =
        Downloads { archive, target: &target, log_id, parallel: options.parallel, done: HashSet::new() };
    while let Err(error) = downloads.all(&plan, progress).await {
        let Error::Damaged { key, damage, .. } = &error else { return Err(error) };
        if *damage == ObjectDamage::Identity
            && let Some(epoch) = history.objects().find(|object| object.key.as_ref() == key).map(|object| object.epoch)
            && let Some(damage) = disproven(archive, &history, epoch).await?
        {
            // The object is sound: it is the note that does not belong there.
            return Err(Error::damaged(&epoch_key(&archive.prefix, epoch), damage));
        }
        if *damage == ObjectDamage::Missing {
            // An archiver, or a prune, may have deleted it meanwhile.
            history = archive.look().await?;
            plan = plan.renewed(archive, &history, epoch, to)?.ok_or(error)?;
        } else {
            let key = key.clone();
            let error = judge(archive, &history, error).await;
            // Parts may be left that have what is wanted of a segment. They do not have its end.
            if to == RestoreTo::Latest {
                return Err(error);
            }
            history.remove(&key);
            let Ok(Some(renewed)) = plan.renewed(archive, &history, epoch, to) else { return Err(error) };
            plan = renewed;
        }
    }
    let downloaded = downloads.done;
    let segments = plan.pieces.len() as u64;
    let resumed = plan.pieces.iter().filter(|piece| !downloaded.contains(&piece.number)).count() as u64;
    let (first_lsn, bytes) = (plan.first_lsn, plan.len_bytes());
    let finishing = tokio::task::spawn_blocking(move || target.finish(&plan));
    let next_lsn = finishing.await.map_err(|error| Error::io("finish", directory, error.into()))??;
    Ok(RestoreReport { epoch, first_lsn, next_lsn, segments, resumed, bytes, lost, longer, others, has_earlier })
}

/// Those of `others` that `epoch` does not have as well, such as what its log had archived before a crash.
async fn not_in(
    archive: &Archive,
    history: &History,
    epoch: u64,
    others: Vec<(u64, Range<Lsn>)>,
) -> Result<Vec<(u64, Range<Lsn>)>> {
    let Ok(chain) = history.reach(epoch) else { return Ok(others) };
    let mut left = Vec::new();
    for (other, lsns) in others {
        let is_in = match history.reach(other) {
            Ok(of_other) => covers(archive, &chain, &of_other).await,
            Err(_) => Ok(false),
        };
        match is_in {
            Ok(true) => {}
            // What cannot be read says nothing.
            Err(error) if !error.is_of_one_object() => return Err(error),
            _ => left.push((other, lsns)),
        }
    }
    Ok(left)
}

/// What is to be restored. Of two objects that have the same records one that is damaged is left out, where the other one may have what is
/// wanted.
async fn first_plan(archive: &Archive, history: &mut History, epoch: u64, to: RestoreTo) -> Result<Plan> {
    let mut told = None;
    loop {
        let error = match Plan::checked(archive, history, epoch, to).await {
            Ok(plan) => return Ok(plan),
            Err(error) => judge(archive, history, error).await,
        };
        match &error {
            // The end of a segment may be in the damaged one alone.
            Error::Damaged { key, .. } if to != RestoreTo::Latest && history.has(key) => history.remove(key),
            _ => return Err(told.unwrap_or(error)),
        }
        told.get_or_insert(error);
    }
}

fn epoch_of(archive: &Archive, history: &History, options: &RestoreOptions) -> Result<u64> {
    match (options.epoch, history.epochs.keys().next_back()) {
        (_, None) => Err(archive.empty()),
        (Some(epoch), Some(&newest)) if !history.epochs.contains_key(&epoch) => {
            Err(Error::NoEpoch { prefix: archive.prefix.to_string(), epoch, newest })
        }
        (epoch, _) => epoch.or_else(|| history.newest()).ok_or_else(|| archive.empty()),
    }
}

struct Downloads<'a> {
    archive: &'a Archive,
    target: &'a Arc<Target>,
    log_id: u128,
    parallel: usize,
    /// The numbers of segments that were not there before.
    done: HashSet<u64>,
}

impl Downloads<'_> {
    /// Each segment of `plan` that is not there yet.
    async fn all(&mut self, plan: &Plan, progress: &mut (dyn FnMut(RestoreProgress) + Send)) -> Result<()> {
        let mut seen = RestoreProgress { segments: (0, plan.pieces.len() as u64), bytes: (0, plan.len_bytes()) };
        let mut waiting = links(plan);
        let mut downloads = JoinSet::new();
        let mut under_way = BTreeSet::new();
        let mut failed: Option<(u64, Error)> = None;
        loop {
            while failed.is_none()
                && downloads.len() < self.parallel
                && let Some((before, piece)) = waiting.next()
            {
                let (archive, target, log_id) = (self.archive.clone(), Arc::clone(self.target), self.log_id);
                under_way.insert(piece.number);
                // A task of its own: the downloads share the processors.
                downloads.spawn(async move {
                    let done = download(&archive, &target, (before.as_ref(), &piece), log_id).await;
                    (piece, done)
                });
            }
            // What is wrong with a segment may show in the next one first: the earliest error is the one to be told.
            if let Some((number, _)) = failed.as_ref()
                && under_way.first().is_none_or(|first| first > number)
            {
                // The directory is free when the caller hears of it.
                downloads.shutdown().await;
            }
            let Some(done) = downloads.join_next().await else {
                return failed.map_or(Ok(()), |(_, error)| Err(error));
            };
            let Ok((piece, done)) = done else {
                // It has panicked, and said why.
                downloads.shutdown().await;
                return Err(Error::io("download", self.target.path(), std::io::ErrorKind::Other.into()));
            };
            under_way.remove(&piece.number);
            match done {
                Ok(was_there) => {
                    if !was_there {
                        self.done.insert(piece.number);
                    }
                    (seen.segments.0, seen.bytes.0) = (seen.segments.0 + 1, seen.bytes.0 + piece.len_bytes());
                    progress(seen);
                }
                Err(error) if failed.as_ref().is_none_or(|(number, _)| piece.number < *number) => {
                    failed = Some((piece.number, error));
                }
                Err(_) => {}
            }
        }
    }
}

/// Each segment with the one before it.
fn links(plan: &Plan) -> impl Iterator<Item = (Option<Piece>, Piece)> {
    let befores = std::iter::once(None).chain(plan.pieces.clone().into_iter().map(Some));
    befores.zip(plan.pieces.clone())
}
