//! Why a log is as large as it is.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use indicatif::BinaryBytes;
use mapwal::Lsn;
use mapwal::inspect::SegmentFile;
use serde_json::{Value, json};

use crate::failure::counted;
use crate::keep::Keeper;
use crate::look::Look;
use crate::repair::{Folder, folders};

/// The files of a log, by what they are there for.
pub(crate) struct Size {
    pub(crate) parts: Vec<Part>,
    /// What the file system has given to them: the unused part of a file may take none.
    pub(crate) allocated_bytes: u64,
    /// After the last frame of each segment that counts.
    pub(crate) unused_bytes: u64,
    /// What repairs have left.
    pub(crate) folders: Vec<Folder>,
    /// Of dropped segments whose files are gone, and that views of the writer's process still hold.
    pub(crate) unlinked_bytes: u64,
}

/// Files that are there for the same reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) reason: Reason,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Why a file is there. Of what keeps a segment, it is that which keeps the oldest record: without it, it might go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    KeptBy(Keeper),
    /// Nothing keeps it, and nothing has trimmed it.
    Untrimmed,
    /// Prepared, and not used.
    Spare,
    /// It does not count any more, and goes at the next open.
    Superseded,
    /// Of a dropped segment, kept to be a further one.
    Kept,
    /// The same, and a reader still sees it.
    Read,
}

impl Size {
    pub(crate) fn of(look: &Look, directory: &Path) -> Self {
        let inspection = &look.inspection;
        let mut size =
            Self { parts: Vec::new(), allocated_bytes: 0, unused_bytes: 0, folders: Vec::new(), unlinked_bytes: 0 };
        size.folders = folders(directory);
        let newest = inspection.segments().iter().rev().find(|file| file.counts);
        let newest = newest.map_or(0, |file| file.number);
        for file in inspection.segments() {
            size.add(reason_of(look, file, newest), file.file_len_bytes, &file.path);
            let tip = look.tip.as_ref().filter(|tip| tip.number == file.number);
            if let Some(end) = file.end.or(tip.map(|tip| tip.end)).filter(|_| file.counts) {
                size.unused_bytes += file.file_len_bytes.saturating_sub(end);
            }
        }
        for file in inspection.kept_files() {
            let reason = if file.is_read { Reason::Read } else { Reason::Kept };
            size.add(reason, file.file_len_bytes, &file.path);
        }
        let activity = inspection.activity().filter(|_| look.writer.is_alive());
        size.unlinked_bytes = activity.map_or(0, |activity| activity.unlinked_bytes);
        size
    }

    fn add(&mut self, reason: Reason, bytes: u64, path: &Path) {
        // One that is gone by now takes no room.
        self.allocated_bytes += path.metadata().map_or(0, |metadata| metadata.blocks() * 512);
        match self.parts.iter_mut().find(|part| part.reason == reason) {
            Some(part) => {
                part.files += 1;
                part.bytes += bytes;
            }
            None => self.parts.push(Part { reason, files: 1, bytes }),
        }
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let bytes = |bytes| BinaryBytes(bytes).to_string();
        let total = bytes(self.parts.iter().map(|part| part.bytes).sum());
        let (allocated, unused) = (bytes(self.allocated_bytes), bytes(self.unused_bytes));
        writeln!(out, "size       {total}; {allocated} allocated on disk, {unused} unused at the ends of segments")?;
        for Part { reason, files, bytes: size } in &self.parts {
            let files = counted(*files, "file", "files");
            writeln!(out, "  {:>24}  {files:>14}  {}", bytes(*size), reason.text())?;
        }
        for Folder { path, bytes: len, is_begun } in &self.folders {
            let name = path.file_name().unwrap_or_default().display();
            let why = if *is_begun {
                "left by a repair that was killed: `mapwal repair --undo` removes it"
            } else {
                "set aside by a repair, and not needed by the log"
            };
            writeln!(out, "  {:>24}  {name:>14}  {why}", bytes(*len))?;
        }
        match self.unlinked_bytes {
            0 => Ok(()),
            held => writeln!(out, "  {:>24}  {:>14}  dropped, and still seen by the writer", bytes(held), ""),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let part = |Part { reason, files, bytes }: &Part| {
            json!({
                "reason": reason.kind(), "name": reason.pin(), "lsn": reason.lsn().map(|lsn| lsn.0),
                "files": files, "bytes": bytes,
            })
        };
        let folder = |Folder { path, bytes, is_begun }: &Folder| {
            let name = path.file_name().unwrap_or_default().display().to_string();
            json!({ "name": name, "bytes": bytes, "begun": is_begun })
        };
        json!({
            "repair_folders": self.folders.iter().map(folder).collect::<Vec<_>>(),
            "allocated_bytes": self.allocated_bytes,
            "unused_bytes": self.unused_bytes,
            "unlinked_bytes": self.unlinked_bytes,
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
        })
    }
}

fn reason_of(look: &Look, file: &SegmentFile, newest: u64) -> Reason {
    match (file.counts, look.keepers.of(file).next()) {
        (true, Some(keeper)) => Reason::KeptBy(keeper.clone()),
        (true, None) => Reason::Untrimmed,
        (false, _) if file.number < newest => Reason::Superseded,
        (false, _) => Reason::Spare,
    }
}

impl Reason {
    /// For machines.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::KeptBy(keeper) => keeper.kind(),
            Self::Untrimmed => "untrimmed",
            Self::Spare => "spare",
            Self::Superseded => "superseded",
            Self::Kept => "kept",
            Self::Read => "read",
        }
    }

    /// The name of the pin that keeps it.
    pub(crate) fn pin(&self) -> Option<&str> {
        if let Self::KeptBy(keeper) = self { keeper.name() } else { None }
    }

    /// The first record that is kept.
    fn lsn(&self) -> Option<Lsn> {
        if let Self::KeptBy(keeper) = self { keeper.lsn() } else { None }
    }

    fn text(&self) -> String {
        let text = match self {
            Self::KeptBy(Keeper::Newest) => "the newest segment".to_owned(),
            Self::KeptBy(keeper) => format!("kept by {}", keeper.text()),
            Self::Untrimmed => "kept by nothing: not trimmed".to_owned(),
            Self::Spare => "ready for the next records".to_owned(),
            Self::Superseded => "left over: the next open removes it".to_owned(),
            Self::Kept => "dropped, kept for further segments".to_owned(),
            Self::Read => "dropped, and still read".to_owned(),
        };
        self.lsn().map_or(text.clone(), |lsn| format!("{text}, from record {lsn} on"))
    }
}
