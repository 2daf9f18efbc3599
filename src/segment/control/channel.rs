//! What followers wait for, and its words in the control page.

use super::words::Word;

/// What followers wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Published = 0,
    Durable = 1,
}

impl Channel {
    pub(super) fn wanted(self) -> Word {
        match self {
            Self::Published => Word::PublishedWanted,
            Self::Durable => Word::DurableWanted,
        }
    }

    pub(super) fn wakes(self) -> Word {
        match self {
            Self::Published => Word::PublishedWakes,
            Self::Durable => Word::DurableWakes,
        }
    }
}
