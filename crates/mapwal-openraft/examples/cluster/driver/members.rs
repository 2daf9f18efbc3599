//! The members of the raft: its birth, and the replacement of nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use crate::Outcome;
use crate::api::{Digest, Order, path};

const SETTLED: Duration = Duration::from_secs(90);

/// Starts nodes, and makes a raft of them.
pub(super) async fn found(cluster: &mut Cluster, count: u64) -> Outcome {
    for _ in 0..count {
        cluster.add().await?;
    }
    let addresses: BTreeMap<u64, String> = cluster.nodes.iter().map(|(id, node)| (*id, node.address.clone())).collect();
    let first = cluster.ids()[0];
    cluster.order(first, Order::Initialize(addresses)).await
}

/// A node is gone for good, and another one takes its place: with an empty disk, and so under another name. It takes over
/// once [`settle`] is through.
pub(super) async fn replace(cluster: &mut Cluster, id: u64) -> Outcome {
    cluster.remove(id).await?;
    let new = cluster.add().await?;
    cluster.note(&format!("node {id} is replaced by node {new}"));
    // Under fire: it may come to nothing, or stop in the middle.
    let _ = tokio::time::timeout(Duration::from_millis(700), attempt(cluster)).await;
    Ok(())
}

/// Sees to it that the raft's members are the nodes that there are, and no others.
pub(super) async fn settle(cluster: &mut Cluster) -> Outcome {
    let until = Instant::now() + SETTLED;
    while !is_settled(cluster).await {
        if let Err(error) = attempt(cluster).await {
            cluster.note(&format!("members: {error}"));
        }
        if Instant::now() > until {
            return Err("the members cannot be changed, though all is healed".into());
        }
        sleep(Duration::from_millis(50)).await;
        cluster.restart_failed().await?;
    }
    Ok(())
}

/// Whether a leader has applied that the nodes that there are, are the members.
async fn is_settled(cluster: &Cluster) -> bool {
    let Some(leader) = cluster.leader().await else { return false };
    let digest: Outcome<Digest> = cluster.ask(leader, path::DIGEST, &()).await;
    digest.is_ok_and(|digest| digest.voters == [BTreeSet::from_iter(cluster.ids())])
}

async fn attempt(cluster: &Cluster) -> Outcome {
    let leader = cluster.leader().await.ok_or("there is no leader")?;
    let digest: Digest = cluster.ask(leader, path::DIGEST, &()).await?;
    for (id, node) in &cluster.nodes {
        if !digest.voters.iter().any(|voters| voters.contains(id)) {
            cluster.order(leader, Order::AddLearner(*id, node.address.clone())).await?;
        }
    }
    cluster.order(leader, Order::SetMembers(cluster.ids().into_iter().collect())).await
}
