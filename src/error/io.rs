//! What becomes of an error where an [`io::Error`] is expected.

use std::io::{self, ErrorKind};

use super::{Error, PinFault, RequestFault};

/// For engines whose own calls return [`io::Error`]: the kind is the nearest there is, and [`io::Error::get_ref`] has the
/// [`Error`].
///
/// | | |
/// |---|---|
/// | [`Error::Io`] | the kind of the system's error |
/// | [`Error::GivenUp`] | the kind of the closure's error, or [`ErrorKind::InvalidInput`] |
/// | [`Error::NoSpace`] | [`ErrorKind::StorageFull`] |
/// | [`Error::Corrupt`], [`Error::NotALog`], [`Error::NotARegularFile`], [`Error::Format`], [`Error::Replica`], [`Error::PayloadLayout`] | [`ErrorKind::InvalidData`] |
/// | [`Error::InvalidArgument`], [`Error::RecordTooLarge`], [`Error::Meta`], [`Error::NotNext`], other pins' | [`ErrorKind::InvalidInput`] |
/// | [`Error::NoLog`], [`Error::Trimmed`], [`Error::NotAppended`], [`Error::Truncated`], [`Error::Displaced`], a pin that is missing | [`ErrorKind::NotFound`] |
/// | a pin that exists | [`ErrorKind::AlreadyExists`] |
/// | [`Error::Locked`] | [`ErrorKind::ResourceBusy`] |
/// | [`Error::Closed`] | [`ErrorKind::BrokenPipe`] |
/// | [`Error::InsideAppend`] | [`ErrorKind::Deadlock`] |
/// | [`Error::UnsupportedFileSystem`] | [`ErrorKind::Unsupported`] |
/// | [`Error::Request`]: no writer; none that takes requests; no answer; it could not trim | [`ErrorKind::NotFound`]; [`ErrorKind::Unsupported`]; [`ErrorKind::TimedOut`]; [`ErrorKind::Other`] |
/// | [`Error::Poisoned`], [`Error::Rewound`], [`Error::Forked`], [`Error::Exhausted`] | [`ErrorKind::Other`] |
///
/// # Example
/// ```
/// use std::io;
///
/// use mapwal::{Error, Log, Lsn};
///
/// fn last(log: &Log) -> io::Result<usize> {
///     Ok(log.get(log.next_lsn().previous())?.map_or(0, |record| record.payload().len()))
/// }
///
/// # let dir = tempfile::tempdir()?;
/// # // SAFETY: the directory is new, and only this log writes to its files.
/// # let log = unsafe { Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
/// let error = last(&log).expect_err("there is none");
/// assert_eq!(error.kind(), io::ErrorKind::NotFound);
/// let error = error.downcast::<Error>()?;
/// assert!(matches!(error, Error::Trimmed { lsn: Lsn::ZERO, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(kind_of(&error), error)
    }
}

fn kind_of(error: &Error) -> ErrorKind {
    match error {
        Error::Io { source, .. } | Error::GivenUp { source: Some(source), .. } => source.kind(),
        Error::NoSpace { .. } => ErrorKind::StorageFull,
        Error::Corrupt(_)
        | Error::NotALog { .. }
        | Error::NotARegularFile { .. }
        | Error::Format { .. }
        | Error::Replica { .. }
        | Error::PayloadLayout { .. } => ErrorKind::InvalidData,
        Error::Pin { fault: PinFault::Exists, .. } => ErrorKind::AlreadyExists,
        Error::Pin { fault: PinFault::Missing, .. }
        | Error::NoLog { .. }
        | Error::Trimmed { .. }
        | Error::NotAppended { .. }
        | Error::Truncated { .. }
        | Error::Displaced { .. } => ErrorKind::NotFound,
        Error::InvalidArgument { .. }
        | Error::RecordTooLarge { .. }
        | Error::Meta { .. }
        | Error::NotNext { .. }
        | Error::GivenUp { source: None, .. }
        | Error::Pin { .. } => ErrorKind::InvalidInput,
        Error::Locked { .. } => ErrorKind::ResourceBusy,
        Error::Closed => ErrorKind::BrokenPipe,
        Error::InsideAppend => ErrorKind::Deadlock,
        Error::UnsupportedFileSystem { .. } => ErrorKind::Unsupported,
        Error::Request(fault) => kind_of_request(*fault),
        // The cause of a failed sync is no kind of this error: more room, or another try, mends nothing.
        Error::Poisoned { .. } | Error::Rewound { .. } | Error::Forked | Error::Exhausted(_) => ErrorKind::Other,
    }
}

fn kind_of_request(fault: RequestFault) -> ErrorKind {
    match fault {
        RequestFault::NoWriter => ErrorKind::NotFound,
        RequestFault::NotTaken => ErrorKind::Unsupported,
        RequestFault::NoAnswer => ErrorKind::TimedOut,
        RequestFault::Failed => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::lsn::Lsn;

    #[test]
    fn what_failed_in_the_system_keeps_its_kind_and_is_still_there() {
        let path = PathBuf::from("log");
        let denied = || io::Error::from(ErrorKind::PermissionDenied);
        let error = io::Error::from(Error::Io { operation: "open", path: path.clone(), source: denied() });
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::PermissionDenied, "cannot open log"));
        assert!(matches!(error.downcast::<Error>(), Ok(Error::Io { operation: "open", .. })));

        let full = Error::NoSpace { path, needed_bytes: 1, left: None };
        assert_eq!(io::Error::from(full).kind(), ErrorKind::StorageFull);
        // A full disk at a sync is nothing that more room mends.
        let source = Arc::new(io::Error::from(ErrorKind::StorageFull));
        assert_eq!(
            io::Error::from(Error::Poisoned { path: PathBuf::new(), durable: Lsn(1), source }).kind(),
            ErrorKind::Other
        );
        assert_eq!(io::Error::from(Error::Closed).kind(), ErrorKind::BrokenPipe);
        let pin = |fault| io::Error::from(Error::pin("a", fault)).kind();
        assert_eq!([PinFault::Exists, PinFault::Missing].map(pin), [ErrorKind::AlreadyExists, ErrorKind::NotFound]);
    }
}
