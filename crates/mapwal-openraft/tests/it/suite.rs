//! openraft's own suite, four times: as it is, and on a store that something happens to before every call.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{RaftLogReader, Vote};

use crate::shaken::{Before, Shaken};
use crate::support::machine::Machine;
use crate::support::{Entry, Id, Outcome, Store, Types, open_in, run};

/// Of its 35 cases one needs two.
const STORES: u64 = 36;

impl RaftLogReader<Types> for Shaken {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Outcome<Vec<Entry>> {
        self.store().try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Outcome<Vec<Entry>> {
        self.store().limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<Types> for Shaken {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Outcome<LogState<Types>> {
        self.store().get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Outcome {
        self.store().save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Outcome<Option<Vote<u64>>> {
        self.store().read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<Id>) -> Outcome {
        let mut store = self.store();
        store.save_committed(committed).await?;
        // By itself it is not durable.
        store.log().sync().expect("synced");
        Ok(())
    }

    async fn read_committed(&mut self) -> Outcome<Option<Id>> {
        self.store().read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Outcome
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        self.store().append(entries, callback).await
    }

    async fn truncate(&mut self, log_id: Id) -> Outcome {
        self.store().truncate(log_id).await
    }

    async fn purge(&mut self, log_id: Id) -> Outcome {
        self.store().purge(log_id).await
    }
}

struct Builder<'c> {
    before: Before,
    built: &'c AtomicU64,
}

impl StoreBuilder<Types, Shaken, Machine> for Builder<'_> {
    async fn build(&self) -> Outcome<((), Shaken, Machine)> {
        let seed = self.built.fetch_add(1, Ordering::Relaxed);
        Ok(((), Shaken::new(self.before, seed), Machine::default()))
    }
}

fn shaken_suite(before: Before) {
    let built = AtomicU64::new(0);
    let outcome = Suite::test_all(Builder { before, built: &built });
    assert!(outcome.is_ok(), "store {} of {STORES}: {outcome:?}", built.into_inner());
    assert_eq!(built.into_inner(), STORES);
}

#[test]
fn openrafts_suite_passes_in_a_directory() {
    struct InDirectories(Arc<AtomicU64>);
    impl StoreBuilder<Types, Store, Machine, tempfile::TempDir> for InDirectories {
        async fn build(&self) -> Outcome<(tempfile::TempDir, Store, Machine)> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let directory = tempfile::tempdir().expect("a directory");
            let store = open_in(&directory);
            Ok((directory, store, Machine::default()))
        }
    }
    let built = Arc::<AtomicU64>::default();
    let outcome = Suite::test_all(InDirectories(Arc::clone(&built)));
    let built = built.load(Ordering::Relaxed);
    assert!(outcome.is_ok(), "store {built} of {STORES}: {outcome:?}");
    assert_eq!(built, STORES);
}

#[test]
fn openrafts_suite_passes_with_the_log_closed_and_opened_before_every_call() {
    shaken_suite(Before::Reopening);
}

#[test]
fn openrafts_suite_passes_with_a_fresh_segment_before_every_call() {
    shaken_suite(Before::Rotation);
}

#[test]
fn openrafts_suite_passes_on_a_disk_that_loses_power_before_every_call() {
    shaken_suite(Before::PowerCut);
}

#[test]
fn the_power_cuts_of_the_suite_take_what_is_not_durable() {
    let mut lost = 0;
    for seed in 0..20 {
        let shaken = Shaken::new(Before::PowerCut, seed);
        run(shaken.store().save_committed(Some(crate::support::id(1, 1)))).expect("saved");
        lost += usize::from(run(shaken.store().read_committed()).expect("read").is_none());
    }
    assert!(lost > 0, "nothing is ever lost");
}
