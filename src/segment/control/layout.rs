//! Which word of the control page is where.

/// The words of the page, by index. Each is written by the writer alone, but for the two that followers set
/// when they want to be woken, and for requests.
#[derive(Clone, Copy)]
pub(super) enum Word {
    /// Stored last when the page is set up, so that a process that sees it sees the rest.
    Magic = 0,
    LogIdLow = 1,
    LogIdHigh = 2,
    /// Different in each run of a writer.
    Epoch = 3,
    /// The writer's process, 0 after a clean shutdown.
    WriterPid = 4,
    /// The version of the page, [signed](super::signed). 0 in a page of a log of version 2.
    Version = 5,
    /// The number of the segment that takes appends, in the same way.
    ActiveSegment = 7,
    /// 1 once a sync has failed.
    Poisoned = 8,
    /// The number of the oldest segment retained, in the same way.
    OldestSegment = 9,
    /// On a cache line of its own, since every append looks at it: 1 if a follower waits for a record to be published.
    PublishedWanted = 16,
    /// On another: counts the wake-ups for it. Followers wait on its first half.
    PublishedWakes = 32,
    /// The same for records to become durable.
    DurableWanted = 48,
    DurableWakes = 64,
    /// What is durable, written in turn to two places: if one is half written, there is the other. The [group](super::signed::group) of number, position and
    /// record.
    DurableEven = 80,
    DurableOdd = 88,
    /// The [group](super::signed::group) of the position of the close with which the log was shut down. Of 0 as long as it may be appended to.
    Closed = 96,
    /// What the writer has done, and a checksum of that and of its run.
    Activity = 104,
    /// That of the run, if its writer takes requests to trim.
    TakesRequests = 120,
    /// What a process asks for: number, record, and a checksum of the run and these.
    Request = 128,
    /// What came of a request: its number, outcome, segments dropped, first record, and a checksum in the same way.
    Answer = 136,
}

/// Of words of the page of log `log_id`.
pub(super) fn checksum(log_id: u128, words: &[u64]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&log_id.to_le_bytes());
    for word in words {
        hasher.update(&word.to_le_bytes());
    }
    hasher.finalize()
}
