//! The nodes, as the driver has them: started, hit, and brought back.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::client::Shared;
use super::network::Network;
use super::process::{Process, last_words};
use super::volume::{BLOCK, FileSystem, Volume};
use crate::api::{Done, Order, path};
use crate::http::Caller;
use crate::{DiskKind, Flaw, Outcome, Run};

/// A node, and what was done to its process.
#[derive(Default)]
pub(super) struct Node {
    /// The address that the others have of it.
    pub(super) address: String,
    pub(super) kind: DiskKind,
    pub(super) process: Option<Process>,
    /// What it has its files on, if it is a file system of its own.
    volume: Option<Volume>,
    is_stopped: bool,
    /// Its disk was made to fail: it may end by itself.
    pub(super) may_fail: bool,
    /// It loses its power when it votes.
    pub(super) loses_power: bool,
}

pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) network: Network,
    pub(super) clients: Arc<Shared>,
    pub(super) rng: Rng,
    pub(super) killed: u64,
    pub(super) partitions: u64,
    pub(super) snapshots: Arc<AtomicU64>,
    /// What was done, and when.
    pub(super) events: Vec<String>,
    directory: TempDir,
    next_id: u64,
    flaw: Option<Flaw>,
    has_volumes: bool,
    began: Instant,
    is_verbose: bool,
}

impl Cluster {
    pub(super) fn new(run: &Run) -> Outcome<Self> {
        Ok(Self {
            nodes: BTreeMap::new(),
            network: Network::new(),
            clients: Shared::new(),
            rng: Rng::with_seed(run.seed),
            killed: 0,
            partitions: 0,
            snapshots: Arc::default(),
            events: Vec::new(),
            directory: tempfile::Builder::new().prefix("mapwal-cluster-").tempdir()?,
            next_id: 1,
            flaw: run.flaw,
            has_volumes: run.own_mounts,
            began: Instant::now(),
            is_verbose: run.verbose,
        })
    }

    pub(super) fn note(&mut self, event: &str) {
        let event = format!("{:8.3} {event}", self.began.elapsed().as_secs_f64());
        if self.is_verbose {
            eprintln!("{event}");
        }
        self.events.push(event);
    }

