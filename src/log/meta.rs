//! Metadata slots: a few small values in the stream of records.

use super::Log;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::events::calling;
use crate::format::frame::{self, FrameHead, FrameKind};
use crate::format::{META_LEN_MAX, META_SLOTS, link};
use crate::lsn::Lsn;

impl Log {
    /// Sets metadata slot `slot`, one of 16, to `value`, of at most 256 bytes. The last value wins.
    ///
    /// It is appended behind the records that were appended before, and a sync makes both durable in this order; until
    /// then a crash may take it back. Trimming, truncation and reset leave it as it is.
    ///
    /// # Errors
    /// [`Error::MetaTooLarge`]; otherwise as [`Log::append`].
    pub fn put_meta(&self, slot: usize, value: &[u8]) -> Result<()> {
        self.shared.check_call()?;
        let _calling = calling();
        if slot >= META_SLOTS || value.len() > META_LEN_MAX {
            let len = value.len();
            return Err(Error::MetaTooLarge { slot, len, slots: META_SLOTS, len_max: META_LEN_MAX });
        }
        self.shared.put_meta(slot, value)
    }

    /// The value of metadata slot `slot`, whether durable or not; `None` if it was never set.
    #[must_use]
    pub fn meta(&self, slot: usize) -> Option<Vec<u8>> {
        self.shared.meta.lock().get(slot).map(<[u8]>::to_vec)
    }
}

impl Shared {
    fn put_meta(&self, slot: usize, value: &[u8]) -> Result<()> {
        let payload = link::encode_meta(slot, value);
        // The rotation is locked so that values are written in the order in which they count.
        let mut rotation = self.lock_begun_rotation()?;
        let place = self.reserve_note(&mut rotation, frame::padded(frame::HEADER_LEN + payload.len()))?;
        let next_lsn = Lsn(place.context().base_lsn.0 + u64::from(place.ordinal()));
        self.publish(place, FrameHead::note(FrameKind::Meta, next_lsn, 0), &payload);
        self.meta.lock().set(slot, value);
        drop(rotation);
        self.unless_lost(())
    }
}
