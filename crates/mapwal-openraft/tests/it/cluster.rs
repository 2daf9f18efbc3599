//! What the example `cluster` takes for linearizable.
//!
//! | planted | noticed by |
//! |---|---|
//! | a read finds anything | `a_value_that_was_overwritten_is_not_read` |
//! | an operation without an answer ends where it began | `a_write_without_an_answer_may_come_late` |
//! | a compare-and-set that has no answer is one that took effect | `a_compare_and_set_without_an_answer_may_have_failed` |

#[path = "../../examples/cluster/driver/check.rs"]
mod check;
#[path = "../../examples/cluster/driver/history.rs"]
#[expect(dead_code, reason = "of which the operations are used")]
mod history;

use check::is_linearizable;
use history::{Kind, Operation};

fn operation(begin: u64, end: impl Into<Option<u64>>, kind: Kind) -> Operation {
    Operation { client: begin, begin, end: end.into(), kind }
}

fn swap(expected: u64, new: u64, done: Option<bool>) -> Kind {
    Kind::Swap { expected, new, done }
}

#[test]
fn a_value_that_was_overwritten_is_not_read() {
    let write = [operation(0, 1, Kind::Put(1)), operation(2, 3, Kind::Put(2))];
    let read = |begin, end, found| [&write[..], &[operation(begin, end, Kind::Get(found))]].concat();
    assert!(is_linearizable(&[]));
    assert!(is_linearizable(&read(4, 5, 2)));
    assert!(!is_linearizable(&read(4, 5, 1)), "stale");
    assert!(!is_linearizable(&read(4, 5, 0)), "lost");
    assert!(!is_linearizable(&read(4, 5, 3)), "out of nothing");
    let at_once = [operation(0, 9, Kind::Put(1)), operation(1, 3, Kind::Put(2)), operation(4, 8, Kind::Get(1))];
    assert!(is_linearizable(&at_once), "the first may come last");
}

#[test]
fn a_write_without_an_answer_may_come_late() {
    let history = |found: [u64; 3]| {
        let reads = found.into_iter().zip([4, 6, 8]).map(|(found, at)| operation(at, at + 1, Kind::Get(found)));
        [operation(0, None, Kind::Put(1)), operation(2, 3, Kind::Put(2))].into_iter().chain(reads).collect::<Vec<_>>()
    };
    for found in [[2, 2, 2], [2, 1, 1], [1, 1, 1]] {
        assert!(is_linearizable(&history(found)), "{found:?}");
    }
    for found in [[1, 2, 2], [2, 1, 2]] {
        assert!(!is_linearizable(&history(found)), "{found:?}: it comes once");
    }
}

#[test]
fn a_compare_and_set_tells_what_it_has_found() {
    let history = |expected, done| {
        [operation(0, 1, Kind::Put(1)), operation(2, 3, swap(expected, 2, Some(done))), operation(4, 5, Kind::Get(2))]
    };
    assert!(is_linearizable(&history(1, true)));
    assert!(!is_linearizable(&history(1, false)), "it had to take effect");
    assert!(!is_linearizable(&history(0, true)), "it must not");
    let both = [operation(0, 1, swap(0, 1, Some(true))), operation(2, 3, swap(0, 2, Some(true)))];
    assert!(!is_linearizable(&both), "only one of them is the first");
}

#[test]
fn a_compare_and_set_without_an_answer_may_have_failed() {
    let history = |found| {
        [operation(0, 1, Kind::Put(1)), operation(2, None, swap(7, 2, None)), operation(4, 5, Kind::Get(found))]
    };
    assert!(is_linearizable(&history(1)));
    assert!(!is_linearizable(&history(2)), "it cannot have taken effect");
}
