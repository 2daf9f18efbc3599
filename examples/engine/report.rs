//! What the engine's process tells the one that started it, over a pipe: what it was told before the kill stays told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

use mapwal::wal::TransactionId;
use parking_lot::Mutex;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Failure;
use crate::page::{Page, Row};
use crate::row_locks::RowId;

/// One message.
pub(crate) enum Message {
    /// The restart begins now.
    Restarting,
    /// So many changes have been undone, and the engine waits for its kill.
    Holding(u64),
    Restarted(Restarted),
    /// The next page as it is after the restart, beginning with page 0.
    Page(Box<Page>),
    /// All pages have been shown; the load begins.
    Ready,
    /// A transaction is about to commit, and has changed these rows.
    Committing(u64, Vec<RowImage>),
    /// Its commit has returned.
    Committed(u64),
}

/// What a restart did.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Restarted {
    /// That analysis read.
    pub(crate) records: U64,
    pub(crate) redone: U64,
    /// Changes of open transactions that the pages in the file had.
    pub(crate) stolen: U64,
    pub(crate) undone: U64,
    /// Transactions that were open.
    pub(crate) losers: U64,
    pub(crate) microseconds: U64,
}

/// A row as a transaction leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RowImage {
    page: U64,
    slot: U64,
    pub(crate) row: Row,
}

impl RowImage {
    pub(crate) fn id(&self) -> RowId {
        (self.page.get(), usize::try_from(self.slot.get()).unwrap_or(usize::MAX))
    }
}

/// Before each message.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    kind: U64,
    /// Its transaction or count, if it has one.
    number: U64,
    body_len: U64,
}

const RESTARTING: u64 = 1;
const RESTARTED: u64 = 2;
const PAGE: u64 = 3;
const READY: u64 = 4;
const COMMITTING: u64 = 5;
const COMMITTED: u64 = 6;
const HOLDING: u64 = 7;

/// The writing end.
pub(crate) struct Reporter(Mutex<File>);

impl Reporter {
    pub(crate) fn new(pipe: File) -> Self {
        Self(Mutex::new(pipe))
    }

    pub(crate) fn restarting(&self) -> io::Result<()> {
        self.send(RESTARTING, 0, &[])
    }

    pub(crate) fn holding(&self, undone: u64) -> io::Result<()> {
        self.send(HOLDING, undone, &[])
    }

    pub(crate) fn restarted(&self, restarted: &Restarted) -> io::Result<()> {
        self.send(RESTARTED, 0, restarted.as_bytes())
    }

    pub(crate) fn page(&self, page: &Page) -> io::Result<()> {
        self.send(PAGE, 0, page.as_bytes())
    }

    pub(crate) fn ready(&self) -> io::Result<()> {
        self.send(READY, 0, &[])
    }

    pub(crate) fn committing(&self, transaction: TransactionId, rows: &BTreeMap<RowId, Row>) -> io::Result<()> {
        let image =
            |(&(page, slot), &row): (&RowId, &Row)| RowImage { page: page.into(), slot: (slot as u64).into(), row };
        let images: Vec<RowImage> = rows.iter().map(image).collect();
        self.send(COMMITTING, transaction.0, images.as_bytes())
    }

    pub(crate) fn committed(&self, transaction: TransactionId) -> io::Result<()> {
        self.send(COMMITTED, transaction.0, &[])
    }

    fn send(&self, kind: u64, number: u64, body: &[u8]) -> io::Result<()> {
        let header = Header { kind: kind.into(), number: number.into(), body_len: (body.len() as u64).into() };
        // Not interleaved with other threads' messages.
        self.0.lock().write_all(&[header.as_bytes(), body].concat())
    }
}

/// The next message; `None` at the end. A message that the kill has cut off was not sent.
pub(crate) fn receive(pipe: &mut impl Read) -> Result<Option<Message>, Failure> {
    let mut header = Header::new_zeroed();
    if !read_whole(pipe, header.as_mut_bytes())? {
        return Ok(None);
    }
    let mut body = vec![0; usize::try_from(header.body_len.get())?];
    if !read_whole(pipe, &mut body)? {
        return Ok(None);
    }
    let damaged = || format!("a message of kind {} and {} bytes", header.kind, body.len());
    let message = match header.kind.get() {
        RESTARTING => Message::Restarting,
        HOLDING => Message::Holding(header.number.get()),
        RESTARTED => Message::Restarted(Restarted::read_from_bytes(&body).map_err(|_| damaged())?),
        PAGE => {
            let mut page = Page::empty(0)?;
            let bytes = page.as_mut_bytes();
            if body.len() != bytes.len() {
                return Err(damaged().into());
            }
            bytes.copy_from_slice(&body);
            Message::Page(page)
        }
        READY => Message::Ready,
        COMMITTING => {
            let images = <[RowImage]>::ref_from_bytes(&body).map_err(|_| damaged())?;
            Message::Committing(header.number.get(), images.to_vec())
        }
        COMMITTED => Message::Committed(header.number.get()),
        _ => return Err(damaged().into()),
    };
    Ok(Some(message))
}

/// Whether there was enough to fill `bytes`.
fn read_whole(pipe: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match pipe.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}
