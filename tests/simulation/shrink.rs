//! Looking for the shortest history that still breaks a rule.

use std::time::{Duration, Instant};

use super::history::History;
use super::model::Violation;
use super::run::{Tally, run};

/// Leaves out steps for as long as the history breaks a rule without them.
pub fn shrink(history: &History, violation: (usize, Violation), time: Duration) -> (History, Violation) {
    let deadline = Instant::now() + time;
    let mut best = history.clone();
    best.steps.truncate(violation.0 + 1);
    let mut violation = violation.1;
    let mut len = best.steps.len() / 2;
    while len > 0 {
        let mut start = 0;
        while start < best.steps.len() && Instant::now() < deadline {
            let mut shorter = best.clone();
            shorter.steps.drain(start..(start + len).min(best.steps.len()));
            match run(&shorter, &mut Tally::default()) {
                Err((step, found)) => {
                    shorter.steps.truncate(step + 1);
                    (best, violation) = (shorter, found);
                }
                Ok(()) => start += len,
            }
        }
        len /= 2;
    }
    (best, violation)
}
