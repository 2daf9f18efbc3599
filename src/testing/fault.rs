//! An operation that shall fail, and how.

use std::io;

use super::image::AfterEffect;

/// The operations of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    List,
    Lock,
    Create,
    Open,
    Rename,
    Remove,
    SyncDirectory,
    SyncFileSystem,
    Length,
    Users,
    Allocate,
    GiveBack,
    Write,
    Read,
    ReadDevice,
    DropCache,
    Map,
    Load,
    Populate,
    Sync,
    SyncMapping,
}

impl Operation {
    /// Whether there are many of it, most of them in states that have been looked at.
    pub fn is_dull(self) -> bool {
        matches!(
            self,
            Self::Write
                | Self::Read
                | Self::ReadDevice
                | Self::Load
                | Self::Length
                | Self::Populate
                | Self::Open
                | Self::Users
        )
    }
}

/// What an operation fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    Io,
    DiskFull,
}

/// One failure, delivered once.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Operations of the kind that still succeed.
    pub after: u64,
    /// `None` counts all operations.
    pub only: Option<Operation>,
    pub failure: Failure,
    pub effect: AfterEffect,
}

impl Fault {
    /// What every operation fails with once the power has gone.
    pub(super) fn without_power() -> Self {
        Self { after: 0, only: None, failure: Failure::Io, effect: AfterEffect::Clean }
    }

    /// Whether it falls on this operation, which is counted.
    pub fn is_due(&mut self, operation: Operation) -> bool {
        if self.only.is_some_and(|only| only != operation) {
            return false;
        }
        match self.after.checked_sub(1) {
            Some(left) => {
                self.after = left;
                false
            }
            None => true,
        }
    }

    pub fn error(&self) -> io::Error {
        match self.failure {
            Failure::Io => io::Error::other("injected input/output error"),
            Failure::DiskFull => io::ErrorKind::StorageFull.into(),
        }
    }
}
