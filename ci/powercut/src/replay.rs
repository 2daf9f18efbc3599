//! From what a workload has told to what the log must hold after a power cut at any place of the disk's recording.

use std::collections::HashMap;
use std::fmt;

use crate::event::{Action, Event, Failure, Stamped};
use crate::model::{Entry, Model, Rule, Violation};

/// One session: how it began, and what it told.
pub struct History {
    /// What the log might hold when the session began, after a power cut.
    pub start: Model,
    pub events: Vec<Stamped>,
    /// The first operation of the disk that failed.
    pub first_failed: Option<u64>,
    /// Whether the file system was found to have stopped, at the end.
    pub stopped: bool,
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.first_failed.map(|failed| (failed, "the disk fails for the first time".to_owned()));
        let mut lines: Vec<(u64, String)> = self.events.iter().map(|told| (told.index, told.event.brief())).collect();
        lines.extend(failed);
        lines.sort_by_key(|(index, _)| *index);
        lines.iter().try_for_each(|(index, line)| writeln!(f, "{index:6} {line}"))
    }
}

/// What is known at a place of a history.
struct Replay {
    model: Model,
    /// The next open follows a power cut, not the death of a process.
    power_cut: bool,
    failed: bool,
    /// Where a trim that is under way began.
    trim: Option<std::ops::RangeInclusive<u64>>,
    /// The numbers that calls must get, and how much each appends.
    expected: HashMap<u64, (u64, usize)>,
    together: Option<Together>,
    doing: Action,
}

/// Calls of several threads, in the order of the numbers that they got.
#[derive(Default)]
struct Together {
    calls: Vec<(u64, u64, Vec<Entry>)>,
    submitted: Vec<u64>,
    /// How many of `calls` the model has.
    known: usize,
}

impl History {
    /// Checks all that was told; a rule broken before any cut is told here.
    pub fn check(&self) -> Result<(), Violation> {
        let told = self.gave_up().map_or(&self.events[..], |(at, _)| &self.events[..at]);
        self.replay(told).map(drop)
    }

    /// Whether the file system took no more, though neither its disk had failed nor was it told to stop: the first event that
    /// says so, or the end, and the error. It has found itself damaged, and nothing is known of what comes after that.
    pub fn gave_up(&self) -> Option<(usize, &str)> {
        let mut events = self.events.iter().enumerate();
        let failed = events.find_map(|(at, told)| match &told.event {
            Event::Failed { failure, error, .. } if *failure != Failure::NoSpace && !self.is_failing_at(told.index) => {
                (self.stopped || *failure == Failure::Damaged).then_some((at, error.as_str()))
            }
            _ => None,
        });
        failed.or_else(|| (self.stopped && !self.is_failing()).then_some((self.events.len(), "it takes no more")))
    }

    /// What the log must hold after a cut before operation `index`; nothing where that is not known.
    ///
    /// Without an error a cut in the first open changes nothing of its outcome.
    pub fn model_at(&self, index: u64) -> Option<Model> {
        if self.uncertain_from().is_some_and(|from| from <= index) {
            return None;
        }
        let opened = self.events.iter().find(|told| matches!(told.event, Event::Opened(_))).map(|told| told.index);
        let opened = opened.filter(|opened| !self.is_failing_at(*opened));
        let index = index.max(opened.unwrap_or(0));
        let told = self.events.iter().take_while(|told| told.index <= index).count();
        let replayed = self.replay(&self.events[..told]).ok()?;
        let mut model = replayed.model;
        model.forget_published();
        Some(model)
    }

    /// What was being done when the workload told the last event.
    pub fn last_action(&self) -> Action {
        let doing = self.events.iter().rev().find_map(|told| match told.event {
            Event::Doing(action) => Some(action),
            _ => None,
        });
        doing.unwrap_or(Action::Open)
    }

    /// Whether the disk failed, or the file system was told to stop.
    pub fn is_failing(&self) -> bool {
        self.is_failing_at(u64::MAX)
    }

    /// The operation before which the disk failed, or the file system was told to stop.
    pub fn first_failure(&self) -> Option<u64> {
        let stopped = self.events.iter().find(|told| matches!(told.event, Event::ShutDown)).map(|told| told.index);
        self.first_failed.into_iter().chain(stopped).min()
    }

    /// Whether that was before operation `index`.
    pub fn is_failing_at(&self, index: u64) -> bool {
        self.first_failure().is_some_and(|failure| failure < index)
    }

    /// From where on it is not known which numbers records got: several threads appended, and did not live to tell.
    fn uncertain_from(&self) -> Option<u64> {
        let together = self.events.iter().rposition(|told| matches!(told.event, Event::Together))?;
        let apart = self.events[together..].iter().any(|told| matches!(told.event, Event::Apart));
        (!apart).then(|| self.events[together].index)
    }

