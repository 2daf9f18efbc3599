//! What a history may consist of.

use mapwal::Lsn;
use proptest::prelude::*;

use super::oracle::Oracle;

/// A place in the log: 0 is before the first record, 255 after the next one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot(pub(super) u8);

impl Spot {
    pub(super) fn lsn(self, oracle: &Oracle) -> Lsn {
        let (low, high) = (oracle.first().saturating_sub(2), oracle.next() + 1);
        Lsn(low + (high - low) * u64::from(self.0) / 255)
    }
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    Append(usize),
    AppendWith(usize),
    /// An `append_with` whose closure panics.
    GiveUp(usize),
    Vectored(Vec<usize>),
    Batch(Vec<usize>),
    TooLarge,
    Sync,
    Rotate,
    Trim(Spot),
    Truncate(Spot),
    /// To so many numbers below, or above, the next one.
    Reset(i8),
    PutMeta(usize, usize),
    Pin(Spot),
    AdvancePin(Spot),
    Unpin,
    TakeView,
    DropView,
    Follow,
    Close,
    Kill,
    /// A batch of records with these lengths, and a crash of the system that takes the frames whose bits are set.
    CrashInBatch(Vec<usize>, u8),
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![4 => 0..100_usize, 3 => 100..4_000_usize, 2 => 8_000..20_000_usize];
    let spot = || any::<u8>().prop_map(Spot);
    prop_oneof![
        6 => len().prop_map(Op::Append),
        2 => len().prop_map(Op::AppendWith),
        1 => len().prop_map(Op::GiveUp),
        2 => prop::collection::vec(len(), 0..4).prop_map(Op::Vectored),
        4 => prop::collection::vec(0..3_000_usize, 0..5).prop_map(Op::Batch),
        1 => Just(Op::TooLarge),
        3 => Just(Op::Sync),
        3 => Just(Op::Rotate),
        4 => spot().prop_map(Op::Trim),
        4 => spot().prop_map(Op::Truncate),
        1 => any::<i8>().prop_map(Op::Reset),
        3 => (0..16_usize, 0..=256_usize).prop_map(|(slot, len)| Op::PutMeta(slot, len)),
        2 => spot().prop_map(Op::Pin),
        1 => spot().prop_map(Op::AdvancePin),
        1 => Just(Op::Unpin),
        2 => Just(Op::TakeView),
        1 => Just(Op::DropView),
        3 => Just(Op::Follow),
        2 => Just(Op::Close),
        3 => Just(Op::Kill),
        2 => (prop::collection::vec(0..3_000_usize, 2..5), any::<u8>()).prop_map(|(lens, lost)| Op::CrashInBatch(lens, lost)),
    ]
}
