//! Which call of an archiver may change the log's directory.
//!
//! A thread may still have work for a future that was dropped. Done later, beside what the next call or the next archiver does, it
//! would change a pin that is another one by then.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, Result};

/// The number of the call whose turn it is. Held while the directory is changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<u64>>);

/// A call's right to change the directory, until the next call has its turn.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    turns: Arc<Mutex<u64>>,
    number: u64,
}

impl Turns {
    /// Waits for the change that an earlier call is in the middle of, if there is one. None of its others is made after this.
    pub(crate) fn next(&self) {
        *self.0.lock() += 1;
    }

    /// That of the call whose turn it is.
    pub(crate) fn current(&self) -> Turn {
        Turn { turns: Arc::clone(&self.0), number: *self.0.lock() }
    }
}

impl Turn {
    /// Makes a change, or none if the turn is over; nothing waits for the answer then.
    pub(crate) fn change<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        let number = self.turns.lock();
        if *number == self.number {
            change()
        } else {
            Err(Error::io("change", Path::new("the pin"), io::ErrorKind::Interrupted.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_an_earlier_turn_is_not_made() {
        let turns = Turns::default();
        let (first, mut changes) = (turns.current(), Vec::new());
        let mut make = |turn: &Turn, what| {
            turn.change(|| {
                changes.push(what);
                Ok(())
            })
        };
        assert!(make(&first, "first").is_ok());
        turns.next();
        assert!(make(&first, "late").is_err());
        assert!(make(&turns.current(), "second").is_ok());
        assert_eq!(changes, ["first", "second"]);
    }

    #[test]
    fn a_turn_begins_when_the_change_of_the_earlier_one_is_made() {
        let turns = Turns::default();
        let first = turns.current();
        let made = Arc::new(Mutex::new(false));
        let (begun, has_begun) = std::sync::mpsc::channel();
        let changing = std::thread::spawn({
            let made = Arc::clone(&made);
            move || {
                first.change(|| {
                    begun.send(()).expect("it is waited for");
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    *made.lock() = true;
                    Ok(())
                })
            }
        });
        has_begun.recv().expect("it begins");
        turns.next();
        assert!(*made.lock(), "it is still under way");
        changing.join().expect("it ends").expect("it was its turn");
    }
}
