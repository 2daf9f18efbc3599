//! What is measured, by a process of its own each time.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use mapwal_openraft::{InPlace, LogStore};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, RaftLogReader};

use crate::peer::PeerStore;
use crate::{Arguments, Types};

/// Entries that are read at a time, and appended at a time to fill a log.
const RANGE: u64 = 64;
const FILL: u64 = 1000;
const IN_FLIGHT: usize = 64;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Workload {
    /// Appends of this many entries, each of which is waited for.
    Awaited(u64, &'static str),
    /// Appends of one entry, of which several are waited for at a time.
    Pipelined,
    ReadHot,
    ReadCold,
    Reopen,
    ReopenClosed,
    Memory,
}

impl Workload {
    pub(crate) const ALL: [Self; 9] = [
        Self::Awaited(1, "append 1"),
        Self::Awaited(64, "append 64"),
        Self::Awaited(512, "append 512"),
        Self::Pipelined,
        Self::ReadHot,
        Self::ReadCold,
        Self::Reopen,
        Self::ReopenClosed,
        Self::Memory,
    ];

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Awaited(_, name) => name,
            Self::Pipelined => "append 1, 64 in flight",
            Self::ReadHot => "read 64 at a time, hot",
            Self::ReadCold => "open and read, cold",
            Self::Reopen => "reopen after a kill",
            Self::ReopenClosed => "reopen after a close",
            Self::Memory => "memory after a reopening",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name() == name)
    }

    pub(crate) fn unit(&self) -> &'static str {
        match self {
            Self::Awaited(..) | Self::Pipelined | Self::ReadHot | Self::ReadCold => "k/s",
            Self::Reopen | Self::ReopenClosed => "ms",
            Self::Memory => "MiB",
        }
    }

    pub(crate) fn more_is_better(&self) -> bool {
        self.unit() == "k/s"
    }

    pub(crate) fn measure(self, store: &str, arguments: &Arguments) -> Result<f64> {
        let directory = tempfile::tempdir_in(&arguments.dir)?;
        let path = directory.path().join("log");
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        match store {
            "mapwal-openraft" => runtime
                .block_on(self.run(&path, arguments, open_mapwal, |store| store.log().close().context("not closed"))),
            // It has nothing to be closed.
            "raft-log" => runtime.block_on(self.run(&path, arguments, open_peer, |_| Ok(()))),
            _ => bail!("no such store"),
        }
    }

    async fn run<S>(
        self,
        path: &Path,
        arguments: &Arguments,
        open: impl Fn(&Path) -> Result<S>,
        close: impl Fn(&S) -> Result<()>,
    ) -> Result<f64>
    where
        S: RaftLogStorage<Types> + RaftLogReader<Types> + Clone,
    {
        let source = Source::new(arguments.data);
        let time = Duration::from_millis(arguments.time);
        let mut store = open(path)?;
        match self {
            Self::Awaited(batch, _) => append(&mut store, &source, time, batch, 1).await,
            Self::Pipelined => append(&mut store, &source, time, 1, IN_FLIGHT).await,
            Self::ReadHot => {
                // As many as either keeps in memory.
                let entries = arguments.entries.min(100_000);
                fill(&mut store, &source, entries).await?;
                read(&mut store, entries, time, true, Instant::now()).await
            }
            Self::ReadCold => {
                fill(&mut store, &source, arguments.entries).await?;
                close(&store)?;
                drop(store);
                forget(path)?;
                let clock = Instant::now();
                let mut store = open(path)?;
                read(&mut store, arguments.entries * 8 / 10, Duration::MAX, false, clock).await
            }
            Self::Reopen | Self::ReopenClosed | Self::Memory => {
                fill(&mut store, &source, arguments.entries).await?;
                if !matches!(self, Self::Reopen) {
                    close(&store)?;
                }
                drop(store);
                reopen(path, &open, arguments.entries, matches!(self, Self::Memory)).await
            }
        }
    }
}

fn open_mapwal(path: &Path) -> Result<LogStore<Types, InPlace>> {
    // SAFETY: the directory is this process's own, and only this log writes to its files.
    let log = unsafe { mapwal::Log::open(path, &mapwal::Options::new()) }?;
    Ok(LogStore::open(log, InPlace)?)
}

