//! A random history beside a model: with clean restarts, kills, power cuts between calls and power cuts inside of them.

use fastrand::Rng;
use mapwal::testing::SimulatedDisk;
use openraft::Vote;
use openraft::storage::RaftLogStorage;

use crate::support::{
    Begun, Entry, Id, Outcome, Store, append, begin_append, entry, id, open, open_on, options, read, run, state,
};

const HISTORIES: u64 = 40;
const STEPS: u32 = 60;

/// What a store is to hold.
#[derive(Debug, Clone, PartialEq, Default)]
struct Model {
    /// Those that were not purged.
    entries: Vec<Entry>,
    purged: Option<Id>,
    vote: Option<Vote<u64>>,
}

impl Model {
    /// As `store` has it. Without power what was not read before cannot be read.
    fn of(store: &mut Store) -> Outcome<Self> {
        let (purged, last) = state(store);
        let entries = read(store)?;
        assert_eq!(entries.last().map(|entry| entry.log_id).or(purged), last);
        Ok(Self { entries, purged, vote: run(store.read_vote())? })
    }

    fn next(&self) -> u64 {
        self.entries.last().map(|entry| entry.log_id).or(self.purged).map_or(0, |last| last.index + 1)
    }

    fn truncate(&mut self, from: u64) {
        self.entries.retain(|entry| entry.log_id.index < from);
    }

    fn purge(&mut self, upto: Id) {
        self.entries.retain(|entry| entry.log_id.index > upto.index);
        self.purged = Some(upto);
    }
}

struct History {
    rng: Rng,
    seed: u64,
    disk: SimulatedDisk,
    store: Store,
    model: Model,
    /// The states that the next power cut may leave: one for each step that nothing has waited for.
    possible: Vec<Model>,
    /// The committed ids that it may leave.
    committed: Vec<Option<Id>>,
    term: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let disk = SimulatedDisk::new(seed);
        let store = open_on(&disk);
        let model = Model::default();
        let rng = Rng::with_seed(seed);
        let possible = vec![model.clone()];
        Self { rng, seed, disk, store, model, possible, committed: vec![None], term: 1 }
    }

    fn entries(&mut self) -> Vec<Entry> {
        let next = self.model.next();
        let count = if self.rng.u8(..) < 20 { self.rng.u64(50..200) } else { self.rng.u64(1..6) };
        (next..next + count).map(|index| entry(self.term, index, self.rng.usize(0..1500))).collect()
    }

    /// All that was done is durable.
    fn is_durable(&mut self) {
        self.possible = vec![self.model.clone()];
        self.committed.drain(..self.committed.len() - 1);
    }

    /// A step whose effect is in the model, and whose outcome is this: after an error the power is gone, and the step
    /// was done or was not.
    fn done(&mut self, outcome: &Outcome) {
        if outcome.is_ok() {
            self.is_durable();
        } else {
            self.possible.push(self.model.clone());
            self.restart();
        }
    }

    /// The power was gone, or goes now.
    fn restart(&mut self) {
        self.disk = self.disk.restart();
        self.store = open_on(&self.disk);
        let left = Model::of(&mut self.store).expect("read");
        assert!(self.possible.contains(&left), "seed {}: {left:?}\nis none of {:?}", self.seed, self.possible);
        let committed = run(self.store.read_committed()).expect("read");
        assert!(self.committed.contains(&committed), "seed {}: {committed:?}", self.seed);
        (self.model, self.committed) = (left, vec![committed]);
        self.is_durable();
    }

    fn append(&mut self) {
        let entries = self.entries();
        for entry in &entries {
            self.model.entries.push(entry.clone());
            self.possible.push(self.model.clone());
        }
        if self.rng.bool() {
            // Not waited for: what comes next makes it durable, or takes it away.
            if let Begun::Over(Err(_)) = begin_append(&self.store, entries) {
                self.restart();
            }
        } else {
            let outcome = append(&mut self.store, entries);
            self.done(&outcome);
        }
    }

    fn truncate(&mut self) {
        let first = self.model.purged.map_or(0, |purged| purged.index + 1);
        let from = self.rng.u64(first..=self.model.next());
        self.term += 1;
        // What was not waited for is gone, or is durable.
        let possible = std::mem::take(&mut self.possible);
        self.model.truncate(from);
        self.possible = possible;
        let outcome = run(self.store.truncate(id(1, from)));
        self.done_if_changed(&outcome, from);
    }

    /// A truncation that drops nothing makes nothing durable.
    fn done_if_changed(&mut self, outcome: &Outcome, from: u64) {
        if outcome.is_ok() && self.possible.last().is_some_and(|last| last.next() <= from) {
            return;
        }
        if outcome.is_err() {
            // Of the entries that stay, those that were not durable may be missing as well.
            let cut = self.possible.clone().into_iter().map(|mut model| {
                model.truncate(from);
                model
            });
            let cut: Vec<_> = cut.collect();
            self.possible.extend(cut);
        }
        self.done(outcome);
    }

    fn purge(&mut self) {
        let next = self.model.next();
        let first = self.model.purged.map_or(0, |purged| purged.index + 1);
        let upto =
            if self.rng.u8(..) < 60 { next + self.rng.u64(0..50) } else { self.rng.u64(first..=next.max(first)) };
        let upto = id(self.term, upto);
        self.model.purge(upto);
        let outcome = run(self.store.purge(upto));
        self.done(&outcome);
    }

    fn step(&mut self) {
        match self.rng.u8(..100) {
            0..45 => self.append(),
            45..53 => self.truncate(),
            53..63 => self.purge(),
            63..73 => {
                self.term += 1;
                let vote = Vote::new(self.term, self.rng.u64(..5));
                self.model.vote = Some(vote);
                let outcome = run(self.store.save_vote(&vote));
                self.done(&outcome);
            }
            73..80 => {
                let committed = self.model.entries.last().map(|entry| entry.log_id);
                self.committed.push(committed);
                if run(self.store.save_committed(committed)).is_err() {
                    self.restart();
                }
            }
            80..84 => drop(self.store.log().rotate()),
            84..88 => {
                let closed = self.store.log().close();
                match self.disk.open(&options()) {
                    Ok(log) if closed.is_ok() => {
                        self.is_durable();
                        self.store = open(log);
                    }
                    _ => self.restart(),
                }
            }
            88..90 => {
                // The process dies, if the power is on: nothing is lost.
                let left = self.disk.kill();
                if self.store.log().sync().is_ok() {
                    (self.disk, self.store) = (left.clone(), open_on(&left));
                    self.is_durable();
                }
            }
            90..95 => self.restart(),
            _ => self.disk.end_power_after(self.rng.u64(..40)),
        }
    }
}

#[test]
fn a_random_history_is_what_a_model_says_over_restarts_and_power_cuts() {
    let mut purged = 0;
    for seed in 0..HISTORIES {
        let mut history = History::new(seed);
        for _ in 0..STEPS {
            history.step();
            match Model::of(&mut history.store) {
                Ok(now) => assert_eq!(now, history.model, "seed {seed}"),
                Err(_) => history.restart(),
            }
        }
        history.restart();
        purged += u64::from(history.model.purged.is_some());
    }
    assert!(purged > HISTORIES / 2);
}
