//! The driver: it starts the nodes, is their clients, strikes, and judges.

mod bridge;
mod check;
mod client;
mod cluster;
mod ends;
mod fire;
mod history;
mod members;
mod network;
mod orders;
mod process;
mod verdict;
mod volume;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Outcome, Run};
use client::Client;
use cluster::Cluster;
pub(crate) use fire::Strike;
use verdict::Verdict;

const NODES: u64 = 5;

/// Whether nothing was found.
pub(crate) fn run(run: &Run) -> Outcome<bool> {
    if !run.own_mounts
        && let Err(why) = volume::enter_namespace()
    {
        eprintln!(
            "cluster: no node has a file system of its own, so that a full disk is a limit on the length of files: {why}"
        );
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // On this thread, which stays until the end: the nodes end with the thread that has started them.
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            done = conduct(run) => done,
            _ = interrupt.recv() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    })
}

async fn conduct(run: &Run) -> Outcome<bool> {
    let mut cluster = Cluster::new(run)?;
    let mut verdict = Verdict::default();
    let mut clients = JoinSet::new();
    if let Err(error) = burn(run, &mut cluster, &mut clients, &mut verdict).await {
        verdict.violations += 1;
        verdict.add(error.to_string());
    }
    clients.abort_all();
    if !verdict.is_good() {
        let path = verdict.write(run, &cluster)?;
        eprintln!("seed {}: the history is in {}", run.seed, path.display());
    }
    let shared = &cluster.clients;
    println!(
        "ops={} ok={} killed={} partitions={} snapshots={} violations={} lost={}",
        shared.operations.load(Ordering::Relaxed),
        shared.acknowledged(),
        cluster.killed,
        cluster.partitions,
        cluster.snapshots.load(Ordering::Relaxed),
        verdict.violations,
        verdict.lost,
    );
    Ok(verdict.is_good())
}

/// The run: it ends early if something is found.
async fn burn(run: &Run, cluster: &mut Cluster, clients: &mut JoinSet<()>, verdict: &mut Verdict) -> Outcome {
    members::found(cluster, NODES).await?;
    let shared = Arc::clone(&cluster.clients);
    for id in 0..run.clients {
        clients.spawn(Client::new(id, run.seed, &shared).run());
    }
    cluster.expect_progress().await?;
    let end = Instant::now() + run.time();
    while Instant::now() < end && verdict.is_good() {
        fire::round(cluster, &run.only, end).await?;
        verdict.check(shared.history.over()).await?;
    }
    shared.is_over.store(true, Ordering::Relaxed);
    while clients.join_next().await.is_some() {}
    if verdict.is_good() {
        verdict.conclude(cluster).await?;
        cluster.shut_down().await?;
    }
    Ok(())
}
