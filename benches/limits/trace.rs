//! The lengths of records that a real database wrote: the trace in `examples/data`.

use flate2::read::GzDecoder;
use serde::Deserialize;

const TRACE: &[u8] = include_bytes!("../../examples/data/postgres-wal.csv.gz");

#[derive(Deserialize)]
struct Line {
    record_length: usize,
}

/// In the order in which they were written.
pub(crate) fn lengths() -> Vec<usize> {
    let lines = csv::Reader::from_reader(GzDecoder::new(TRACE)).into_deserialize::<Line>();
    lines.map(|line| line.expect("the trace is part of the source").record_length).collect()
}
