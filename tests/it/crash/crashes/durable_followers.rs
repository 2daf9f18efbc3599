//! Followers of durable records, and the loss of power: what they have had is never taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use mapwal::internals::open_reader;
use mapwal::{Error, Follower, Log, Lsn, Visibility};
use parking_lot::Mutex;

use super::open_simulated;
use crate::simulation::{Crash, Observer, SimDisk};

/// By number, the payloads that a follower has had and was not told to forget.
type Had = BTreeMap<u64, Vec<u8>>;

/// A power cut, and what each follower had had before it.
struct Cut {
    left: SimDisk,
    had: Vec<Had>,
}

/// Lets the followers look whenever something is being synced, and keeps what power cuts would leave.
#[derive(Default)]
struct Watch {
    followers: Mutex<Vec<(Follower, Had)>>,
    cuts: Mutex<Vec<Cut>>,
    /// What a truncation that has begun may have taken away already begins here.
    truncating: Mutex<Option<u64>>,
}

impl Observer for Watch {
    fn crashed(&self, left: SimDisk, crash: Crash) {
        // Shown also while a follower reads the disk.
        let Some(followers) = self.followers.try_lock().filter(|_| crash == Crash::Power) else { return };
        let mut had: Vec<Had> = followers.iter().map(|(_, had)| had.clone()).collect();
        if let Some(from) = *self.truncating.lock() {
            had.iter_mut().for_each(|had| drop(had.split_off(&from)));
        }
        self.cuts.lock().push(Cut { left, had });
    }

    fn syncing(&self) {
        self.look();
    }
}

impl Watch {
    fn look(&self) {
        if let Some(mut followers) = self.followers.try_lock() {
            followers.iter_mut().for_each(|(follower, had)| take_all(follower, had));
        }
    }

    fn act(&self, log: &Log, rng: &mut Rng) {
        match rng.u8(..20) {
            0..10 => {
                for _ in 0..rng.u8(1..20) {
                    let mut payload = vec![0; rng.usize(..900)];
                    rng.fill(&mut payload);
                    log.append(1, &payload).unwrap();
                }
            }
            10..17 => drop(log.sync().unwrap()),
            17..19 => log.rotate().map(|_| ()).unwrap(),
            _ => {
                let to = rng.u64(log.first_lsn().0..=log.next_lsn().0);
                *self.truncating.lock() = Some(to + 1);
                log.truncate_after(Lsn(to)).unwrap();
                *self.truncating.lock() = None;
            }
        }
    }
}

fn take_all(follower: &mut Follower, had: &mut Had) {
    loop {
        match follower.next() {
            Ok(Some(record)) => drop(had.insert(record.lsn().0, record.payload().to_vec())),
            Ok(None) => return,
            Err(Error::Rewound { to }) => drop(had.split_off(&to.0)),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_durable_follower_has_no_record_that_a_power_cut_takes_back() {
    let mut compared = 0;
    for seed in 0..12 {
        let (disk, watch) = (SimDisk::new(seed), Arc::new(Watch::default()));
        let mut rng = Rng::with_seed(seed);
        let log = open_simulated(&disk);
        // SAFETY: nobody else touches the disk's mappings.
        let reader = unsafe { open_reader(Arc::new(disk.clone())) }.unwrap();
        for follower in [log.follow(Lsn(1), Visibility::Durable), reader.follow(Lsn(1), Visibility::Durable)] {
            watch.followers.lock().push((follower.unwrap(), Had::new()));
        }
        disk.observe(Arc::clone(&watch) as Arc<dyn Observer>);
        disk.show_cuts(40);
        for _ in 0..60 {
            watch.act(&log, &mut rng);
            watch.look();
        }
        disk.forget_observer();
        for (at, Cut { left, had }) in std::mem::take(&mut *watch.cuts.lock()).into_iter().enumerate() {
            let log = open_simulated(&left);
            for (lsn, payload) in had.iter().flatten() {
                let record = log.get(Lsn(*lsn)).unwrap_or_else(|error| panic!("seed {seed}, cut {at}: {error}"));
                assert!(record.is_some_and(|record| record.payload() == payload), "seed {seed}, cut {at}: {lsn}");
                compared += 1;
            }
        }
    }
    assert!(compared > 10_000, "too little was compared: {compared}");
}
