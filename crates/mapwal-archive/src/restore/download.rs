//! One segment, from the store into its file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mapwal::inspect::SegmentCheck;

use super::directory::Target;
use crate::archive::Archive;
use crate::backoff::patiently;
use crate::chain::Piece;
use crate::error::{Error, ObjectDamage, Result};
use crate::frames::{ObjectCheck, read_checked};

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
    let failed = |source| Error::io("write", &path, source);
    let mut check = SegmentCheck::new();
    for object in &piece.objects {
        let fetch = || {
            let write = |chunk: &[u8], at| file.write_all_at(chunk, at).map_err(failed);
            read_checked(archive, object, Some(&check), write)
        };
        let checked = patiently(fetch).await?;
        check = checked.expect("frames are checked from the first one on");
    }
    let size = check_identity(&check, before, piece, log_id)?;
    let synced = tokio::task::spawn_blocking(move || file.set_len(size).and_then(|()| file.sync_all()));
    synced.await.map_err(|error| failed(error.into()))?.map_err(failed)?;
    target.keep(piece)?;
    Ok(false)
}

/// Whether the file has the bytes that the archive has, and all frames are sound.
fn is_whole(path: &Path, piece: &Piece) -> Result<bool> {
    let failed = |source| Error::io("read", path, source);
    let file = File::open(path).map_err(failed)?;
    let mut buffer = vec![0; CHUNK_LEN];
    let mut frames = Some(SegmentCheck::new());
    for object in &piece.objects {
        let mut check = ObjectCheck::new(object, frames.as_ref());
        let mut at = object.part.unwrap_or(0);
        while at < object.end() {
            let len = usize::try_from(object.end() - at).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
            let read = file.read_at(&mut buffer[..len], at).map_err(failed)?;
            if read == 0 {
                return Ok(false);
            }
            check.push(&buffer[..read]);
            at += read as u64;
        }
        frames = match check.finish() {
            Ok(frames) => frames,
            Err(_) => return Ok(false),
        };
    }
    Ok(true)
}

/// An error if the segment that has been checked is another than its key says, or does not follow the one `before`; the length that its
/// file shall have.
fn check_identity(check: &SegmentCheck, before: Option<&Piece>, piece: &Piece, log_id: u128) -> Result<u64> {
    let size = check.file_len_bytes().filter(|&size| size >= piece.len_bytes() && check.log_id() == Some(log_id));
    let Some(size) = size else { return Err(Error::damaged(&piece.objects[0].key, ObjectDamage::Identity)) };
    match before.and_then(|before| before.fault_of_next(check.predecessor())) {
        Some(damage) => Err(Error::damaged(&piece.objects[0].key, damage)),
        None => Ok(size),
    }
}
