//! A copy of a log, kept by a follower.

use std::collections::BTreeMap;

use mapwal::{Error, Follower, Log, LogReader, Lsn, Visibility};

use super::oracle::Oracle;

/// What followers come from.
pub(super) trait Leader {
    fn follow(&self, from: Lsn, visibility: Visibility) -> Follower;
}

impl Leader for Log {
    fn follow(&self, from: Lsn, visibility: Visibility) -> Follower {
        self.follow(from, visibility).expect("a number of the log")
    }
}

impl Leader for LogReader {
    fn follow(&self, from: Lsn, visibility: Visibility) -> Follower {
        self.follow(from, visibility).expect("a number of the log")
    }
}

pub(super) struct Replica {
    follower: Follower,
    visibility: Visibility,
    /// Tag and payload of the records handed out and not taken back, by number.
    records: BTreeMap<u64, (u16, Vec<u8>)>,
    /// The lowest number replaced since it caught up last.
    cut: Option<u64>,
}

impl Replica {
    /// One for each visibility, from record `first` on.
    pub(super) fn pair(leader: &dyn Leader, first: u64) -> Vec<Self> {
        let replica = |visibility| Self {
            follower: leader.follow(Lsn(first), visibility),
            visibility,
            records: BTreeMap::new(),
            cut: None,
        };
        vec![replica(Visibility::Published), replica(Visibility::Durable)]
    }

    pub(super) fn expect_cut(&mut self, lsn: u64) {
        self.cut = Some(self.cut.map_or(lsn, |cut| cut.min(lsn)));
    }

    /// Takes what there is, and compares it with the model. `at_once` says that the follower learns of a truncation
    /// before it hands out another record.
    pub(super) fn catch_up(&mut self, leader: &dyn Leader, oracle: &Oracle, at_once: bool) {
        let began = self.follower.next_lsn().0;
        let mut rewound = Vec::new();
        loop {
            let position = self.follower.next_lsn().0;
            match self.follower.next() {
                Ok(Some(record)) => {
                    assert!(record.lsn().0 >= position, "record {} at {position}", record.lsn());
                    self.records.insert(record.lsn().0, (record.tag(), record.payload().to_vec()));
                }
                Ok(None) => break,
                Err(Error::Rewound { to }) => {
                    drop(self.records.split_off(&to.0));
                    rewound.push(to.0);
                }
                Err(Error::Trimmed { first, .. }) => {
                    assert_eq!(first.0, oracle.first());
                    self.records.clear();
                    self.follower = leader.follow(first, self.visibility);
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        let expected: Vec<u64> = self.cut.take().into_iter().filter(|&cut| cut < began).collect();
        assert!(!at_once || rewound == expected, "rewound to {rewound:?} from {began}, truncated to {expected:?}");
        self.compare(oracle);
    }

    fn compare(&self, oracle: &Oracle) {
        let end = match self.visibility {
            Visibility::Published => oracle.next(),
            Visibility::Durable => oracle.durable() + 1,
        };
        let numbered = (oracle.first()..end).zip(oracle.records());
        let expected = numbered.filter_map(|(lsn, entry)| entry.as_ref().map(|e| (lsn, (e.tag, &e.payload))));
        let copied = self.records.range(oracle.first()..).map(|(lsn, (tag, payload))| (*lsn, (*tag, payload)));
        assert!(copied.eq(expected), "a follower of {:?} records has another log", self.visibility);
        assert!(self.follower.next_lsn().0 <= oracle.next());
    }
}
