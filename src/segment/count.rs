//! Counting the frames that this process has written to a segment: what its seal or its close says of them.

use super::Segment;
use crate::format::frame::Frame;
use crate::format::tally::Tally;
use crate::memory::Region;

impl Segment {
    /// Counts about `len` bytes more of the frames that this process has written; returns what the frames come to so far.
    pub(crate) fn count(&self, region: &Region, len: usize) -> Option<Tally> {
        self.count_in(&mut self.tally.lock(), region, len)
    }

    /// Counts frames before byte `offset` that have not been counted, up to `max` bytes, unless another thread is at it.
    pub(crate) fn count_if_late(&self, region: &Region, offset: usize, max: usize) {
        let Some(mut tally) = self.tally.try_lock() else { return };
        let late = tally.map_or(0, |tally| (offset as u64).saturating_sub(tally.end));
        if late > 0 {
            self.count_in(&mut tally, region, usize::try_from(late).unwrap_or(max).min(max));
        }
    }

    fn count_in(&self, tally: &mut Option<Tally>, region: &Region, len: usize) -> Option<Tally> {
        let start = usize::try_from(tally.as_ref()?.end).unwrap_or(usize::MAX);
        let target = start.saturating_add(len);
        // What is wrong shows when the segment is synced.
        let _ = self.advance_in(&self.latest, region, tally, |frontier| frontier.offset >= target);
        let counted = tally.as_mut()?;
        // What has been walked before, and the beginning of a batch.
        let bytes = region.bytes(0..region.published()).expect("up to the end of what is published");
        let mut local = *counted;
        while let Some(at) = usize::try_from(local.end).ok().filter(|&at| at < target)
            && let Some(Ok(frame)) = bytes.get(at..).map(Frame::parse)
        {
            local.pass(&frame);
        }
        *counted = local;
        *tally
    }
}
