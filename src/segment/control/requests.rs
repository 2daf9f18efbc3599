//! Requests to trim, which other processes write to the control page, and the answers of the writer.
//!
//! Both have the number that the asking process has drawn, and a checksum with the number of the writer's run: what is of an
//! earlier run, or half written, says nothing. One request has room. A process whose request is overwritten by another one's
//! writes it again, so none of them needs a lock.

use std::io;

use super::ControlPage;
use super::words::{Word, checksum};
use crate::lsn::Lsn;

/// What a process asks of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// Drawn by the process, and not 0.
    pub(crate) number: u64,
    /// The first record that is to stay.
    pub(crate) before: Lsn,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// That of the request.
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
    /// How many were dropped.
    pub(crate) segments: u64,
    /// The first record afterwards.
    pub(crate) first: Lsn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Trimmed = 1,
    /// The writer reports why, as an event.
    Failed = 2,
}

impl ControlPage {
    /// Says that this run's writer takes requests. False if no other process can see that.
    pub(crate) fn take_requests(&self) -> io::Result<bool> {
        if self.file.is_none() {
            return Ok(false);
        }
        self.set(Word::TakesRequests, self.get(Word::Epoch)).map(|()| true)
    }

    /// Whether the writer takes requests, or the last one did.
    pub(crate) fn takes_requests(&self) -> bool {
        self.get(Word::TakesRequests) == self.get(Word::Epoch)
    }

    /// The last request, if it has not been answered.
    pub(crate) fn request(&self) -> Option<Request> {
        let [number, before] = self.summed(Word::Request)?;
        let answered = self.answer().map(|answer| answer.number);
        (number != 0 && Some(number) != answered).then_some(Request { number, before: Lsn(before) })
    }

    /// The last answer.
    pub(crate) fn answer(&self) -> Option<Answer> {
        let [number, outcome, segments, first] = self.summed(Word::Answer)?;
        let outcome = [Outcome::Trimmed, Outcome::Failed].into_iter().find(|&known| known as u64 == outcome)?;
        Some(Answer { number, outcome, segments, first: Lsn(first) })
    }

    /// Called by the writer. Should it fail, the process that has asked waits in vain.
    pub(crate) fn set_answer(&self, answer: Answer) {
        let Answer { number, outcome, segments, first } = answer;
        let words = [number, outcome as u64, segments, first.0];
        let _ = self.write(Word::Answer, [number, outcome as u64, segments, first.0, self.sum(&words)]);
    }

    /// Called by a process that asks; one that overwrites another's request is met by that.
    pub(crate) fn set_request(&self, Request { number, before }: Request) -> io::Result<()> {
        self.write(Word::Request, [number, before.0, self.sum(&[number, before.0])])
    }

    /// Takes the last request back.
    pub(crate) fn clear_request(&self) -> io::Result<()> {
        self.write(Word::Request, [0; 3])
    }

    /// The words from `first` on, if the one after them has their checksum.
    fn summed<const N: usize>(&self, first: Word) -> Option<[u64; N]> {
        let words = std::array::from_fn(|at| self.words.load(first as usize + at));
        (self.words.load(first as usize + N) == self.sum(&words)).then_some(words)
    }

    fn sum(&self, words: &[u64]) -> u64 {
        checksum(self.log_id, &[&[self.get(Word::Epoch)], words].concat()).into()
    }
}
