//! What is done to the cluster: rounds of one to three strikes, after each of which all is healed and must go on.

use std::time::Duration;

use clap::ValueEnum;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::network::Cut;
use super::{bridge, members};
use crate::api::Order;
use crate::{DiskKind, Outcome};

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Strike {
    /// A few processes die, or lose their power.
    Kill,
    /// All do, at the same time.
    KillAll,
    /// A few processes stand still for longer than an election takes.
    Stop,
    /// The network falls apart in two.
    Split,
    /// The leader is cut off.
    Isolate,
    /// A few links are cut, in one direction only.
    OneWay,
    /// A few disks are full.
    FillDisk,
    /// A few disks fail at one of the next operations.
    FailDisk,
    /// All nodes build a snapshot.
    Snapshot,
    /// Another node is to become the leader.
    MoveLeader,
    /// A node dies for good, and a new one takes its place.
    Replace,
    /// Two elections, with one node between them.
    Bridge,
}

/// Each as often as it is to come.
const STRIKES: [Strike; 22] = [
    Strike::Kill,
    Strike::Kill,
    Strike::Kill,
    Strike::KillAll,
    Strike::KillAll,
    Strike::KillAll,
    Strike::Stop,
    Strike::Stop,
    Strike::Split,
    Strike::Isolate,
    Strike::Isolate,
    Strike::OneWay,
    Strike::OneWay,
    Strike::FillDisk,
    Strike::FillDisk,
    Strike::FailDisk,
    Strike::Snapshot,
    Strike::MoveLeader,
    Strike::Replace,
    Strike::Bridge,
    Strike::Bridge,
    Strike::Bridge,
];

/// Between `low` and `high` milliseconds.
async fn pause(cluster: &mut Cluster, low: u64, high: u64) {
    let time = Duration::from_millis(cluster.rng.u64(low..high));
    sleep(time).await;
}

/// One round, of these strikes only if any are named.
pub(super) async fn round(cluster: &mut Cluster, only: &[Strike], end: Instant) -> Outcome {
    let strikes = if only.is_empty() { &STRIKES } else { only };
    let mut has_replaced = false;
    for _ in 0..cluster.rng.u8(1..=3) {
        let strike = strikes[cluster.rng.usize(..strikes.len())];
        if has_replaced && matches!(strike, Strike::Replace) {
            // Two at a time would be more than the others can make good.
            continue;
        }
        has_replaced |= matches!(strike, Strike::Replace);
        cluster.note(&format!("{strike:?}"));
        hit(cluster, strike).await?;
        pause(cluster, 30, 600).await;
        cluster.look()?;
    }
    if Instant::now() < end {
        pause(cluster, 600, 2500).await;
    }
    cluster.heal().await?;
    if has_replaced {
        members::settle(cluster).await?;
    }
    cluster.expect_progress().await?;
    pause(cluster, 200, 1000).await;
    cluster.restart_failed().await
}

async fn hit(cluster: &mut Cluster, strike: Strike) -> Outcome {
    match strike {
        Strike::Kill => {
            let ids = some(cluster, None);
            cluster.kill(&ids).await?;
            if cluster.rng.bool() {
                pause(cluster, 1, 300).await;
                cluster.restart_failed().await?;
            }
        }
        Strike::KillAll => {
            let ids = cluster.ids();
            cluster.kill(&ids).await?;
            cluster.restart_failed().await?;
        }
        Strike::Stop => {
            for id in some(cluster, None) {
                cluster.stop(id)?;
            }
        }
        Strike::Split => split(cluster),
        Strike::Isolate => isolate(cluster).await,
        Strike::OneWay => one_way(cluster),
        Strike::FillDisk => {
            let after = cluster.rng.u64(..20);
            // Real ones more often than chance has it.
            let kind = cluster.rng.bool().then_some(DiskKind::Files);
            for id in some(cluster, kind) {
                cluster.fill_disk(id, after).await?;
                if cluster.rng.bool() {
                    // It has no room for one, and may end of that before it answers.
                    let _ = cluster.order(id, Order::Snapshot).await;
                }
            }
        }
        Strike::FailDisk => {
            let after = cluster.rng.u64(..20);
            for id in some(cluster, Some(DiskKind::Simulated)) {
                cluster.break_disk(id, Order::FailDisk(after)).await?;
            }
        }
        Strike::Snapshot => {
            for id in cluster.up(None) {
                // It may be about to fail.
                let _ = cluster.order(id, Order::Snapshot).await;
            }
        }
        Strike::MoveLeader => {
            for id in some(cluster, None).into_iter().take(1) {
                let _ = cluster.order(id, Order::Elect).await;
            }
        }
        Strike::Replace => {
            let ids = cluster.ids();
            let id = ids[cluster.rng.usize(..ids.len())];
            members::replace(cluster, id).await?;
        }
        Strike::Bridge => bridge::cross(cluster).await?,
    }
    Ok(())
}

/// One or two of the nodes that run.
fn some(cluster: &mut Cluster, kind: Option<DiskKind>) -> Vec<u64> {
    let mut ids = cluster.up(kind);
    cluster.rng.shuffle(&mut ids);
    let count = cluster.rng.usize(1..=2);
    ids.truncate(count);
    ids
}

fn kind_of_cut(cluster: &mut Cluster) -> Cut {
    if cluster.rng.bool() { Cut::Hold } else { Cut::Drop }
}

/// Cuts all links between two groups, in both directions.
pub(super) fn part(cluster: &mut Cluster, some: &[u64], others: &[u64], cut: Cut) {
    cluster.partitions += 1;
    cluster.note(&format!("{some:?} and {others:?} are parted: {cut:?}"));
    for &one in some {
        for &other in others {
            cluster.network.cut(one, other, cut);
            cluster.network.cut(other, one, cut);
        }
    }
}

fn split(cluster: &mut Cluster) {
    let mut ids = cluster.ids();
    cluster.rng.shuffle(&mut ids);
    let (some, others) = ids.split_at(cluster.rng.usize(1..ids.len()));
    let cut = kind_of_cut(cluster);
    part(cluster, some, others, cut);
}

async fn isolate(cluster: &mut Cluster) {
    let Some(leader) = cluster.leader().await else { return split(cluster) };
    let others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
    let cut = kind_of_cut(cluster);
    part(cluster, &[leader], &others, cut);
}

fn one_way(cluster: &mut Cluster) {
    let ids = cluster.ids();
    let cut = kind_of_cut(cluster);
    for _ in 0..cluster.rng.usize(1..8) {
        let (from, to) = (ids[cluster.rng.usize(..ids.len())], ids[cluster.rng.usize(..ids.len())]);
        if from != to {
            cluster.note(&format!("nothing passes from {from} to {to}: {cut:?}"));
            cluster.network.cut(from, to, cut);
        }
    }
    cluster.partitions += 1;
}
