//! A thread that tells how far the durable watermark has come, as soon as it moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapwal::Log;
use parking_lot::Mutex;

use crate::event::{Event, Teller};

/// Between two looks.
const PAUSE: Duration = Duration::from_micros(50);

/// The log that is watched. None while its watermark may go back.
#[derive(Debug, Default)]
pub struct Watch {
    watched: Mutex<Watched>,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Watched {
    log: Option<Arc<Log>>,
    told: u64,
}

impl Watch {
    /// Begins with `log`.
    pub fn look_at(&self, log: &Arc<Log>) {
        *self.watched.lock() = Watched { log: Some(Arc::clone(log)), told: log.durable_lsn().0 };
    }

    /// Looks at no log from now on.
    pub fn look_away(&self) {
        *self.watched.lock() = Watched::default();
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Watches until it is stopped.
    pub fn run(&self, teller: &Teller) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut watched = self.watched.lock();
            if let Some(log) = &watched.log {
                let durable = log.durable_lsn().0;
                if durable > watched.told {
                    // With the log locked: else a truncation could come between.
                    teller.tell(Event::Durable(durable));
                    watched.told = durable;
                }
            }
            drop(watched);
            std::thread::sleep(PAUSE);
        }
    }
}