    /// Goes through the first events, which are `told`.
    fn replay(&self, told: &[Stamped]) -> Result<Replay, Violation> {
        let mut replay = Replay {
            model: self.start.clone(),
            power_cut: true,
            failed: false,
            trim: None,
            expected: HashMap::new(),
            together: None,
            doing: Action::Open,
        };
        for (at, told) in told.iter().enumerate() {
            replay.failed |= self.first_failed.is_some_and(|failed| failed < told.index);
            match &told.event {
                Event::Together => replay.together = Some(Together::of(&self.events[at..])),
                event => replay.apply(event)?,
            }
        }
        Ok(replay)
    }
}

impl Together {
    fn of(events: &[Stamped]) -> Self {
        let until_apart = || events.iter().map(|told| &told.event).take_while(|event| !matches!(event, Event::Apart));
        let numbers: HashMap<u64, u64> = until_apart()
            .filter_map(|event| match *event {
                Event::Appended { call, lsn: Some(lsn) } => Some((call, lsn)),
                _ => None,
            })
            .collect();
        let mut calls: Vec<(u64, u64, Vec<Entry>)> = until_apart()
            .filter_map(|event| match event {
                Event::Submitted { call, entries } => Some((*numbers.get(call)?, *call, entries.clone())),
                _ => None,
            })
            .collect();
        calls.sort_unstable_by_key(|(lsn, ..)| *lsn);
        Self { calls, ..Self::default() }
    }
}

impl Replay {
    fn apply(&mut self, event: &Event) -> Result<(), Violation> {
        match event {
            Event::Doing(action) => self.doing = *action,
            Event::Opened(observed) => {
                if self.failed || self.power_cut {
                    self.model.forget_published();
                }
                self.model.recovered(observed, self.power_cut)?;
                self.power_cut = false;
            }
            Event::Shown(observed) => self.model.check_running(observed)?,
            Event::Submitted { call, entries } => self.submitted(*call, entries)?,
            Event::Appended { call, lsn } => self.appended(*call, *lsn)?,
            Event::Refused { call } => self.refused(*call),
            Event::Together => {}
            Event::Apart => self.together = None,
            Event::Synced(durable) => {
                self.model.acknowledge(self.model.submitted());
                self.model.acknowledge_to(*durable);
            }
            Event::Durable(lsn) => self.model.acknowledge_to(*lsn),
            Event::Trimming(lsn) => self.trim = Some(self.model.begin_trim(*lsn)),
            Event::Trimmed { dropped: 0, .. } => {
                if let Some(before) = self.trim.take() {
                    self.model.undo_trim(before);
                }
            }
            Event::Trimmed { first, .. } => self.model.settle_first(*first),
            Event::Truncating(lsn) => self.model.begin_truncate(*lsn, &[]),
            Event::Resetting(lsn) => self.model.begin_reset(*lsn, &[]),
            Event::Replaced => self.model.end_replace(true),
            Event::Closed => self.model.acknowledge(self.model.submitted()),
            Event::Dropped => self.model.published_survive(None),
            Event::Failed { action, failure, error, next } => self.failed_call(*action, *failure, error, *next)?,
            Event::AcknowledgedAfterFailure => {
                return Err(Violation::new(Rule::Lost, "something is acknowledged after a failed sync"));
            }
            Event::ShutDown => self.failed = true,
        }
        Ok(())
    }

    fn submitted(&mut self, call: u64, entries: &[Entry]) -> Result<(), Violation> {
        let Some(together) = &mut self.together else {
            self.expected.insert(call, (self.model.submit(entries), entries.len()));
            return Ok(());
        };
        together.submitted.push(call);
        while let Some((lsn, call, entries)) = together.calls.get(together.known)
            && together.submitted.contains(call)
        {
            let expected = self.model.submit(entries);
            if expected != *lsn {
                let message = format!("appended at the same time as others as record {lsn}, not {expected}");
                return Err(Violation::new(Rule::Gap, message));
            }
            together.known += 1;
        }
        Ok(())
    }

    fn appended(&mut self, call: u64, lsn: Option<u64>) -> Result<(), Violation> {
        let expected = self.expected.remove(&call);
        match (lsn, expected) {
            (Some(lsn), Some((expected, _))) if lsn != expected => {
                Err(Violation::new(Rule::Gap, format!("appended as record {lsn}, not {expected}")))
            }
            _ => Ok(()),
        }
    }

    fn refused(&mut self, call: u64) {
        if let Some((_, count)) = self.expected.remove(&call) {
            self.model.withdraw(count);
        }
    }

    fn failed_call(&mut self, action: Action, failure: Failure, error: &str, next: u64) -> Result<(), Violation> {
        if !self.failed && failure != Failure::NoSpace {
            return Err(Violation::new(Rule::FalseCorruption, format!("{action:?} fails: {error}")));
        }
        if matches!(action, Action::Truncate | Action::Reset) && failure != Failure::Poisoned {
            self.model.end_replace(next != self.model.next_lsn());
        }
        Ok(())
    }
}
