//! What was found: histories that nothing explains, writes that are gone, nodes that do not agree.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::check::is_linearizable;
use super::client::{Client, name};
use super::cluster::Cluster;
use super::history::Operation;
use crate::api::{Digest, Effects, path};
use crate::{Outcome, Run};

/// What a run has come to, beside its counters.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) violations: u64,
    pub(super) lost: u64,
    /// What was found, in words.
    pub(super) found: Vec<String>,
    keys: BTreeSet<u64>,
}

impl Verdict {
    pub(super) fn is_good(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn add(&mut self, found: String) {
        eprintln!("found: {found}");
        self.found.push(found);
    }

    /// Checks what was seen of some keys.
    pub(super) async fn check(&mut self, histories: Vec<(u64, Vec<Operation>)>) -> Outcome {
        let check = move || histories.into_iter().filter(|(_, operations)| !is_linearizable(operations));
        let bad = tokio::task::spawn_blocking(|| check().map(|(key, _)| key).collect::<Vec<u64>>()).await?;
        for key in bad {
            if self.keys.insert(key) {
                self.violations += 1;
                self.add(format!("the history of {} is not linearizable", name(key)));
            }
        }
        Ok(())
    }

    /// Once all is healed and the clients have ended: reads all keys, and has a look into every node.
    pub(super) async fn conclude(&mut self, cluster: &Cluster) -> Outcome {
        let shared = &cluster.clients;
        let mut reader = Client::new(u64::MAX, 0, shared);
        for (key, _) in shared.history.all() {
            match reader.read(key, Duration::from_secs(30)).await {
                Some(operation) => shared.history.add(key, operation),
                None => return Err(format!("{} cannot be read in the end", name(key)).into()),
            }
        }
        self.check(shared.history.all()).await?;
        self.compare(cluster).await?;
        let effects: Effects = cluster.ask(cluster.ids()[0], path::EFFECTS, &()).await?;
        for (key, operations) in shared.history.all() {
            let there: BTreeSet<u64> = effects.get(&name(key)).into_iter().flatten().copied().collect();
            for number in operations.iter().filter_map(Operation::acknowledged) {
                if !there.contains(&number) {
                    self.lost += 1;
                    self.keys.insert(key);
                    self.add(format!("write {number} of {} was acknowledged, and is lost", name(key)));
                }
            }
        }
        Ok(())
    }

    /// All nodes come to the same state.
    async fn compare(&mut self, cluster: &Cluster) -> Outcome {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let mut digests: Vec<Digest> = Vec::new();
            for id in cluster.ids() {
                digests.push(cluster.ask(id, path::DIGEST, &()).await?);
            }
            if digests.iter().all(|digest| *digest == digests[0]) {
                return Ok(());
            }
            let is_settled = digests.iter().all(|digest| digest.applied == digests[0].applied);
            if is_settled || Instant::now() > until {
                self.violations += 1;
                self.add(format!("the nodes do not agree: {digests:?}"));
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes down what was found, with the histories of the keys, all that was done, and the last words of the nodes.
    pub(super) fn write(&self, run: &Run, cluster: &Cluster) -> Outcome<PathBuf> {
        let name_of_file = format!("mapwal-cluster-seed-{}.txt", run.seed);
        let path = run.out.clone().unwrap_or_else(|| std::env::temp_dir().join(name_of_file));
        let mut text = Vec::new();
        writeln!(text, "{run:?}")?;
        self.found.iter().try_for_each(|found| writeln!(text, "found: {found}"))?;
        for (key, mut operations) in cluster.clients.history.all() {
            if self.keys.contains(&key) {
                writeln!(text, "\n{}", name(key))?;
                operations.sort_by_key(|operation| operation.begin);
                for operation in operations {
                    writeln!(text, "{}", serde_json::to_string(&operation)?)?;
                }
            }
        }
        writeln!(text)?;
        cluster.events.iter().try_for_each(|event| writeln!(text, "{event}"))?;
        for id in cluster.ids() {
            let said = fs::read_to_string(cluster.said_of(id)).unwrap_or_default();
            writeln!(text, "\nnode {id} has said:\n{said}")?;
        }
        fs::write(&path, text)?;
        Ok(path)
    }
}
