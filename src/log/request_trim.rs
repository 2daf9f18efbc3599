//! Asking the process that has a log open to trim it.

use std::path::Path;
use std::time::{Duration, Instant};

use super::inside::check_outside;
use crate::error::{Error, RequestFault, Result};
use crate::format::name;
use crate::inspect::Inspection;
use crate::lsn::Lsn;
use crate::segment::control::{Answer, ControlPage, Outcome, Request};

/// A trim waits up to a second for pins, and for what it syncs.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// What the process that has a log open has done for a request to trim it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestedTrim {
    /// How many segments it has dropped. Their files are gone, or kept for further segments.
    pub segments: u64,
    /// The first record that is left.
    pub first_lsn: Lsn,
}

/// Asks the process that has the log in directory `path` open to drop the segments whose records are all below `before`, and waits
/// until it has. It decides what goes: nothing that a pin keeps, nothing that recovery of a [`Wal`](crate::wal::Wal) needs, and
/// nothing at all unless it was opened with [`Options::trim_on_request`](crate::Options::trim_on_request). Needs no room.
///
/// The process looks for requests every half second. After ten seconds without an answer the request is taken back.
///
/// # Errors
/// [`Error::Request`]; as [`Inspection::open`]; [`Error::Io`] when the control page of the log may not be written;
/// [`Error::InsideAppend`].
///
/// # Example
/// ```
/// use mapwal::{Log, Lsn, Options, RequestedTrim};
///
/// # let dir = tempfile::tempdir()?;
/// let options = Options::new().segment_size_bytes(64 << 10).trim_on_request(true);
/// // SAFETY: the directory is new, and only this log writes to its files.
/// let log = unsafe { Log::open(dir.path(), &options) }?;
/// for _ in 0..100 {
///     log.append(1, &[0; 1000])?;
/// }
/// // In another process:
/// let RequestedTrim { segments, first_lsn, .. } = mapwal::request_trim(dir.path(), Lsn(90))?;
/// assert_eq!((segments, first_lsn), (1, log.first_lsn()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn request_trim(path: impl AsRef<Path>, before: Lsn) -> Result<RequestedTrim> {
    request_trim_while(path, before, || true)
}

/// As [`request_trim`], for as long as `is_wanted` says so, which is asked all the time: once it does not, the request is taken back,
/// as after ten seconds. What the process has begun by then, it ends.
///
/// # Errors
/// As there.
///
/// # Example
/// ```
/// use mapwal::error::{Error, RequestFault};
/// use mapwal::{Log, Lsn, Options};
///
/// # let dir = tempfile::tempdir()?;
/// let options = Options::new().segment_size_bytes(64 << 10).trim_on_request(true);
/// // SAFETY: the directory is new, and only this log writes to its files.
/// let log = unsafe { Log::open(dir.path(), &options) }?;
/// # log.append(1, b"a")?;
/// // In another process, whose user has had enough already:
/// let asked = mapwal::request_trim_while(dir.path(), Lsn(1), || false);
/// assert!(matches!(asked, Err(Error::Request(RequestFault::NoAnswer))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn request_trim_while(
    path: impl AsRef<Path>,
    before: Lsn,
    mut is_wanted: impl FnMut() -> bool,
) -> Result<RequestedTrim> {
    check_outside()?;
    let inspection = Inspection::open(path)?;
    let storage = &*inspection.storage;
    let has_writer = || storage.is_locked().ok().flatten() != Some(false);
    if !has_writer() {
        return Err(Error::Request(RequestFault::NoWriter));
    }
    let page = ControlPage::open(storage, inspection.log_id())?.filter(ControlPage::takes_requests);
    let page = page.ok_or(Error::Request(RequestFault::NotTaken))?;
    let failed = |source| Error::io("write", &storage.path().join(name::CONTROL), source);
    let request = Request { number: storage.random() | 1, before };
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && has_writer() && is_wanted() {
        if let Some(answer) = page.answer().filter(|answer| answer.number == request.number) {
            return outcome_of(answer);
        }
        // Another process may have made a request of its own meanwhile, in the same place.
        if page.request() != Some(request) {
            page.set_request(request).map_err(failed)?;
        }
        std::thread::sleep(PAUSE);
    }
    page.clear_request().map_err(failed)?;
    Err(Error::Request(if has_writer() { RequestFault::NoAnswer } else { RequestFault::NoWriter }))
}

fn outcome_of(answer: Answer) -> Result<RequestedTrim> {
    match answer.outcome {
        Outcome::Trimmed => Ok(RequestedTrim { segments: answer.segments, first_lsn: answer.first }),
        Outcome::Failed => Err(Error::Request(RequestFault::Failed)),
    }
}
