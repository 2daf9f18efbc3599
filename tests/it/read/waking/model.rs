//! The steps by which followers fall asleep and are woken, in every order in which they can happen.
//!
//! It is a model: the steps of `src/segment/control/mod.rs`, and a processor that may keep the writer's stores back after
//! its later loads. It shows that the barrier, and the order of clearing the word and raising the count, are needed, and
//! that they suffice; that the code has these steps is for its reader to see.

use std::collections::HashSet;

const FOLLOWERS: usize = 2;
/// Records that the writer appends, one after the other.
const RECORDS: u8 = 2;

/// What may be left out, or turned around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    AsItIs,
    WithoutBarrier,
    WordClearedAfterTheCount,
    WithoutLastLook,
}

/// The writer's next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Writer {
    Append,
    LookAtWord,
    First,
    Second,
    Wake,
}

/// A follower's next step; it waits for the record after those that it `has`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Follower {
    ReadCount,
    SetWord,
    Barrier,
    LastLook,
    FallAsleep,
    Asleep,
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    writer: Writer,
    appended: u8,
    /// Of those appended, how many others can see: the rest is still in the writer's store buffer.
    visible: u8,
    wanted: bool,
    count: u8,
    followers: [(Follower, u8); FOLLOWERS],
    /// The count that each has read.
    seen: [u8; FOLLOWERS],
}

impl State {
    fn start() -> Self {
        let followers = [(Follower::ReadCount, 0); FOLLOWERS];
        Self {
            writer: Writer::Append,
            appended: 0,
            visible: 0,
            wanted: false,
            count: 0,
            followers,
            seen: [0; FOLLOWERS],
        }
    }

    /// The states that one step of anybody leads to.
    fn next(&self, protocol: Protocol) -> Vec<Self> {
        let mut states = Vec::new();
        if self.visible < self.appended {
            states.push(Self { visible: self.appended, ..self.clone() });
        }
        states.extend(self.writer_step(protocol));
        states.extend((0..FOLLOWERS).filter_map(|index| self.follower_step(index, protocol)));
        states
    }

    fn writer_step(&self, protocol: Protocol) -> Option<Self> {
        let mut state = self.clone();
        let clears_first = protocol != Protocol::WordClearedAfterTheCount;
        state.writer = match self.writer {
            Writer::Append if self.appended == RECORDS => return None,
            Writer::Append => {
                state.appended += 1;
                Writer::LookAtWord
            }
            Writer::LookAtWord if self.wanted => Writer::First,
            Writer::LookAtWord => Writer::Append,
            step @ (Writer::First | Writer::Second) => {
                if (step == Writer::First) == clears_first {
                    state.wanted = false;
                } else {
                    // An atomic addition empties the store buffer.
                    state.visible = state.appended;
                    state.count += 1;
                }
                if step == Writer::First { Writer::Second } else { Writer::Wake }
            }
            Writer::Wake => {
                for (follower, _) in &mut state.followers {
                    if *follower == Follower::Asleep {
                        *follower = Follower::ReadCount;
                    }
                }
                Writer::Append
            }
        };
        Some(state)
    }

    fn follower_step(&self, index: usize, protocol: Protocol) -> Option<Self> {
        let mut state = self.clone();
        let (step, has) = self.followers[index];
        let next = match step {
            Follower::ReadCount => {
                state.seen[index] = self.count;
                Follower::SetWord
            }
            Follower::SetWord => {
                state.wanted = true;
                Follower::Barrier
            }
            Follower::Barrier => {
                if protocol != Protocol::WithoutBarrier {
                    state.visible = self.appended;
                }
                Follower::LastLook
            }
            Follower::LastLook if protocol != Protocol::WithoutLastLook && self.visible > has => {
                state.followers[index] = (self.after_record(has + 1), has + 1);
                return Some(state);
            }
            Follower::LastLook => Follower::FallAsleep,
            // The system compares and puts to sleep in one step.
            Follower::FallAsleep if self.count == self.seen[index] => Follower::Asleep,
            Follower::FallAsleep => Follower::ReadCount,
            Follower::Asleep | Follower::Done => return None,
        };
        state.followers[index] = (next, has);
        Some(state)
    }

    fn after_record(&self, has: u8) -> Follower {
        if has == RECORDS { Follower::Done } else { Follower::ReadCount }
    }

    /// Nobody can do anything any more, and somebody sleeps over a record.
    fn is_lost(&self) -> bool {
        self.followers.iter().any(|&(step, has)| step == Follower::Asleep && has < self.appended)
    }
}

/// A state in which a wake-up is lost, if any order of the steps leads to one.
fn lost_wake_up(protocol: Protocol) -> Option<State> {
    let mut known = HashSet::from([State::start()]);
    let mut open = vec![State::start()];
    while let Some(state) = open.pop() {
        let next = state.next(protocol);
        if next.is_empty() && state.is_lost() {
            return Some(state);
        }
        open.extend(next.into_iter().filter(|state| known.insert(state.clone())));
    }
    assert!(known.len() > 100, "too few orders: {}", known.len());
    None
}

#[test]
fn no_order_of_the_steps_loses_a_wake_up() {
    assert_eq!(lost_wake_up(Protocol::AsItIs), None);
}

#[test]
fn every_step_of_the_protocol_is_needed() {
    for protocol in [Protocol::WithoutBarrier, Protocol::WordClearedAfterTheCount, Protocol::WithoutLastLook] {
        assert!(lost_wake_up(protocol).is_some(), "{protocol:?} loses nothing");
    }
}
