//! openraft 0.10 truncates while appends are under way.

use std::time::Duration;

use mapwal::testing::SimulatedDisk;
use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

use crate::support::{Types, entries, id, open_on, run};

/// Planted: `truncate_after` does not wait for what was appended. A callback then comes with an error, which a raft takes for the failure of its
/// storage.
#[test]
fn an_append_that_is_truncated_meanwhile_is_no_failure_of_the_storage() {
    let disk = SimulatedDisk::new(1);
    disk.sync_takes(Duration::from_millis(5));
    let mut store = open_on(&disk);
    run(async {
        for term in 1..20 {
            // The second one comes while the first is synced, and so waits for another sync.
            let mut appends = Vec::new();
            for indices in [0..4, 4..9] {
                let (sender, durable) = Types::oneshot();
                store.append(entries(term, indices), IOFlushed::signal(sender)).await.expect("appended");
                appends.push(durable);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            store.truncate_after(Some(id(term, 3))).await.expect("truncated");
            for durable in appends {
                durable.await.expect("called back").expect("durable before it was gone");
            }
            let left = store.try_get_log_entries(..).await.expect("read");
            assert_eq!(left.last().map(|entry| entry.log_id), Some(id(term, 3)));
            store.truncate_after(None).await.expect("truncated");
        }
    });
}
