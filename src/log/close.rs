//! Shutting down cleanly.

use std::sync::atomic::Ordering;

use super::Log;
use super::durability::Goal;
use super::shared::{Shared, append_limit};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::events::{calling, report};
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::format::link::Close;
use crate::format::name;
use crate::format::position::Position;
use crate::format::tally::Tally;
use crate::lsn::Lsn;
use crate::memory::Taken;
use crate::segment::Segment;
use crate::segment::leftovers::remove_all;

impl Log {
    /// Makes everything durable and shuts the log down cleanly: the next open goes on where this one ended.
    ///
    /// The log ends with a frame that says so, and its control page says it too, which spares the next open a look at
    /// the last segment. A page that cannot be written is a warning, not an error: nothing is lost with it, and readers
    /// take the log for one that was not closed.
    ///
    /// From then on every call by any handle that can fail returns [`Error::Closed`], whatever its arguments are; those that cannot fail
    /// return what they knew last. Appends that run at the same time are in the log and durable, or get that error. Views, records, sealed segments and followers keep what they have:
    /// followers hand out the rest, and then their calls that wait say `Closed`. What they have not looked at yet may be gone once the
    /// directory has been opened again and trimmed: that is an error then. Callbacks and futures have been told on return, unless
    /// a callback has made this call. The directory can be opened again at once, whatever handles are left.
    ///
    /// # Errors
    /// [`Error::Closed`] when another call has closed the log, or is about to; [`Error::InsideAppend`], [`Error::Forked`]: nothing
    /// is done then. As [`Log::sync`]: the log is closed then as well, and left as a drop leaves it.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use mapwal::Error;
    ///
    /// let writer = log.clone();
    /// let thread = std::thread::spawn(move || loop {
    ///     match writer.append(1, b"as long as the log is open") {
    ///         Ok(_) => {}
    ///         Err(Error::Closed) => break,
    ///         Err(error) => panic!("{error}"),
    ///     }
    /// });
    /// log.close()?;
    /// thread.join().expect("it has ended");
    /// assert!(matches!(log.sync(), Err(Error::Closed)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(&self) -> Result<()> {
        let _calling = calling();
        let shared = &*self.shared;
        shared.check_call()?;
        self.owner.begin_to_close()?;
        shared.is_closed.store(true, Ordering::Relaxed);
        // Those that have come before end; those that come now have seen it.
        drop(shared.calls.write());
        let closed = shared.end_cleanly();
        let spares: Vec<String> = shared.stop_tasks().iter().map(|spare| name::segment(spare.number)).collect();
        // A call that waits for a sync may be leading one still: by now it has nothing left to sync.
        drop(shared.durability.lead());
        if let Ok(close) = &closed {
            // One that stays is removed at the next open.
            remove_all(&*shared.storage, &spares);
            shared.tell_activity();
            shared.control.set_closed(*close);
            let (directory, next_lsn) = (self.directory().to_owned(), shared.next_lsn().0);
            report!(info, directory = %directory.display(), next_lsn, "log closed");
        }
        self.owner.let_go();
        closed.map(drop)
    }
}

impl Shared {
    /// Makes everything durable, and ends the log with a close; its position, as in [`Self::publish_close`]. Appends that come
    /// after that find no room.
    fn end_cleanly(&self) -> Result<Option<Position>> {
        self.wait(self.everything())?;
        // Without a segment of its own there is nothing to close: the next open finds what this one has found.
        let close = if self.is_pending() { None } else { self.publish_close()? };
        // What has been appended since, if there is no close after it.
        self.wait(self.everything())?;
        if let Some((_, file)) = self.segments.last().and_then(|segment| segment.unsynced()) {
            // As when a segment is sealed.
            let _ = file.touch();
        }
        Ok(close)
    }

    /// Ends the active segment with a close, which is durable on return; its position, if it tells all that the next open
    /// must know.
    fn publish_close(&self) -> Result<Option<Position>> {
        let (close, end) = {
            let mut rotation = self.lock_rotation();
            let mut note = Close { tally: None, meta: Some(self.meta.lock().clone()) };
            let (segment, _) = self.reserved();
            // Appends go on until then.
            let closed = rotation.cursor_control.close_with(|offset| {
                if !self.has_room_to_close(&segment, offset + frame_len(&note)) {
                    note = Close::default();
                }
                frame_len(&note)
            });
            let Some(Taken { offset, ordinal, trailer: Some(place) }) = closed else {
                return self.durability.check().map(|()| None);
            };
            self.ask_for_last(&place)?;
            let end = segment.position(offset + place.len());
            let next_lsn = Lsn(segment.base_lsn().0 + u64::from(ordinal));
            note.tally = self.count_all(&segment, offset);
            self.publish(place, FrameHead::control(FrameKind::Close, next_lsn, 0), &note.encode());
            (note.meta.is_some().then(|| segment.position(offset)), end)
        };
        self.wait(Goal { lsn: Lsn::ZERO, position: end })?;
        Ok(close)
    }

    /// Whether `segment`, which takes no more appends, has room up to byte `end` beside the place of a seal, and it is ready. A close
    /// without metadata comes in that place.
    fn has_room_to_close(&self, segment: &Segment, end: usize) -> bool {
        end <= append_limit(segment.info().size) && self.preparer.room_to(segment.number(), end).is_ok()
    }

    /// What the frames of `segment` before byte `end` come to, all of which are durable or being written.
    fn count_all(&self, segment: &Segment, end: usize) -> Option<Tally> {
        let (region, _) = segment.unsynced()?;
        loop {
            let tally = segment.count(&region, usize::MAX)?;
            if tally.end == end as u64 {
                return Some(tally);
            }
            self.durability.check().ok()?;
            std::thread::yield_now();
        }
    }
}

/// The length of the frame of `note`.
fn frame_len(note: &Close) -> usize {
    frame::padded(frame::HEADER_LEN + note.encode().len())
}
