//! What an engine tells of its log through the crate `metrics`: a recorder, installed before the log is opened, is all it takes.

use mapwal::{Log, Options};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What a server would answer a scrape with; any other recorder will do.
    let seconds = [0.0001, 0.001, 0.01, 0.1];
    let of_times = Matcher::Full("mapwal_sync_seconds".into());
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(of_times, &seconds)?.build_recorder();
    let page = recorder.handle();
    metrics::set_global_recorder(recorder)?;

    let directory = tempfile::tempdir()?;
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
    let log = unsafe { Log::open(directory.path(), &Options::new())? };
    for number in 0..100_u64 {
        log.append(1, &number.to_le_bytes())?; // Tells nothing.
        if number % 10 == 9 {
            log.sync()?; // Tells how long it took, how many records it made durable, and where the log begins and ends.
        }
    }

    let page = page.render();
    print!("{page}");
    let value = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.split(' ').next_back());
    assert_eq!(value("mapwal_synced_records_total{"), Some("100"));
    assert_eq!(value("mapwal_durable_lsn{"), Some("100"));
    Ok(())
}
