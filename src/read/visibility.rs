//! Which records a follower sees.

/// Which records a [`Follower`](crate::Follower) hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// All that readers can see. A power failure may still take them back.
    Published,
    /// Those known to be durable: no crash takes them back.
    Durable,
}
