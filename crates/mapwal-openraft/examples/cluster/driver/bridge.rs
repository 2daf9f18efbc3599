//! Two leaders, on both sides of a node that votes for the second, loses its power, and is asked by the first again.
//!
//! The node must not forget its vote, wherever in the moment after its answer the power went: the first leader would go on to commit
//! with its help, and the second one, which knows nothing of that, would take it all back.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::fire::part;
use super::network::Cut;
use crate::api::Order;
use crate::{DiskKind, Outcome};

/// For as long a node that has heard of a leader votes for nobody else.
const LEASE: Duration = Duration::from_millis(900);
const ELECTION: Duration = Duration::from_millis(2500);
/// Longer than it takes until a vote is answered, or its node has ended.
const VOTE: Duration = Duration::from_millis(250);
/// For as long the first leader is given to commit something with the help of a node that has forgotten its vote.
const COMMIT: Duration = Duration::from_millis(1500);

pub(super) async fn cross(cluster: &mut Cluster) -> Outcome {
    let leader = cluster.leader().await;
    let simulated: Vec<u64> =
        cluster.up(Some(DiskKind::Simulated)).into_iter().filter(|&id| Some(id) != leader).collect();
    let Some(&bridge) = simulated.get(cluster.rng.usize(..simulated.len().max(1))) else { return Ok(()) };
    let mut others: Vec<u64> = cluster.ids().into_iter().filter(|&id| id != bridge).collect();
    cluster.rng.shuffle(&mut others);
    // The leader is one of the last, and so on the far side.
    others.sort_by_key(|&id| Some(id) == leader);
    let (near, far) = others.split_at(others.len() / 2);
    part(cluster, near, far, Cut::Drop);
    part(cluster, &[bridge], far, Cut::Drop);
    sleep(LEASE).await;
    cluster.arm(bridge).await;
    let before = cluster.applied(leader).await;
    let until = Instant::now() + ELECTION;
    // The bridge votes only for a node that has all entries that it has itself, and that may be either of the two.
    for &candidate in near.iter().cycle() {
        if !cluster.is_up(bridge)? || Instant::now() > until {
            break;
        }
        // It may be down.
        let _ = cluster.order(candidate, Order::Elect).await;
        sleep(VOTE).await;
    }
    part(cluster, &[bridge], near, Cut::Drop);
    for &id in far {
        cluster.network.mend(bridge, id);
        cluster.network.mend(id, bridge);
    }
    cluster.restart_failed().await?;
    let until = Instant::now() + COMMIT;
    while cluster.applied(leader).await == before && Instant::now() < until {
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
