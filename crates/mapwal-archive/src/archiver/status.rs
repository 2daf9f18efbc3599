//! How far an archiver has come, and what would be lost.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use mapwal::Lsn;

use crate::epoch::Owner;
use crate::error::ObjectDamage;
use crate::gaps::MissingRecords;
use crate::verify::EpochFault;

/// Observations that are kept of a log that grows while nothing can be archived.
const SAMPLES_MAX: usize = 256;

/// How far an [`Archiver`](crate::Archiver) has come.
///
/// `lag_records`, `lag_bytes` and `lag` are what has not been archived: what is lost if the log's disk is lost at this moment, unless `damaged` or
/// `missing` say that a restore ends before what has. While the store answers, `lag`
/// stays below the interval of parts, and the time that two uploads take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The epoch that is being written, once that is known.
    pub epoch: Option<u64>,
    /// All records before it are in sealed segments in the archive, but for those of `missing` that the log does not have any more: the log may trim
    /// them.
    pub sealed_lsn: Lsn,
    /// All records before it are in the archive, in segments or parts, but for those that are `missing`.
    pub archived_lsn: Lsn,
    /// The number of the next record that the log will have.
    pub next_lsn: Lsn,
    /// Records of the log that are not in the archive.
    pub lag_records: u64,
    /// Durable bytes of the log that are not in the archive.
    pub lag_bytes: u64,
    /// For how long the oldest record that is not in the archive has been seen in the log.
    pub lag: Duration,
    /// Segments that were uploaded, or found to be there, since this archiver began.
    pub segments: u64,
    /// Parts, in the same way.
    pub parts: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Failures since the last success, each of which was followed by a pause.
    pub failures: u64,
    /// For how long the store has not answered a request, where that is longer than five seconds, and those that the bytes of an upload take at
    /// 1 MiB/s.
    pub unanswered: Option<Duration>,
    /// The last error, until something succeeds; or what the store does not answer; or else why a restore would not give all that is archived: the first of what is `damaged`
    /// or `missing`; or else why the pin stays where it is, for lack of room on the log's disk, while all is archived. It is `None` if all is well, but for what is `lost`,
    /// or `beside`.
    pub last_error: Option<String>,
    /// Why the pin stays where it is, while all is archived: there is no room for it on the log's disk.
    pub pin_error: Option<String>,
    /// Records before the first one that the epoch leads to, and that no epoch has: they were trimmed before they were archived, or have vanished with their
    /// epoch. Until a prune gives them up.
    pub lost: Option<Range<Lsn>>,
    /// Segments whose objects had vanished from the store, and were uploaded again since this archiver began.
    pub uploaded_again: u64,
    /// Records of the epoch, or of one before it, that were archived, and are not in the archive any more, nor, if they are of this epoch, in
    /// the log. A restore ends before them. If the objects cannot be put back, [`ArchiverOptions::abandon_epoch`](crate::ArchiverOptions::abandon_epoch)
    /// has another epoch begin with what the log has.
    pub missing: Vec<MissingRecords>,
    /// Objects of the epoch, or of one before it, that do not have the lengths in their keys, or are damaged where the archiver has read them.
    /// A restore ends before them. Once an object of this epoch is deleted, it is uploaded again if the log still has it, and is missing
    /// otherwise; one of an epoch before is missing then.
    /// Also the note `EPOCH/epoch.json` of one before it that is missing or cannot be used, such as where all of that epoch has vanished: then nothing of this
    /// epoch can be restored. If it cannot be put back, the way out is that of `missing`, while the log still has the records.
    pub damaged: Vec<(String, ObjectDamage)>,
    /// What the last check has found to be wrong elsewhere: in epochs that this one does not continue, or after the place where it leaves one. A restore
    /// of this epoch has nothing to do with it.
    pub beside: Vec<EpochFault>,
}

/// What the archiver notes for it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) epoch: Option<u64>,
    /// What the pin said last of an epoch, with up to where all was confirmed.
    pub(crate) owner: Option<Owner>,
    pub(crate) sealed: Lsn,
    pub(crate) archived: Lsn,
    pub(crate) segments: u64,
    pub(crate) parts: u64,
    pub(crate) bytes: u64,
    pub(crate) failures: u64,
    pub(crate) last_error: Option<String>,
    /// Why the pin stays where it is, where everything else goes on.
    pub(crate) pin_error: Option<String>,
    pub(crate) lost: Option<Range<Lsn>>,
    pub(crate) uploaded_again: u64,
    pub(crate) missing: Vec<MissingRecords>,
    pub(crate) damaged: Vec<(String, ObjectDamage)>,
    pub(crate) beside: Vec<EpochFault>,
    /// Bytes that are archived of the segment after the last sealed one that is: up to which number those are, and of the next.
    pub(crate) place: (u64, u64),
    /// The next record's number, when it was seen first: ascending, and above what is archived.
    samples: VecDeque<(Instant, Lsn)>,
}

