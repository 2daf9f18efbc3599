//! How to archive.

use std::time::Duration;

/// How an [`Archiver`](crate::Archiver) archives.
///
/// ```
/// use std::time::Duration;
///
/// let options = mapwal_archive::ArchiverOptions::new()
///     .pin("archive")
///     .pin_limit_bytes(Some(100 << 30))
///     .part_interval(Some(Duration::from_secs(1)))
///     .max_age(Some(Duration::from_secs(60)))
///     .poll_interval(Duration::from_millis(200))
///     .check_interval(Some(Duration::from_secs(600)))
///     .abandon_epoch(None)
///     .retry(Duration::from_millis(100), Duration::from_secs(30));
/// # let _ = options;
/// ```
#[derive(Debug, Clone)]
pub struct ArchiverOptions {
    pub(crate) pin: String,
    pub(crate) pin_limit_bytes: Option<u64>,
    pub(crate) part_interval: Option<Duration>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) poll_interval: Duration,
    pub(crate) check_interval: Option<Duration>,
    pub(crate) abandon_epoch: Option<u64>,
    pub(crate) retry: (Duration, Duration),
}

impl Default for ArchiverOptions {
    fn default() -> Self {
        Self {
            pin: "archive".to_owned(),
            pin_limit_bytes: None,
            part_interval: Some(Duration::from_secs(10)),
            max_age: None,
            poll_interval: Duration::from_millis(250),
            check_interval: Some(Duration::from_secs(3600)),
            abandon_epoch: None,
            retry: (Duration::from_millis(100), Duration::from_secs(30)),
        }
    }
}

impl ArchiverOptions {
    /// A pin named `archive` without a limit, parts every ten seconds, and segments as large as the log makes them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The named pin that keeps the log from trimming what is not archived. A log that goes to two archives needs two.
    #[must_use]
    pub fn pin(mut self, name: impl Into<String>) -> Self {
        self.pin = name.into();
        self
    }

    /// The disk space that the pin may hold back while the archive cannot be reached. Beyond it the log trims what it likes, and
    /// those records may be lost to the archive: a new epoch then begins after them, and says which.
    /// A pin that is there gets this limit, or none, when an archiver begins. Of what an archive has lost it keeps as much as half of the limit allows.
    #[must_use]
    pub fn pin_limit_bytes(mut self, limit: Option<u64>) -> Self {
        self.pin_limit_bytes = limit;
        self
    }

    /// How often what is durable of the segment that takes appends is uploaded, as far as it has grown. Without it, what
    /// is not in a full segment is lost with the log's disk.
    #[must_use]
    pub fn part_interval(mut self, interval: Option<Duration>) -> Self {
        self.part_interval = interval;
        self
    }

    /// How long records may wait in a segment that is not full, before it is rotated. Only in the writer's process. Each rotation
    /// uses a segment's number and a file; parts bound the loss without that.
    #[must_use]
    pub fn max_age(mut self, age: Option<Duration>) -> Self {
        self.max_age = age;
        self
    }

    /// How often the log is looked at while nothing is to be done, and how often the pin is moved while there is more to be uploaded.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// How often the archive is listed, beside when an archiver begins, to find objects that have vanished from the store. What the log
    /// still has of them is uploaded again; the rest is in [`Status::missing`](crate::Status::missing). An hour by default.
    #[must_use]
    pub fn check_interval(mut self, interval: Option<Duration>) -> Self {
        self.check_interval = interval;
        self
    }

    /// If the log's pin says that it is archived in this epoch, begins another one: the way out where that epoch has vanished from the
    /// store for good ([`Error::OtherArchive`](crate::Error::OtherArchive)), was pruned, or lacks records that the log does not have any more. What the log still
    /// has is archived, and the note of the new epoch says which records no epoch leads to. None by default.
    #[must_use]
    pub fn abandon_epoch(mut self, epoch: Option<u64>) -> Self {
        self.abandon_epoch = epoch;
        self
    }

    /// The first and the longest pause after a failure.
    #[must_use]
    pub fn retry(mut self, first: Duration, longest: Duration) -> Self {
        self.retry = (first.max(Duration::from_millis(1)), longest);
        self
    }
}
