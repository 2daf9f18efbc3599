//! Whether what was seen of a key can be explained by one register, at which each operation happens at one moment between its begin and its end.

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use super::history::{Kind, Operation};

/// A register with the number of the last write; 0 before the first one.
struct Register;

impl Specification for Register {
    type State = u64;
    type Operation = Kind;

    fn init() -> u64 {
        0
    }

    fn apply(operation: &Kind, state: &u64) -> (bool, u64) {
        match *operation {
            Kind::Get(found) => (found == *state, *state),
            Kind::Put(number) => (true, number),
            Kind::Swap { expected, new, done } => {
                let is_done = expected == *state;
                let is_valid = done.is_none_or(|done| done == is_done);
                (is_valid, if is_valid && is_done { new } else { *state })
            }
        }
    }
}

/// Whether the operations on one key are linearizable.
pub(super) fn is_linearizable(operations: &[Operation]) -> bool {
    // An operation without an answer ends after all others: to happen never is as good as to happen last.
    let last = u64::MAX;
    let mut actions = Vec::with_capacity(operations.len() * 2);
    for (index, operation) in operations.iter().enumerate() {
        actions.push((operation.begin, index, Action::Call(operation.kind)));
        actions.push((operation.end.unwrap_or(last), index, Action::Response(operation.kind)));
    }
    actions.sort_by_key(|(time, ..)| *time);
    let actions: Vec<_> = actions.into_iter().map(|(_, index, action)| (index, action)).collect();
    actions.is_empty() || WGLChecker::<Register>::is_linearizable(History::from_actions(actions))
}
