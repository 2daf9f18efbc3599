//! A follower.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use mapwal::{Error, Follower, LogReader, Lsn, Snapshot, Visibility};

use crate::{PATIENCE, REWOUND_FILE, STOP_FILE, TRIMMED_FILE, payload};

/// What a follower was told.
#[derive(Debug, Default)]
pub struct Told {
    pub received: u64,
    pub rewound: u64,
    pub trimmed: u64,
}

impl Told {
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.rewound += other.rewound;
        self.trimmed += other.trimmed;
    }
}

/// What a follower holds: the term of each record.
struct Held {
    terms: BTreeMap<u64, u64>,
    next: Lsn,
    told: Told,
}

/// Follows until the test says stop, and then leaves what it holds in `dir` under `name`.
pub fn run(dir: &Path, name: &str, visibility: Visibility, mut random: fastrand::Rng) {
    let began = Instant::now();
    // SAFETY: nothing but the processes of this test touches the directory.
    let reader = unsafe { LogReader::open_timeout(dir.join("log"), Duration::from_secs(20)) }.unwrap();
    let mut held = Held { terms: BTreeMap::new(), next: Lsn(1), told: Told::default() };
    let mut follower = held.follow(&reader, visibility);
    let mut view = View::of(&reader);
    loop {
        assert!(began.elapsed() < PATIENCE, "no end is in sight at record {}", held.next);
        let stopping = dir.join(STOP_FILE).exists();
        match held.receive(&mut follower, random.bool()) {
            Ok(false) if stopping => break,
            Ok(_) => {}
            Err(Error::Rewound { to }) => {
                held.rewind(to, reader.first_lsn().unwrap());
                let _ = std::fs::File::create_new(dir.join(REWOUND_FILE));
            }
            Err(Error::Trimmed { lsn, first }) => {
                assert!(lsn == held.next && first > lsn, "record {lsn} is trimmed, {first} is not; at {}", held.next);
                held.told.trimmed += 1;
                let _ = std::fs::File::create_new(dir.join(TRIMMED_FILE));
                held.forget_below(first);
                follower = held.follow(&reader, visibility);
            }
            Err(error) => panic!("at record {}: {error}", held.next),
        }
        if random.u32(..500) == 0 {
            // Of files that have been trimmed since, and whose like have become others.
            view.check();
            view = View::of(&reader);
        }
        if random.u32(..1000) == 0 {
            std::thread::sleep(Duration::from_millis(random.u64(..700)));
        }
    }
    assert_eq!(held.next, reader.published_lsn().unwrap().next(), "everything has come");
    held.write(&dir.join(name));
}

impl Held {
    /// A follower from the next record, or from the first that is left.
    fn follow(&mut self, reader: &LogReader, visibility: Visibility) -> Follower {
        loop {
            match reader.follow(self.next, visibility) {
                Ok(follower) => return follower,
                Err(Error::Trimmed { first, .. }) => {
                    self.forget_below(first);
                    self.next = first;
                }
                // Truncated while there was no follower.
                Err(Error::NotAppended { next, .. }) => self.rewind(next, reader.first_lsn().unwrap()),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Takes the next record, or the next batch and then what is after it. False if nothing comes for a while.
    fn receive(&mut self, follower: &mut Follower, in_batches: bool) -> Result<bool, Error> {
        let timeout = Duration::from_millis(700);
        if in_batches {
            let Some(frames) = follower.next_batch_timeout(4000, timeout)? else { return Ok(false) };
            assert_eq!(frames.first_lsn(), self.next, "a batch begins elsewhere");
            let (next, bytes) = (frames.next_lsn(), frames.bytes().len());
            assert!(next > self.next && bytes > 0);
            for record in records(frames.bytes()) {
                self.take(record);
            }
            assert_eq!(self.next, next, "a batch ends elsewhere");
            return Ok(true);
        }
        let Some(record) = follower.next_timeout(timeout)? else { return Ok(false) };
        let term = payload::term(record).expect("the record is one that was appended");
        self.take((record.lsn().0, term));
        Ok(true)
    }

    fn take(&mut self, (lsn, term): (u64, u64)) {
        assert_eq!(Lsn(lsn), self.next, "a gap or a repeat that nobody told of");
        let before = self.terms.last_key_value().map_or(0, |(_, &before)| before);
        assert!(before <= term, "record {lsn} is older than the one before it");
        self.terms.insert(lsn, term);
        self.next = Lsn(lsn + 1);
        self.told.received += 1;
    }

    /// Forgets the records of which nothing is known any more: what has been trimmed may have been truncated before.
    fn forget_below(&mut self, first: Lsn) {
        self.terms = self.terms.split_off(&first.0);
    }

    /// Forgets the records from `to` on.
    fn rewind(&mut self, to: Lsn, first: Lsn) {
        assert!(to < self.next, "a rewind to record {to} at {}", self.next);
        self.told.rewound += 1;
        self.terms.split_off(&to.0);
        self.forget_below(first);
        self.next = to;
    }

    fn write(&self, path: &Path) {
        let Told { received, rewound, trimmed } = self.told;
        let mut text = format!("{received} {rewound}\n{trimmed} 0\n");
        for (lsn, term) in &self.terms {
            writeln!(text, "{lsn} {term}").unwrap();
        }
        std::fs::write(path, text).unwrap();
    }
}

/// What was there at a time: it stays as it is.
struct View {
    snapshot: Snapshot,
    terms: Vec<(u64, u64)>,
}

impl View {
    fn of(reader: &LogReader) -> Self {
        loop {
            let snapshot = reader.snapshot().unwrap();
            match Self::terms(&snapshot) {
                Ok(terms) => return Self { snapshot, terms },
                // Before it had been looked at.
                Err(Error::Trimmed { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Number and term of each record, of which every byte is looked at.
    fn terms(snapshot: &Snapshot) -> Result<Vec<(u64, u64)>, Error> {
        let term = |record| payload::term(record).expect("the record is one that was appended");
        snapshot.iter().map(|record| record.map(|record| (record.lsn().0, term(record)))).collect()
    }

    fn check(&self) {
        assert_eq!(Self::terms(&self.snapshot).unwrap(), self.terms, "what was seen has changed");
    }
}

/// What a follower left.
pub fn read(path: &Path) -> (BTreeMap<u64, u64>, Told) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut pairs = text.lines().map(|line| {
        let (a, b) = line.split_once(' ').unwrap();
        (a.parse().unwrap(), b.parse().unwrap())
    });
    let ((received, rewound), (trimmed, _)) = (pairs.next().unwrap(), pairs.next().unwrap());
    (pairs.collect(), Told { received, rewound, trimmed })
}

/// Number and term of the records in a run of frames, by the layout that the format states.
fn records(mut run: &[u8]) -> Vec<(u64, u64)> {
    const HEADER_LEN: usize = 24;
    const DATA: u8 = 1;
    let mut records = Vec::new();
    while !run.is_empty() {
        let len = u32::from_le_bytes(*run.first_chunk().unwrap()) as usize;
        let lsn = u64::from_le_bytes(*run[8..].first_chunk().unwrap());
        if run[20] == DATA {
            let payload = &run[HEADER_LEN..len];
            let term = u64::from_le_bytes(*payload[8..].first_chunk().unwrap());
            assert_eq!(payload, payload::make(lsn, term), "record {lsn}");
            records.push((lsn, term));
        }
        run = &run[len.next_multiple_of(8)..];
    }
    records
}
