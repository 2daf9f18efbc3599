//! The lines of a trace of a PostgreSQL log, as `examples/data/README.md` describes them.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;

/// The bundled file.
pub(crate) const BUNDLED: &[u8] = include_bytes!("../data/postgres-wal.csv.gz");

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// A line of the file.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) lsn: String,
    pub(crate) xid: u32,
    pub(crate) resource_manager: String,
    pub(crate) record_type: String,
    pub(crate) record_length: usize,
    pub(crate) relation: Option<u32>,
    pub(crate) block: Option<u32>,
}

/// Reads a file, which may be compressed by gzip.
pub(crate) fn read<'f>(file: impl Read + 'f) -> io::Result<impl Iterator<Item = csv::Result<Row>> + 'f> {
    let mut file = BufReader::new(file);
    let is_compressed = file.fill_buf()?.starts_with(GZIP_MAGIC);
    let text: Box<dyn Read + 'f> = if is_compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(csv::Reader::from_reader(text).into_deserialize())
}
