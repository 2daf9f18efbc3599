//! Breaks of the protocol, one line each, for the crash laboratory to notice: tests that cannot fail prove nothing.
//!
//! Without the feature `sabotage` every question is answered with a constant, and no code is left of it.

/// A step left out, or done in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it; docs/design/crash-testing.md has the table")]
pub enum Break {
    AcknowledgeBeforeSync = 1,
    AcknowledgeWithoutSync,
    AdoptWithoutDirectorySync,
    BatchWithoutFlag,
    CacheBelieved,
    CacheNotWrittenAgain,
    ClaimTooMuch,
    CloseBelieved,
    CloseNotTakenBack,
    EndAfterSync,
    ErrorRetried,
    FileSystemUnsynced,
    FillOverFrames,
    HeaderAfterSync,
    IncompleteBatchAccepted,
    LinkWithoutMeta,
    LsnUnchecked,
    OlderSegmentsUnsynced,
    PoisonForgotten,
    PredecessorEndUnchecked,
    PrepareWithoutDirectorySync,
    PrepareWithoutSync,
    RecoverWithoutSync,
    RemoveBeforeLink,
    ResumeAfterCrash,
    SaltLeftOut,
    TailWithoutEvidence,
    TrimNewestFirst,
    TrimWithoutRetain,
    TruncateWithoutSync,
    TruncateWithoutCut,
    UnlinkWithoutDirectorySync,
    VoidUnpublished,
    WalkWithoutChecksum,
    HeaderBeforeName,
    PageBeforeTrimmed,
    RecycleLinked,
    RecycleUnderReader,
    RecycleUnderView,
    RecycleUnknown,
    SaltReused,
    ZerosLeftOut,
    CommitCountsAsApplied,
    OlderCheckpointLogged,
    RecordCountsAsApplied,
    RedoneUnasked,
    TransactionsOfTheRecord,
}

/// Whether this is the break that is made.
#[inline]
pub(crate) fn is(wanted: Break) -> bool {
    #[cfg(feature = "sabotage")]
    return choice::is(wanted);
    #[cfg(not(feature = "sabotage"))]
    {
        let _ = wanted;
        false
    }
}

#[cfg(feature = "sabotage")]
pub use choice::{OF_LOGS, OF_TRANSACTIONS, make};

#[cfg(feature = "sabotage")]
mod choice {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Break;

    /// The break that is made; 0 for none. Relaxed: set before any log is opened.
    static MADE: AtomicU8 = AtomicU8::new(0);

    /// Those that the laboratory of logs is to notice.
    pub const OF_LOGS: [Break; 42] = [
        Break::AcknowledgeBeforeSync,
        Break::AcknowledgeWithoutSync,
        Break::AdoptWithoutDirectorySync,
        Break::BatchWithoutFlag,
        Break::CacheBelieved,
        Break::CacheNotWrittenAgain,
        Break::ClaimTooMuch,
        Break::CloseBelieved,
        Break::CloseNotTakenBack,
        Break::EndAfterSync,
        Break::ErrorRetried,
        Break::FileSystemUnsynced,
        Break::FillOverFrames,
        Break::HeaderAfterSync,
        Break::IncompleteBatchAccepted,
        Break::LinkWithoutMeta,
        Break::LsnUnchecked,
        Break::OlderSegmentsUnsynced,
        Break::PoisonForgotten,
        Break::PredecessorEndUnchecked,
        Break::PrepareWithoutDirectorySync,
        Break::PrepareWithoutSync,
        Break::RecoverWithoutSync,
        Break::RemoveBeforeLink,
        Break::ResumeAfterCrash,
        Break::SaltLeftOut,
        Break::TailWithoutEvidence,
        Break::TrimNewestFirst,
        Break::TrimWithoutRetain,
        Break::TruncateWithoutSync,
        Break::TruncateWithoutCut,
        Break::UnlinkWithoutDirectorySync,
        Break::VoidUnpublished,
        Break::WalkWithoutChecksum,
        Break::HeaderBeforeName,
        Break::PageBeforeTrimmed,
        Break::RecycleLinked,
        Break::RecycleUnderReader,
        Break::RecycleUnderView,
        Break::RecycleUnknown,
        Break::SaltReused,
        Break::ZerosLeftOut,
    ];

    /// Those that the laboratory of transactions is to notice.
    pub const OF_TRANSACTIONS: [Break; 5] = [
        Break::CommitCountsAsApplied,
        Break::OlderCheckpointLogged,
        Break::RecordCountsAsApplied,
        Break::RedoneUnasked,
        Break::TransactionsOfTheRecord,
    ];

    /// Makes one break from now on, in all logs of this process.
    pub fn make(wanted: Break) {
        MADE.store(wanted as u8, Ordering::Relaxed);
    }

    pub(super) fn is(wanted: Break) -> bool {
        MADE.load(Ordering::Relaxed) == wanted as u8
    }
}
