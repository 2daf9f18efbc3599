//! What the disk was asked to do, in order, and what it is to do wrong: in files that the disk, the workload and the judge
//! share.
//!
//! The disk adds an operation before it answers the kernel. So a process that reads the length of the recording, and
//! then learns of something that a flush has made durable, knows which operations had been asked for by then.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use memmap2::MmapRaw;

/// The most operations of one recording.
const OPERATIONS_MAX: u64 = 1 << 17;
/// Words of the head, and of each operation after it.
const HEAD_WORDS: u64 = 32;
const OPERATION_WORDS: u64 = 4;
/// Kinds of operations, in their first word; the upper half says whether it failed.
const WRITE: u64 = 1;
const FLUSH: u64 = 2;
const FAILED: u64 = 1 << 32;

/// One operation of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Bytes from `offset` on; they are in the trace's data from `data` on.
    Write { offset: usize, len: usize, data: usize },
    /// All writes that were answered before are durable.
    Flush,
    /// Was answered with an error, and left no bytes. A flush has none.
    Failed { offset: usize, len: usize },
}

/// The words of the head. Each is stored with release and read with acquire: a process that sees the count sees the
/// disk's stores before it.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub enum Word {
    /// Whether operations are recorded.
    Recording = 0,
    Operations,
    DataBytes,
    /// The number of the first operation that failed, plus one; 0 for none.
    FirstFailed,
    /// More was done than fits.
    Overflow,
    FaultKind,
    FaultStart,
    FaultCount,
    DelayOneIn,
    /// Where on the disk the mark is that writes have which never fail; 0 for none.
    Mark,
    SeenWrites,
    SeenFlushes,
    PlaceStart,
    PlaceEnd,
}

/// A recording under way.
#[derive(Debug)]
pub struct Recording {
    words: MmapRaw,
    data: File,
}

/// A recording that is complete.
#[derive(Debug, Default)]
pub struct Trace {
    pub operations: Vec<Operation>,
    pub data: Vec<u8>,
    /// The number of the first operation that failed.
    pub first_failed: Option<u64>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operations.iter().enumerate().try_for_each(|(number, operation)| match operation {
            Operation::Write { offset, len, .. } => writeln!(f, "{number:6} write {len} at {offset}"),
            Operation::Flush => writeln!(f, "{number:6} flush"),
            Operation::Failed { offset, len } => writeln!(f, "{number:6} fails: {len} at {offset}"),
        })
    }
}

impl Recording {
    /// Opens the recording in `directory`, which is created if it is missing.
    pub fn open(directory: &Path) -> Result<Self> {
        let open = |name: &str| {
            let path = directory.join(name);
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            file.with_context(|| format!("cannot open {}", path.display()))
        };
        let file = open("operations")?;
        file.set_len((HEAD_WORDS + OPERATIONS_MAX * OPERATION_WORDS) * 8)?;
        Ok(Self { words: MmapRaw::map_raw(&file)?, data: open("data")? })
    }

    fn at(&self, index: u64) -> &AtomicU64 {
        assert!(index < HEAD_WORDS + OPERATIONS_MAX * OPERATION_WORDS, "words are mapped");
        #[expect(clippy::cast_ptr_alignment, reason = "mappings begin at pages")]
        let words = self.words.as_mut_ptr().cast::<u64>();
        // SAFETY: the mapping has as many words, as was checked; the file is never made shorter.
        let word = unsafe { words.add(index as usize) };
        // SAFETY: the word is aligned, since mappings begin at pages, lives as long as the mapping, and all processes
        // access it as an atomic only.
        unsafe { AtomicU64::from_ptr(word) }
    }

    pub fn word(&self, word: Word) -> &AtomicU64 {
        self.at(word as u64)
    }

    pub fn get(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }

    pub fn set(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }

    /// How many operations the disk has been asked for.
    pub fn operations(&self) -> u64 {
        self.get(Word::Operations)
    }

    /// Begins anew: nothing is recorded so far, and nothing fails. The disk must be idle.
    pub fn begin(&self) -> Result<()> {
        for word in 0..HEAD_WORDS {
            self.at(word).store(0, Ordering::Release);
        }
        self.data.set_len(0)?;
        self.set(Word::Recording, 1);
        Ok(())
    }

    /// Adds an operation. Only the disk calls it, from one thread.
    pub fn add(&self, write: Option<(u64, &[u8])>, failed: bool) -> Result<()> {
        if self.get(Word::Recording) == 0 {
            return Ok(());
        }
        let number = self.operations();
        if number == OPERATIONS_MAX {
            self.set(Word::Overflow, 1);
            return Ok(());
        }
        let used = self.get(Word::DataBytes);
        let (kind, offset, bytes) = write.map_or((FLUSH, 0, &[][..]), |(offset, bytes)| (WRITE, offset, bytes));
        if failed {
            let _ = self.word(Word::FirstFailed).compare_exchange(0, number + 1, Ordering::AcqRel, Ordering::Acquire);
        } else {
            self.data.write_all_at(bytes, used)?;
            self.set(Word::DataBytes, used + bytes.len() as u64);
        }
        let words = [kind | if failed { FAILED } else { 0 }, offset, bytes.len() as u64, used];
        for (at, word) in (0..).zip(words) {
            self.at(HEAD_WORDS + number * OPERATION_WORDS + at).store(word, Ordering::Release);
        }
        self.set(Word::Operations, number + 1);
        Ok(())
    }

    /// Ends the recording and hands it out.
    pub fn end(&self) -> Result<Trace> {
        self.set(Word::Recording, 0);
        ensure!(self.get(Word::Overflow) == 0, "a recording has more than {OPERATIONS_MAX} operations");
        let mut data = vec![0; self.get(Word::DataBytes) as usize];
        self.data.read_exact_at(&mut data, 0)?;
        let operations = (0..self.operations()).map(|number| self.operation(number)).collect();
        Ok(Trace { operations, data, first_failed: self.get(Word::FirstFailed).checked_sub(1) })
    }

    fn operation(&self, number: u64) -> Operation {
        let word = |at| self.at(HEAD_WORDS + number * OPERATION_WORDS + at).load(Ordering::Acquire);
        match word(0) {
            WRITE => Operation::Write { offset: word(1) as usize, len: word(2) as usize, data: word(3) as usize },
            FLUSH => Operation::Flush,
            _ => Operation::Failed { offset: word(1) as usize, len: word(2) as usize },
        }
    }
}
