//! Where a history leaves another one: by the tip that its next segment names.

use mapwal::inspect::verify_segment;
use mapwal::{Lsn, SegmentTip};

use crate::archive::Archive;
use crate::chain::Piece;
use crate::epoch::Parent;
use crate::error::{Error, Result};
use crate::frames::check_read;
use crate::history::History;

/// The newest epoch below `below` that leads to a segment which ends with `tip`, before a segment that begins with record `first`.
/// [`Error::Damaged`] if there is none, and an object that may be that segment is damaged.
pub(crate) async fn parent_by_tip(
    archive: &Archive,
    history: &History,
    (tip, first): (SegmentTip, Lsn),
    below: u64,
) -> Result<Option<Parent>> {
    let mut damaged = None;
    for (&epoch, _) in history.epochs.range(..below).rev() {
        let Ok(chain) = history.chain(epoch) else { continue };
        let has_it = |piece: &&Piece| {
            let lsns = piece.first_lsn..=piece.next_lsn;
            piece.number == tip.number && piece.len_bytes() >= tip.end_bytes && lsns.contains(&first)
        };
        let Some(piece) = chain.pieces.iter().find(has_it) else { continue };
        let found = match tip_of(archive, piece, tip.end_bytes).await {
            // Another epoch may have it as well.
            Err(error @ Error::Damaged { .. }) => {
                damaged = damaged.or(Some(error));
                continue;
            }
            found => found?,
        };
        if found == Some(tip) {
            return Ok(Some(Parent::new(piece.objects[0].epoch, tip)));
        }
    }
    damaged.map_or(Ok(None), Err)
}

/// How the frames before byte `end` of an archived segment end, if they are whole. An error if its objects are not what was uploaded:
/// that says nothing of the log's history.
pub(crate) async fn tip_of(archive: &Archive, piece: &Piece, end: u64) -> Result<Option<SegmentTip>> {
    let mut bytes = Vec::new();
    for object in &piece.objects {
        let Some(read) = archive.store.all_of(&object.key).await? else { return Ok(None) };
        check_read(object, read.len() as u64, crc32fast::hash(&read))?;
        bytes.extend_from_slice(&read);
    }
    let frames = usize::try_from(end).ok().and_then(|end| bytes.get(..end));
    Ok(frames.and_then(|frames| verify_segment(frames).ok()).map(|summary| summary.tip))
}
