//! Records as text, JSON, hexadecimal and bytes.

use std::io::{self, BufWriter, StdoutLock, Write};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mapwal::Record;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::arguments::Format;
use crate::hex::write_hex;
use crate::transaction;

/// Prints records to the standard output.
pub(crate) struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    format: Format,
    /// Whether they are taken for records of transactions.
    wal: bool,
}

/// One record, as JSON.
#[derive(Serialize)]
struct JsonRecord<'a> {
    lsn: u64,
    tag: u16,
    len: usize,
    #[serde(flatten)]
    payload: JsonBytes<'a>,
}

/// Bytes: as a string where they are UTF-8.
#[derive(Serialize)]
enum JsonBytes<'a> {
    #[serde(rename = "payload")]
    Text(&'a str),
    #[serde(rename = "payload_base64")]
    Base64(String),
}

impl Printer {
    pub(crate) fn new(format: Format, wal: bool) -> Self {
        Self { out: BufWriter::with_capacity(64 << 10, io::stdout().lock()), format, wal }
    }

    pub(crate) fn print(&mut self, record: &Record<'_>) -> io::Result<()> {
        if self.wal && self.format != Format::Raw {
            return transaction::print(&mut self.out, record, self.format);
        }
        let (lsn, tag, payload) = (record.lsn(), record.tag(), record.payload());
        match self.format {
            Format::Text => writeln!(self.out, "{lsn}\t{tag}\t{}\t{}", payload.len(), payload.escape_ascii()),
            Format::Hex => {
                write!(self.out, "{lsn}\t{tag}\t{}\t", payload.len())?;
                write_hex(&mut self.out, payload)?;
                writeln!(self.out)
            }
            Format::Json => {
                let len = payload.len();
                serde_json::to_writer(&mut self.out, &JsonRecord { lsn: lsn.0, tag, len, payload: payload.into() })?;
                writeln!(self.out)
            }
            Format::Raw => self.out.write_all(payload),
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// An error if no process reads the standard output any more, which a write would tell later.
pub(crate) fn check_is_read() -> io::Result<()> {
    let stdout = io::stdout();
    let mut looked = [PollFd::new(&stdout, PollFlags::empty())];
    poll(&mut looked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if looked[0].revents().contains(PollFlags::ERR) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
}

/// Makes what was printed durable, where it goes into a file.
pub(crate) fn sync_output() -> io::Result<()> {
    let stdout = io::stdout();
    let found = rustix::fs::fstat(&stdout)?;
    let is_file = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
    if is_file { Ok(rustix::fs::fdatasync(&stdout)?) } else { Ok(()) }
}

impl<'a> From<&'a [u8]> for JsonBytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(|_| Self::Base64(BASE64_STANDARD.encode(bytes)), Self::Text)
    }
}
