//! openraft's own suite, four times: as it is, and on a store that something happens to before every call.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::alias::VoteOf;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, RaftLogReader, StorageError};
use tempfile::TempDir;

use crate::machine::Machine;
use crate::shaken::{Before, Shaken};
use crate::support::{Entry, Id, Store, Types, open_in, run};

/// Of its 45 cases one needs two.
const STORES: u64 = 46;

impl RaftLogReader<Types> for Shaken {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        self.store().try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.store().limited_get_log_entries(start, end).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        self.store().read_vote().await
    }
}

impl RaftLogStorage<Types> for Shaken {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        self.store().get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> io::Result<()> {
        self.store().save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<Id>) -> io::Result<()> {
        let mut store = self.store();
        store.save_committed(committed).await?;
        // By itself it is not durable.
        store.log().sync()?;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<Id>> {
        self.store().read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.store().append(entries, callback).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<Id>) -> io::Result<()> {
        self.store().truncate_after(last_log_id).await
    }

    async fn purge(&mut self, log_id: Id) -> io::Result<()> {
        self.store().purge(log_id).await
    }
}

/// Counts the stores that it builds.
#[derive(Default)]
struct Builder {
    before: Option<Before>,
    built: AtomicU64,
}

impl Builder {
    fn next(&self) -> u64 {
        self.built.fetch_add(1, Ordering::Relaxed)
    }

    fn expect_all<F>(&self, suite: F)
    where
        F: Future<Output = Result<(), StorageError<Types>>>,
    {
        let outcome = run(suite);
        let built = self.built.load(Ordering::Relaxed);
        assert!(outcome.is_ok(), "store {built} of {STORES}: {outcome:?}");
        assert_eq!(built, STORES);
    }
}

impl StoreBuilder<Types, Store, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Store, Machine), StorageError<Types>> {
        self.next();
        let directory = tempfile::tempdir().expect("a directory");
        let store = open_in(&directory);
        Ok((directory, store, Machine::default()))
    }
}

impl StoreBuilder<Types, Shaken, Machine> for Builder {
    async fn build(&self) -> Result<((), Shaken, Machine), StorageError<Types>> {
        let before = self.before.expect("something happens");
        Ok(((), Shaken::new(before, self.next()), Machine::default()))
    }
}

fn shaken_suite(before: Before) {
    let builder = Builder { before: Some(before), ..Builder::default() };
    builder.expect_all(Suite::<Types, Shaken, Machine, Builder, ()>::test_store(&builder));
}

#[test]
fn openrafts_suite_passes_in_a_directory() {
    let builder = Builder::default();
    builder.expect_all(Suite::<Types, Store, Machine, Builder, TempDir>::test_store(&builder));
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