impl Progress {
    /// With nothing archived of a log that begins with record `first`.
    pub(crate) fn from(first: Lsn) -> Self {
        Self { sealed: first, archived: first, ..Self::default() }
    }

    /// Notes that the log's next record is `next`.
    pub(crate) fn observe(&mut self, next: Lsn) {
        self.forget();
        if next > self.samples.back().map_or(self.archived, |&(_, seen)| seen) {
            if self.samples.len() == SAMPLES_MAX {
                // The oldest is what counts.
                self.samples.pop_back();
            }
            self.samples.push_back((Instant::now(), next));
        }
    }

    fn forget(&mut self) {
        while self.samples.front().is_some_and(|&(_, seen)| seen <= self.archived) {
            self.samples.pop_front();
        }
    }

    pub(crate) fn archived(&mut self, next: Lsn) {
        self.archived = self.archived.max(next);
        self.forget();
    }

    /// As [`Self::archived`], also where that was said of later records, which the archive has lost.
    pub(crate) fn archived_only(&mut self, next: Lsn) {
        self.archived = next;
        self.forget();
    }

    pub(crate) fn next_seen(&self) -> Lsn {
        self.samples.back().map_or(self.archived, |&(_, seen)| seen)
    }

    /// What keeps it from archiving, or else what keeps a restore from all that is archived.
    pub(crate) fn trouble(&self, overdue: Option<(String, Duration)>) -> Option<String> {
        let unanswered = || overdue.map(|(what, time)| format!("no answer for {} s: {what}", time.as_secs()));
        let damaged = || self.damaged.first().map(|(key, damage)| format!("{key} {}: {damage}", damage.verdict()));
        let missing = || self.missing.first().map(ToString::to_string);
        self.last_error.clone().or_else(unanswered).or_else(damaged).or_else(missing).or_else(|| self.pin_error.clone())
    }

    /// Of a log that has the records from `first` to `next`.
    pub(crate) fn status(
        &mut self,
        (first, next): (Lsn, Lsn),
        lag_bytes: u64,
        overdue: Option<(String, Duration)>,
    ) -> Status {
        self.observe(next);
        Status {
            epoch: self.epoch,
            sealed_lsn: self.sealed,
            archived_lsn: self.archived,
            next_lsn: next,
            lag_records: next.0.saturating_sub(self.archived.max(first).0),
            lag_bytes,
            lag: self.samples.front().map_or(Duration::ZERO, |(since, _)| since.elapsed()),
            segments: self.segments,
            parts: self.parts,
            bytes: self.bytes,
            failures: self.failures,
            pin_error: self.pin_error.clone(),
            unanswered: overdue.as_ref().map(|(_, time)| *time),
            last_error: self.trouble(overdue),
            lost: self.lost.clone(),
            uploaded_again: self.uploaded_again,
            missing: self.missing.clone(),
            damaged: self.damaged.clone(),
            beside: self.beside.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_that_of_the_oldest_record_that_is_not_archived() {
        let mut progress = Progress::default();
        progress.archived(Lsn(1));
        assert_eq!(progress.status((Lsn(1), Lsn(1)), 0, None).lag, Duration::ZERO);
        progress.observe(Lsn(5));
        let since = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        progress.observe(Lsn(9));
        progress.archived(Lsn(3));
        let status = progress.status((Lsn(1), Lsn(9)), 0, None);
        assert!(status.lag >= Duration::from_millis(20) && status.lag_records == 6, "{status:?}");
        progress.archived(Lsn(5));
        let lag = progress.status((Lsn(1), Lsn(9)), 0, None).lag;
        assert!(lag + Duration::from_millis(20) <= since.elapsed());
        progress.archived(Lsn(9));
        assert_eq!(progress.status((Lsn(1), Lsn(9)), 0, None).lag, Duration::ZERO);
    }

    #[test]
    fn the_oldest_observation_outlives_any_number_of_later_ones() {
        let mut progress = Progress::default();
        progress.archived(Lsn(1));
        for next in 2..3 * SAMPLES_MAX as u64 {
            progress.observe(Lsn(next));
        }
        assert_eq!(progress.samples.front().map(|sample| sample.1), Some(Lsn(2)));
        assert_eq!(progress.next_seen(), Lsn(3 * SAMPLES_MAX as u64 - 1));
    }
}
