//! The writer.

use std::path::Path;
use std::time::Duration;

use mapwal::{Log, Lsn, Options, Pin, PinState};

use crate::{RECYCLED_FILE, payload};

/// More than it may hold back, so that the pin is lost now and then.
const PIN_LIMIT_BYTES: u64 = 40 * SEGMENT_SIZE_BYTES;
const SEGMENT_SIZE_BYTES: u64 = 64 << 10;
const PIN_NAME: &str = "pin";
/// Terms of one process: each truncation begins one.
const TERMS: u64 = 1 << 20;

/// Writes until it is killed; in term 0 it only closes the log.
pub fn run(path: &Path, term: u64, random: fastrand::Rng) {
    // SAFETY: nothing but the processes of this test touches the directory.
    let log = unsafe { Log::open(path, &Options::new().segment_size_bytes(SEGMENT_SIZE_BYTES)) }.unwrap();
    if term == 0 {
        return log.close().unwrap();
    }
    let mut writer = Writer { log: &log, term: term * TERMS, random, guard: None };
    loop {
        writer.act();
        if log.stats().recycled_segments > 0 {
            let _ = std::fs::File::create_new(path.with_file_name(RECYCLED_FILE));
        }
    }
}

struct Writer<'l> {
    log: &'l Log,
    term: u64,
    random: fastrand::Rng,
    guard: Option<Pin>,
}

impl Writer<'_> {
    fn act(&mut self) {
        let (first, next) = (self.log.first_lsn().0, self.log.next_lsn().0);
        match self.random.u32(..1000) {
            0..600 => self.append(),
            600..750 => self.append_batch(),
            750..800 => drop(self.log.sync().unwrap()),
            800..815 => self.log.rotate().map(|_| ()).unwrap(),
            815..830 => self.log.put_meta(1, &next.to_le_bytes()).map(|_| ()).unwrap(),
            830..850 if next > first => {
                let kept = next - self.random.u64(1..=(next - first).min(900));
                self.log.truncate_after(Lsn(kept.max(first))).unwrap();
                self.term += 1;
            }
            // Mostly leaves a good deal; at times next to nothing.
            850..880 => {
                let left = self.random.u64(..20_000);
                self.trim(next.saturating_sub(left).max(first));
            }
            880..890 => self.trim(next),
            890..900 => self.guard = Some(self.log.pin(Lsn(self.random.u64(first..=next))).unwrap()),
            900..910 => self.guard = None,
            910..930 => self.move_pin(first, next),
            _ => std::thread::sleep(Duration::from_millis(self.random.u64(..3))),
        }
    }

    fn append(&mut self) {
        for _ in 0..self.random.u32(1..40) {
            let lsn = self.log.next_lsn();
            assert_eq!(self.log.append(1, &payload::make(lsn.0, self.term)).unwrap(), lsn);
        }
    }

    fn append_batch(&mut self) {
        let next = self.log.next_lsn().0;
        let payloads: Vec<_> = (next..next + self.random.u64(2..30)).map(|lsn| payload::make(lsn, self.term)).collect();
        let batch: Vec<_> = payloads.iter().map(|payload| (2, &payload[..])).collect();
        assert_eq!(self.log.append_batch(&batch).unwrap().start, Lsn(next));
    }

    /// Trims, and checks that what was pinned is still there.
    fn trim(&mut self, lsn: u64) {
        let named = self.log.pins().into_iter().find(|pin| pin.state == PinState::Reserved).map(|pin| pin.lsn);
        let pinned: Vec<Lsn> = self.guard.as_ref().map(Pin::lsn).into_iter().chain(named).collect();
        self.log.trim_before(Lsn(lsn)).unwrap();
        let first = self.log.first_lsn();
        assert!(pinned.iter().all(|&pin| first <= pin), "trimmed to {first}, with pins at {pinned:?}");
    }

    fn move_pin(&mut self, first: u64, next: u64) {
        let to = Lsn(self.random.u64(first..=next));
        match self.log.advance_pin(PIN_NAME, to) {
            Ok(()) => {}
            Err(mapwal::Error::Pin { fault: mapwal::error::PinFault::Missing, .. }) => {
                self.log.create_pin(PIN_NAME, "the writer", to, Some(PIN_LIMIT_BYTES)).unwrap();
            }
            Err(mapwal::Error::Pin { fault: mapwal::error::PinFault::Lost { .. }, .. }) => {
                self.log.drop_pin(PIN_NAME).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}