fn open_peer(path: &Path) -> Result<PeerStore> {
    fs::create_dir_all(path)?;
    Ok(PeerStore::open(path)?)
}

/// Data that is not the same in two entries.
struct Source {
    noise: Bytes,
    len: usize,
}

impl Source {
    fn new(len: usize) -> Self {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..len + 4096).map(|_| next()).collect();
        Self { noise: noise.into(), len }
    }

    fn entries(&self, first: u64, count: u64) -> Vec<Entry<Types>> {
        let entry = |index: u64| {
            let at = (index % 4096) as usize;
            let data = self.noise.slice(at..at + self.len);
            Entry { log_id: LogId::new(CommittedLeaderId::new(1, 1), index), payload: EntryPayload::Normal(data) }
        };
        (first..first + count).map(entry).collect()
    }
}

async fn fill<S: RaftLogStorage<Types>>(store: &mut S, source: &Source, count: u64) -> Result<()> {
    for first in (0..count).step_by(FILL as usize) {
        store.blocking_append(source.entries(first, FILL.min(count - first))).await?;
    }
    Ok(())
}

type Appending = Pin<Box<dyn Future<Output = Result<(), openraft::StorageError<u64>>>>>;

/// Thousands of entries a second.
async fn append<S: RaftLogStorage<Types> + Clone>(
    store: &mut S,
    source: &Source,
    time: Duration,
    batch: u64,
    in_flight: usize,
) -> Result<f64> {
    // The log has begun.
    store.blocking_append(source.entries(0, batch)).await?;
    let (mut next, mut ended) = (batch, 0_u64);
    let mut waiting: VecDeque<Appending> = VecDeque::new();
    let clock = Instant::now();
    loop {
        let is_over = clock.elapsed() >= time;
        if !is_over && waiting.len() < in_flight {
            let (entries, mut store) = (source.entries(next, batch), store.clone());
            next += batch;
            let mut append: Appending = Box::pin(async move { store.blocking_append(entries).await });
            // It is over already if this thread had to wait for a processor meanwhile.
            match append.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => waiting.push_back(append),
                Poll::Ready(outcome) => {
                    outcome?;
                    ended += batch;
                }
            }
            continue;
        }
        let Some(first) = waiting.pop_front() else { break };
        first.await?;
        ended += batch;
    }
    Ok(ended as f64 / clock.elapsed().as_secs_f64() / 1e3)
}

/// Thousands of entries a second, since `clock`.
async fn read<S: RaftLogReader<Types>>(
    store: &mut S,
    count: u64,
    time: Duration,
    again: bool,
    clock: Instant,
) -> Result<f64> {
    let (mut entries, mut sum) = (0, 0_u64);
    'all: loop {
        for first in (0..count).step_by(RANGE as usize) {
            let found = store.try_get_log_entries(first..(first + RANGE).min(count)).await?;
            for entry in &found {
                let EntryPayload::Normal(data) = &entry.payload else { bail!("no data") };
                sum += u64::from(data[0]) + u64::from(data[data.len() - 1]);
            }
            entries += found.len();
            if clock.elapsed() > time {
                break 'all;
            }
        }
        if !again {
            break;
        }
    }
    std::hint::black_box(sum);
    Ok(entries as f64 / clock.elapsed().as_secs_f64() / 1e3)
}

/// Milliseconds, or MiB that the process has of its own.
async fn reopen<S: RaftLogStorage<Types>>(
    path: &Path,
    open: &impl Fn(&Path) -> Result<S>,
    entries: u64,
    memory: bool,
) -> Result<f64> {
    let before = own_mib()?;
    let clock = Instant::now();
    let mut store = open(path)?;
    let last = store.get_log_state().await?.last_log_id.map(|last| last.index);
    let took = clock.elapsed().as_secs_f64() * 1e3;
    if last != Some(entries - 1) {
        bail!("ends with {last:?}");
    }
    Ok(if memory { own_mib()? - before } else { took })
}

/// Anonymous memory of this process: pages of files can be dropped at any time.
fn own_mib() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// Has the page cache let go of all files in `path`.
fn forget(path: &Path) -> Result<()> {
    for file in fs::read_dir(path)? {
        let file = File::open(file?.path())?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}
