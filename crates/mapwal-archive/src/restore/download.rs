//! One segment, from the store into its file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mapwal::Lsn;
use mapwal::inspect::{ScanItem, SegmentScan};

use super::directory::Target;
use crate::archive::Archive;
use crate::backoff::patiently;
use crate::error::{Error, ObjectDamage, Result};
use crate::history::Piece;
use crate::object::ArchivedSegment;
use crate::verify::check_read;

const CHUNK_LEN: usize = 1 << 20;

/// Whether the segment was there already.
pub(crate) async fn download(
    archive: &Archive,
    target: &Target,
    (before, piece): (Option<&Piece>, &Piece),
    log_id: u128,
) -> Result<bool> {
    let path = target.restored(piece);
    if path.exists() && is_whole(&path, piece)? {
        return Ok(true);
    }
    let (file, path) = target.create(piece)?;
    for object in &piece.objects {
        let (len, checksum) = patiently(|| async { fetch(archive, object, &file, &path).await }).await?;
        check_read(object, len, checksum).map_err(|error| located(error, &path, object))?;
    }
    let failed = |source| Error::io("write", &path, source);
    let size = check_identity(&path, before, piece, log_id)?;
    let synced = tokio::task::spawn_blocking(move || file.set_len(size).and_then(|()| file.sync_all()));
    synced.await.map_err(|error| failed(error.into()))?.map_err(failed)?;
    target.keep(piece)?;
    Ok(false)
}

/// Writes `object` to its place; its length and its checksum.
async fn fetch(archive: &Archive, object: &ArchivedSegment, file: &File, path: &Path) -> Result<(u64, u32)> {
    let mut hasher = crc32fast::Hasher::new();
    let mut at = object.part.unwrap_or(0);
    let read = archive.store.read(&object.key, |chunk| {
        hasher.update(chunk);
        file.write_all_at(chunk, at).map_err(|source| Error::io("write", path, source))?;
        at += chunk.len() as u64;
        Ok(())
    });
    let len = match read.await {
        Err(Error::Store { source, .. }) if matches!(*source, object_store::Error::NotFound { .. }) => {
            return Err(Error::damaged(&object.key, ObjectDamage::Missing));
        }
        read => read?,
    };
    Ok((len, hasher.finalize()))
}

/// The same error, with the place of the first frame of `object` that is not sound, found in the file that has it.
fn located(error: Error, path: &Path, object: &ArchivedSegment) -> Error {
    let begin = object.part.unwrap_or(0);
    let place = first_fault(path, object.end()).unwrap_or((begin, Some(object.first_lsn)));
    match error {
        // What is not in this object is no fault of its own: its key is wrong, then.
        Error::Damaged { key, damage, .. } if (begin..=object.end()).contains(&place.0) => {
            Error::Damaged { key, damage, offset: Some(place.0 - begin), lsn: place.1 }
        }
        error => error,
    }
}

/// Where in a segment's file, which has `end` bytes of it, the first frame is that is not sound, or that is not there; and the record
/// that is expected there. `None` if not even the header can be read.
fn first_fault(path: &Path, end: u64) -> Option<(u64, Option<Lsn>)> {
    let mut scan = SegmentScan::open(path).ok()?;
    scan.stop_at(end);
    let mut next = None;
    loop {
        match scan.next().ok()? {
            Some(ScanItem::Frame(frame)) => {
                next = Some(if frame.record().is_some() { frame.lsn().next() } else { frame.lsn() });
            }
            Some(ScanItem::Gap { range, lsn, .. }) => return Some((range.start, lsn)),
            None => return Some((scan.offset(), next)),
            Some(_) => return None,
        }
    }
}

/// Whether the file has the bytes that the archive has.
fn is_whole(path: &Path, piece: &Piece) -> Result<bool> {
    let failed = |source| Error::io("read", path, source);
    let file = File::open(path).map_err(failed)?;
    let mut buffer = vec![0; CHUNK_LEN];
    for object in &piece.objects {
        let mut hasher = crc32fast::Hasher::new();
        let mut at = object.part.unwrap_or(0);
        while at < object.end() {
            let len = usize::try_from(object.end() - at).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
            let read = file.read_at(&mut buffer[..len], at).map_err(failed)?;
            if read == 0 {
                return Ok(false);
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
        }
        if hasher.finalize() != object.checksum {
            return Ok(false);
        }
    }
    Ok(true)
}

/// An error if the segment in the file is another than its key says, or does not follow the one `before`; the length that its file
/// shall have.
fn check_identity(path: &Path, before: Option<&Piece>, piece: &Piece, log_id: u128) -> Result<u64> {
    let identity = || Error::damaged(&piece.objects[0].key, ObjectDamage::Identity);
    let mut scan = SegmentScan::open(path).map_err(|_| identity())?;
    let is_it = scan.log_id() == log_id && scan.number() == piece.number;
    let size = scan.file_len_bytes();
    let (first_lsn, predecessor) = match scan.next()? {
        Some(ScanItem::Frame(frame)) => (Some(frame.lsn()), frame.predecessor()),
        _ => (None, None),
    };
    let is_it = is_it && first_lsn == Some(piece.first_lsn) && size >= piece.len_bytes();
    let (true, Some(before)) = (is_it, before) else { return if is_it { Ok(size) } else { Err(identity()) } };
    if predecessor.is_some_and(|tip| tip.number == before.number && tip.end_bytes <= before.len_bytes()) {
        return Ok(size);
    }
    let names = predecessor.map_or((0, 0), |tip| (tip.number, tip.end_bytes));
    let found = (before.number, before.len_bytes());
    Err(Error::damaged(&piece.objects[0].key, ObjectDamage::Link { names, found }))
}