    fn directory_of(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("node-{id}"))
    }

    /// What a node has said on standard error, of each start: not on its own disk, which may be full.
    pub(super) fn said_of(&self, id: u64) -> PathBuf {
        self.directory_of(id).with_extension("said")
    }

    /// A node with an empty disk, under a name that no other one ever had.
    pub(super) async fn add(&mut self) -> Outcome<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let address = self.network.add(id).await?.to_string();
        fs::create_dir(self.directory_of(id))?;
        let volume = self.volume(id)?;
        self.nodes.insert(id, Node { address, volume, ..Node::default() });
        self.start(id).await?;
        Ok(id)
    }

    /// A file system for a new node, on one kind or the other.
    fn volume(&mut self, id: u64) -> Outcome<Option<Volume>> {
        if !self.has_volumes {
            return Ok(None);
        }
        let kind = if self.rng.bool() { FileSystem::Tmpfs } else { FileSystem::Ext4 };
        self.note(&format!("node {id} has its files on a file system of its own: {kind:?}"));
        Volume::mount(&self.directory_of(id), kind).map(Some)
    }

    /// Removes a node for good, and what it had on its disk.
    pub(super) async fn remove(&mut self, id: u64) -> Outcome {
        self.kill(&[id]).await?;
        self.nodes.remove(&id);
        Ok(fs::remove_dir_all(self.directory_of(id))?)
    }

    /// Starts a node that is down, on one kind of disk or the other.
    pub(super) async fn start(&mut self, id: u64) -> Outcome {
        let kind = if self.rng.u8(..4) == 0 { DiskKind::Files } else { DiskKind::Simulated };
        self.note(&format!("node {id} starts: {kind:?}"));
        let (files, seed) = ((self.directory_of(id), self.said_of(id)), self.rng.u64(..));
        self.free(id)?;
        let process = Process::start((id, kind), &files, seed, self.flaw, &self.snapshots).await;
        let process = process.map_err(|error| format!("{error}: {}", last_words(&files.1)))?;
        self.network.lead_to(id, process.address);
        self.clients.addresses.lock().insert(id, process.address);
        if let Some(node) = self.nodes.get_mut(&id) {
            let (address, volume) = (std::mem::take(&mut node.address), node.volume.take());
            *node = Node { address, kind, process: Some(process), volume, ..Node::default() };
        }
        Ok(())
    }

    pub(super) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// The nodes that run, on this kind of disk if one is named.
    pub(super) fn up(&self, kind: Option<DiskKind>) -> Vec<u64> {
        let is_up =
            |node: &Node| node.process.is_some() && !node.is_stopped && kind.is_none_or(|kind| node.kind == kind);
        self.nodes.iter().filter(|(_, node)| is_up(node)).map(|(id, _)| *id).collect()
    }

    /// The processes of these nodes die at the same time, those on simulated disks by the loss of their power.
    pub(super) async fn kill(&mut self, ids: &[u64]) -> Outcome {
        let up: Vec<u64> = ids.iter().copied().filter(|id| self.nodes[id].process.is_some()).collect();
        self.note(&format!("nodes {up:?} are killed, or lose their power"));
        let mut cuts = Vec::new();
        for id in &up {
            self.clients.addresses.lock().remove(id);
            let node = &self.nodes[id];
            let Some(process) = &node.process else { continue };
            if node.kind == DiskKind::Files {
                process.signal(Signal::KILL)?;
                continue;
            }
            process.signal(Signal::CONT)?;
            let address = process.address.to_string();
            cuts.push(tokio::spawn(async move {
                let mut caller = Caller::new(address);
                caller.call::<Done>(path::ORDER, &Order::CutPower, Duration::from_secs(5)).await
            }));
        }
        for cut in cuts {
            // If nobody answers the node has ended by itself, and how is looked at.
            let _ = cut.await?;
        }
        for id in up {
            self.expect_end(id).await?;
            self.killed += 1;
        }
        Ok(())
    }

    /// Has a node on a simulated disk lose its power right after its next vote, if that comes before the cluster is healed.
    pub(super) async fn arm(&mut self, id: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.loses_power = true;
        }
        // It may be down.
        let _ = self.order(id, Order::CutPowerAtVote(true)).await;
    }

    /// The process stands still until the cluster is healed.
    pub(super) fn stop(&mut self, id: u64) -> Outcome {
        self.note(&format!("node {id} is stopped"));
        if let Some(node) = self.nodes.get_mut(&id)
            && let Some(process) = &node.process
        {
            process.signal(Signal::STOP)?;
            node.is_stopped = true;
        }
        Ok(())
    }

    /// Has a disk fail in one way or the other.
    pub(super) async fn break_disk(&mut self, id: u64, order: Order) -> Outcome {
        self.note(&format!("node {id}: {order:?}"));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.may_fail = true;
        }
        // It may be down or busy: then nothing happens.
        let _ = self.order(id, order).await;
        Ok(())
    }

    /// Has a disk be full but for a few blocks: a real one, or what takes its place.
    pub(super) async fn fill_disk(&mut self, id: u64, blocks: u64) -> Outcome {
        let node = &self.nodes[&id];
        let Some(volume) = node.volume.as_ref().filter(|_| node.kind == DiskKind::Files) else {
            return self.break_disk(id, Order::FillDisk(blocks)).await;
        };
        volume.fill(blocks * BLOCK)?;
        self.note(&format!("the file system of node {id} is full, but for {blocks} blocks"));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.may_fail = true;
        }
        Ok(())
    }

    /// There is room again on the file system of a node.
    fn free(&self, id: u64) -> Outcome {
        let volume = self.nodes.get(&id).and_then(|node| node.volume.as_ref());
        Ok(volume.map_or(Ok(()), Volume::free)?)
    }

    /// All links are whole, and all nodes run, with room on their disks.
    pub(super) async fn heal(&mut self) -> Outcome {
        self.note("all is healed");
        self.network.mend_all();
        for node in self.nodes.values_mut() {
            if let Some(process) = node.process.as_ref().filter(|_| node.is_stopped) {
                process.signal(Signal::CONT)?;
            }
            node.is_stopped = false;
        }
        self.look()?;
        for id in self.ids() {
            if self.nodes[&id].process.is_none() {
                self.start(id).await?;
                continue;
            }
            self.free(id)?;
            // A disk may fail late, and a node end before it hears of this.
            if self.nodes[&id].may_fail {
                let _ = self.order(id, Order::FreeDisk).await;
            }
            if self.nodes[&id].loses_power {
                let _ = self.order(id, Order::CutPowerAtVote(false)).await;
            }
        }
        Ok(())
    }

    /// Waits until clients are answered again.
    pub(super) async fn expect_progress(&mut self) -> Outcome {
        let (before, until) = (self.clients.acknowledged(), Instant::now() + Duration::from_secs(60));
        while self.clients.acknowledged() < before + 10 {
            if Instant::now() > until {
                return Err("nothing is acknowledged, a minute after all was healed".into());
            }
            sleep(Duration::from_millis(20)).await;
            self.restart_failed().await?;
        }
        Ok(())
    }

    /// Starts the nodes whose disks have failed late.
    pub(super) async fn restart_failed(&mut self) -> Outcome {
        self.look()?;
        for id in self.ids() {
            if self.nodes[&id].process.is_none() {
                self.start(id).await?;
            }
        }
        Ok(())
    }
}
