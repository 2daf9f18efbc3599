//! What an error says of what has caused it: whether trying again may help, and what is to be told.

use std::io;

use crate::error::Error;

impl Error {
    /// It, and what has caused it.
    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(Some(self as &(dyn std::error::Error + 'static)), |error| error.source())
    }

    /// Whether the system said something of this kind.
    fn is_because(&self, is_it: impl Fn(io::ErrorKind) -> bool) -> bool {
        self.causes().filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| is_it(error.kind()))
    }

    /// Whether the store has no room left.
    pub(crate) fn is_full(&self) -> bool {
        self.is_because(|kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether the store does not let the object be read, or changed.
    pub(crate) fn is_denied(&self) -> bool {
        use object_store::Error as Store;
        let is_told = matches!(self, Self::Store { source, .. } if matches!(**source, Store::PermissionDenied { .. }));
        is_told || self.is_because(|kind| kind == io::ErrorKind::PermissionDenied)
    }

    /// Whether there is no such object.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Store { source, .. } if matches!(**source, object_store::Error::NotFound { .. }))
    }

    /// Whether it says nothing of other objects: this one may not be read, or its disk has failed there.
    pub(crate) fn is_of_one_object(&self) -> bool {
        matches!(self, Self::Io { .. }) || self.is_denied()
    }

    /// The error and what has caused it.
    pub(crate) fn in_one_line(&self) -> String {
        let told = self.causes().fold(String::new(), |told, cause| match cause.to_string() {
            why if told.is_empty() => why,
            // A store's error may tell what has caused it.
            why if told.contains(&why) => told,
            why => format!("{told}: {why}"),
        });
        // What a server says may have several lines.
        told.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Whether trying again may help: an archiver does so, for ever.
    pub(crate) fn is_transient(&self) -> bool {
        use object_store::Error as Store;
        match self {
            Self::Store { source, .. } => !matches!(
                **source,
                Store::NotSupported { .. }
                    | Store::NotImplemented { .. }
                    | Store::InvalidPath { .. }
                    | Store::UnknownConfigurationKey { .. }
            ),
            // What is at the path by now is another log, which needs another archiver.
            Self::Log(error) => !matches!(error, mapwal::Error::Forked | mapwal::Error::Displaced { .. }),
            Self::Io { .. }
            | Self::Gone { .. }
            | Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::NotDurable { .. } => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_in_several_lines_is_told_in_one() {
        let said = "404 Not Found:\n<?xml version=\"1.0\"?>\r\n<Error>\n  <Code>NoSuchBucket</Code>\n</Error>";
        let source = object_store::Error::Generic { store: "S3", source: said.into() };
        let told = Error::store("list", &"a".into(), source).in_one_line();
        assert!(!told.contains(['\n', '\r']), "{told}");
        assert!(told.starts_with("cannot list a: ") && told.contains("<Error> <Code>NoSuchBucket</Code>"), "{told}");
    }

    #[test]
    fn an_archive_that_is_all_of_a_store_has_a_name_and_one_that_is_gone_asks_for_its_disk() {
        let source = object_store::Error::Generic { store: "S3", source: "no".into() };
        let told = Error::store("list", &"".into(), source).in_one_line();
        assert!(told.starts_with("cannot list the archive: "), "{told}");
        let told = Error::Gone { key: String::new() }.in_one_line();
        assert!(told.starts_with("cannot read the archive: ") && told.contains("is its disk mounted?"), "{told}");
    }
}
