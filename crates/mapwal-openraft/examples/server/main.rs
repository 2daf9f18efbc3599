//! A server that appends each line that it is sent, and answers how many there are.

mod parts;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mapwal_openraft::{InPlace, LogStore};
use openraft::{BasicNode, Config, Raft, ServerState, SnapshotPolicy};
use tokio::runtime::{Builder, Runtime};

use parts::{Machine, Nobody, Types};

/// A node alone; with an address for each of them, and a network in place of [`Nobody`], it is one of several.
async fn start(log: mapwal::Log) -> Result<Raft<Types>, Box<dyn Error>> {
    let store = LogStore::open(log, InPlace)?;
    // The state machine is in memory: the log is kept as a whole.
    let config = Config { snapshot_policy: SnapshotPolicy::Never, ..Config::default() };
    let config = Arc::new(config.validate()?);
    let raft = Raft::new(1, config, Nobody, store, Machine::default()).await?;
    if !raft.is_initialized().await? {
        raft.initialize(BTreeMap::from([(1, BasicNode::default())])).await?;
    }
    raft.wait(None).state(ServerState::Leader, "alone").await?;
    Ok(raft)
}

fn answer(connection: TcpStream, raft: &Raft<Types>, runtime: &Runtime) -> Result<(), Box<dyn Error>> {
    let mut answers = connection.try_clone()?;
    for line in BufReader::new(connection).lines() {
        // On return it is replicated, durable and applied.
        let written = runtime.block_on(raft.client_write(Bytes::from(line?)))?;
        writeln!(answers, "{}", written.data)?;
    }
    Ok(())
}

pub(crate) fn serve(directory: &Path, listener: &TcpListener, connections: usize) -> Result<(), Box<dyn Error>> {
    // SAFETY: the directory is on a local file system, and only this log writes to its files.
    let log = unsafe { mapwal::Log::open(directory, &mapwal::Options::new()) }?;
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let raft = runtime.block_on(start(log.clone()))?;
    for connection in listener.incoming().take(connections) {
        answer(connection?, &raft, &runtime)?;
    }
    runtime.block_on(raft.shutdown())?;
    Ok(log.close()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("the directory of the log, please")?;
    let listener = TcpListener::bind("127.0.0.1:7000")?;
    serve(Path::new(&directory), &listener, usize::MAX)
}
