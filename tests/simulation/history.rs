//! What is done to a log: steps, each with a seed of its own, so that a history can lose some and keep the rest as it was.

use std::fmt;

use fastrand::Rng;

use mapwal::internals::{AFTER_EFFECTS, Failure, Fault, Operation};

/// In how many of 256 operations of a random history a crash is looked at.
const CUTS: u8 = 48;

/// What one step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Append,
    Vectored,
    Batch,
    InPlace,
    /// An append that other appends overtake, and that crashes look at while it is not there yet.
    Hole,
    Panicking,
    Meta,
    Sync,
    WaitDurable,
    Rotate,
    Trim,
    /// Fills segments and trims them, one after the other.
    Cycle,
    Truncate,
    Reset,
    Read,
    /// Looks on, in this process or another, or makes a backup, for a while.
    View,
    /// Clean shutdown, and open.
    Close,
    /// The process dies, and another opens the log.
    Kill,
    /// The power fails, and the log is opened.
    PowerCut,
}

impl Action {
    /// All of them, with how often each is done.
    const WEIGHTS: [(Self, u32); 19] = [
        (Self::Append, 30),
        (Self::Vectored, 4),
        (Self::Batch, 8),
        (Self::InPlace, 4),
        (Self::Hole, 2),
        (Self::Panicking, 3),
        (Self::Meta, 7),
        (Self::Sync, 16),
        (Self::WaitDurable, 5),
        (Self::Rotate, 8),
        (Self::Trim, 8),
        (Self::Cycle, 10),
        (Self::Truncate, 5),
        (Self::Reset, 1),
        (Self::Read, 2),
        (Self::View, 4),
        (Self::Close, 3),
        (Self::Kill, 2),
        (Self::PowerCut, 6),
    ];

    fn random(rng: &mut Rng) -> Self {
        let total = Self::WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.u32(0..total);
        for (action, weight) in Self::WEIGHTS {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return action,
            }
        }
        Self::Append
    }
}

/// One step.
#[derive(Clone)]
pub struct Step {
    pub action: Action,
    pub seed: u64,
    pub fault: Option<Fault>,
}

impl Step {
    pub fn new(action: Action, seed: u64) -> Self {
        Self { action, seed, fault: None }
    }

    /// A step that leaves the log open.
    pub fn random_small(rng: &mut Rng) -> Self {
        loop {
            let action = Action::random(rng);
            if !matches!(action, Action::Close | Action::Kill | Action::PowerCut) {
                return Self::new(action, rng.u64(..));
            }
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}#{:x}", self.action, self.seed)?;
        match &self.fault {
            None => Ok(()),
            Some(fault) => write!(f, " with {fault:?}"),
        }
    }
}

/// Steps from an empty directory on.
#[derive(Debug, Clone)]
pub struct History {
    pub seed: u64,
    pub steps: Vec<Step>,
    /// In how many of 256 operations a crash is looked at.
    pub cuts: u8,
}

impl History {
    /// A random history. Three in eight meet failing operations as well.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let is_faulty = rng.u8(..) < 96;
        let count = rng.usize(4..40);
        let mut steps = Vec::new();
        for _ in 0..count {
            let action = Action::random(&mut rng);
            // Closes are rare, and what their syncs leave is found by few.
            let often = if action == Action::Close { 192 } else { 64 };
            let fault = (is_faulty && rng.u8(..) < often).then(|| random_fault(action, &mut rng));
            let has_failed = fault.is_some();
            steps.push(Step { action, seed: rng.u64(..), fault });
            if has_failed && rng.bool() {
                // What a failure has left in a file is met again when that is recycled.
                steps.push(Step::new(Action::Cycle, rng.u64(..)));
            }
        }
        Self { seed, steps, cuts: CUTS }
    }

    /// All sequences of `len` actions out of those that matter, each with a crash at every operation.
    pub fn all(len: u32) -> impl Iterator<Item = Self> {
        const ACTIONS: [Action; 13] = [
            Action::Append,
            Action::Batch,
            Action::Hole,
            Action::Panicking,
            Action::Meta,
            Action::Sync,
            Action::Rotate,
            Action::Trim,
            Action::Cycle,
            Action::Truncate,
            Action::Reset,
            Action::Close,
            Action::Kill,
        ];
        (0..ACTIONS.len().pow(len)).map(move |number| {
            let action = |at| ACTIONS[number / ACTIONS.len().pow(at) % ACTIONS.len()];
            let seed = number as u64;
            let steps = (0..len).map(|at| Step::new(action(at), seed << 8 | u64::from(at))).collect();
            Self { seed, steps, cuts: u8::MAX }
        })
    }

    /// Everything that a log can do, without a crash but at the end.
    pub fn of_all_actions(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..2 {
            for (action, _) in Action::WEIGHTS.into_iter().filter(|(action, _)| *action != Action::PowerCut) {
                steps.push(Step::new(action, rng.u64(..)));
                steps.push(Step::new(Action::Append, rng.u64(..)));
            }
        }
        steps.push(Step::new(Action::PowerCut, rng.u64(..)));
        Self { seed, steps, cuts: 0 }
    }
}

fn random_fault(action: Action, rng: &mut Rng) -> Fault {
    const KINDS: [Operation; 10] = [
        Operation::SyncMapping,
        Operation::SyncMapping,
        Operation::SyncMapping,
        Operation::Sync,
        Operation::SyncDirectory,
        Operation::Allocate,
        Operation::GiveBack,
        Operation::Write,
        Operation::Rename,
        Operation::Remove,
    ];
    let only = match action {
        // These do little else.
        Action::Sync | Action::WaitDurable | Action::Trim | Action::Cycle | Action::Close if rng.bool() => {
            Some(Operation::SyncMapping)
        }
        _ if rng.bool() => Some(KINDS[rng.usize(0..KINDS.len())]),
        _ => None,
    };
    let after = match (only, action) {
        // The last of their syncs is that of the control page.
        (Some(_), Action::Trim | Action::Cycle) => rng.u64(0..6),
        (Some(_), _) => rng.u64(0..2),
        (None, _) => rng.u64(0..40),
    };
    let failure = if rng.u8(..) < 64 { Failure::DiskFull } else { Failure::Io };
    Fault { after, only, failure, effect: AFTER_EFFECTS[rng.usize(0..AFTER_EFFECTS.len())] }
}
