//! What keeps segments from being trimmed.

use mapwal::inspect::{Inspection, SegmentFile};
use mapwal::{Lsn, PinState, PinStatus};

use crate::checkpoint::Needed;

/// All that keeps segments of a log.
pub(crate) struct Keepers {
    /// The number of the newest segment.
    newest: Option<u64>,
    /// The oldest record first.
    keepers: Vec<Keeper>,
}

/// One that keeps a record and all after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// It is the newest segment.
    Newest,
    /// A named pin.
    Pin { name: String, lsn: Lsn },
    /// A pin without a name, of the writer's process.
    Guard(Lsn),
    /// Recovery of transactions.
    Recovery(Needed),
}

impl Keepers {
    /// `needed` is what recovery needs, `guarded` what the process that writes keeps.
    pub(crate) fn new(
        inspection: &Inspection,
        pins: &[PinStatus],
        needed: Option<Needed>,
        guarded: Option<Lsn>,
    ) -> Self {
        let newest = inspection.segments().iter().rev().find(|file| file.counts);
        let keeps = |pin: &&PinStatus| matches!(pin.state, PinState::Reserved | PinState::Damaged);
        let pins = pins.iter().filter(keeps).map(|pin| Keeper::Pin { name: pin.name.clone(), lsn: pin.lsn });
        let others = needed.map(Keeper::Recovery).into_iter().chain(guarded.map(Keeper::Guard));
        let mut keepers: Vec<Keeper> = pins.chain(others).collect();
        keepers.sort_by_key(Keeper::lsn);
        Self { newest: newest.map(|file| file.number), keepers }
    }

    /// What keeps the segment, the oldest record first: without any, a trim may drop it.
    pub(crate) fn of<'k>(&'k self, file: &SegmentFile) -> impl Iterator<Item = &'k Keeper> {
        let is_newest = Some(file.number) == self.newest;
        let next = file.next_lsn.unwrap_or(Lsn(u64::MAX));
        let counts = file.counts;
        let holds = move |keeper: &&Keeper| counts && keeper.lsn().is_some_and(|lsn| lsn < next);
        is_newest.then_some(&Keeper::Newest).into_iter().chain(self.keepers.iter().filter(holds))
    }
}

impl Keeper {
    /// The first record that it keeps.
    pub(crate) fn lsn(&self) -> Option<Lsn> {
        match self {
            Self::Newest => None,
            Self::Pin { lsn, .. } | Self::Guard(lsn) => Some(*lsn),
            Self::Recovery(needed) => Some(needed.first),
        }
    }

    /// As JSON has it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Pin { .. } => "pin",
            Self::Guard(_) => "process",
            Self::Recovery(_) => "recovery",
        }
    }

    /// The name of a pin.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Pin { name, .. } => Some(name),
            Self::Newest | Self::Guard(_) | Self::Recovery(_) => None,
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Newest => "newest".to_owned(),
            Self::Pin { name, .. } => format!("pin {name}"),
            Self::Guard(_) => "the writer".to_owned(),
            Self::Recovery(Needed { checkpoint: Some(lsn), .. }) => format!("checkpoint {lsn}"),
            Self::Recovery(Needed { checkpoint: None, .. }) => "no checkpoint".to_owned(),
        }
    }
}
