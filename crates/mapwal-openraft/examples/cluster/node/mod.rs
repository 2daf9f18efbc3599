//! A node: a process with a log, a state machine and a server.

mod disk;
mod machine;
mod network;
mod orders;
mod server;
mod snapshot;
mod store;

use std::io::{self, Read, Write};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mapwal::Log;
use mapwal_openraft::{InPlace, LogStore};
use openraft::{Config, SnapshotPolicy};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::types::Raft;
use crate::{Flaw, NodeArguments, Outcome, http};
use disk::Disk;
use machine::Machine;
use network::Network;
use store::Store;

/// How a process ends, beside 0 when it was asked to.
pub(crate) mod code {
    /// The power has gone.
    pub(crate) const POWER: i32 = 9;
    /// The storage has failed: the raft has ended.
    pub(crate) const STORAGE: i32 = 10;
    /// The raft has ended though nothing has failed.
    pub(crate) const RACE: i32 = 11;
}

/// What openraft 0.9.25 ends a leader with that is to send a snapshot to a node, and has not heard yet that its task for this node has met a
/// higher vote and ended. It takes the closed channel for an error of the storage.
const TASK_HAS_ENDED: &str = "replication channel closed";

/// The signal for a file that would become too long.
const SIGXFSZ: i32 = 25;

struct Node {
    id: u64,
    raft: Raft,
    machine: Machine,
    log: Log,
    disk: Disk,
    flaw: Option<Flaw>,
    cuts_at_vote: AtomicBool,
    /// It was asked to end.
    is_stopping: AtomicBool,
}

/// Tells the driver something, in a line.
fn tell(what: &str) {
    // Without a driver there is nobody to tell.
    let _ = writeln!(io::stdout().lock(), "{what}");
}

pub(crate) fn run(arguments: &NodeArguments) -> Outcome<bool> {
    end_with_driver(arguments.parent)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(arguments))?;
    Ok(true)
}

/// The node ends when its driver does, however that does.
fn end_with_driver(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if std::os::unix::process::parent_id() != parent {
        exit(1);
    }
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        exit(1);
    });
    Ok(())
}

fn config() -> Config {
    Config {
        cluster_name: "cluster".to_owned(),
        heartbeat_interval: 100,
        election_timeout_min: 400,
        election_timeout_max: 800,
        install_snapshot_timeout: 2_000,
        max_payload_entries: 64,
        replication_lag_threshold: 400,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(300),
        snapshot_max_chunk_size: 16 << 10,
        max_in_snapshot_log_to_keep: 100,
        ..Config::default()
    }
}

async fn serve(arguments: &NodeArguments) -> Outcome {
    // So that a file that would become too long is an error, and not the end.
    let _too_long = signal(SignalKind::from_raw(SIGXFSZ))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let node = Arc::new(Node::start(arguments).await?);
    tell(&format!("listening {address}"));
    tokio::spawn(Arc::clone(&node).watch());
    let answer = move |path: String, body| {
        let node = Arc::clone(&node);
        async move { node.answer(&path, body).await }
    };
    Ok(http::serve(listener, answer).await?)
}

impl Node {
    async fn start(arguments: &NodeArguments) -> Outcome<Self> {
        let NodeArguments { id, flaw, .. } = *arguments;
        let (disk, log) = Disk::open(&arguments.directory, arguments.disk, arguments.seed)?;
        let machine = Machine::open(&arguments.directory)?;
        let config = Arc::new(config().validate()?);
        let inner = LogStore::open(log.clone(), InPlace)?;
        let network = Network::of(id);
        let raft = Raft::new(id, config, network, Store { id, inner, flaw }, machine.clone()).await?;
        Ok(Self {
            id,
            raft,
            machine,
            log,
            disk,
            flaw,
            cuts_at_vote: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Ends the process when the raft has ended by itself.
    async fn watch(self: Arc<Self>) {
        let mut metrics = self.raft.metrics();
        let why = loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                break fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                break "the raft is gone".to_owned();
            }
        };
        if !self.is_stopping.load(Ordering::Relaxed) {
            self.leave(&why);
        }
    }

    /// Ends the process after the storage has failed, the power has gone, or the raft has ended.
    fn leave(&self, why: &str) {
        let code = match why {
            _ if !self.disk.has_power() => code::POWER,
            why if why.ends_with(TASK_HAS_ENDED) => code::RACE,
            _ => code::STORAGE,
        };
        eprintln!("node {}: {why}", self.id);
        if let Err(error) = self.disk.leave() {
            eprintln!("node {}: {error}", self.id);
            exit(1);
        }
        exit(code);
    }

    /// The power goes. What was said before it did may still arrive.
    fn lose_power(self: Arc<Self>) {
        self.disk.cut_power();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            self.leave("the power is gone");
        });
    }

    fn loses_power_at_vote(&self) -> bool {
        self.cuts_at_vote.swap(false, Ordering::Relaxed)
    }
}
