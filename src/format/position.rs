//! A place in the files of a log.

/// Segment number and byte offset as one ordered number. Segment numbers are never reused, so positions order
/// everything a log ever wrote, also across a truncation of its suffix, where LSNs are handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub(crate) struct Position(pub(crate) u64);

/// The first segment number that a position cannot hold.
pub(crate) const SEGMENT_NUMBER_LIMIT: u64 = 1 << 32;

impl Position {
    pub(crate) const ZERO: Self = Self(0);

    /// `offset` may be the end of the largest segment, which is then the start of the next number.
    pub(crate) const fn new(segment: u64, offset: u64) -> Self {
        debug_assert!(segment < SEGMENT_NUMBER_LIMIT && offset <= super::SEGMENT_SIZE_MAX);
        Self((segment << 32).saturating_add(offset))
    }

    pub(crate) const fn segment(self) -> u64 {
        self.0 >> 32
    }

    pub(crate) const fn offset(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    /// How far `durable` is before this position, in units of 8 bytes; `u32::MAX` means "too far to say".
    #[inline]
    pub(crate) fn lag_units(self, durable: Self) -> u32 {
        // `durable` is before this; if it were not, the difference would wrap to one that is too large to say.
        let units = (self.0.wrapping_sub(durable.0) / 8).min(u32::MAX.into());
        units as u32
    }

    /// The inverse of [`Self::lag_units`]: what was durable when a frame here was appended, if its header tells.
    pub(crate) fn durable_then(self, lag_units: u32) -> Option<Self> {
        if lag_units == u32::MAX {
            return None;
        }
        self.0.checked_sub(u64::from(lag_units) * 8).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_goes_back_to_the_durable_position_across_segments() {
        let frame = Position::new(7, 4096);
        let durable = Position::new(6, 512);
        assert_eq!(frame.durable_then(frame.lag_units(durable)), Some(durable));
    }

    #[test]
    fn a_lag_too_long_to_store_proves_nothing() {
        let frame = Position::new(100, 4096);
        assert_eq!(frame.durable_then(frame.lag_units(Position::new(1, 0))), None);
        assert_eq!(Position::new(0, 8).durable_then(5), None);
    }
}
