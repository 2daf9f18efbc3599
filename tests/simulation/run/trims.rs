//! Trims of a run: of any kind, and in rounds that bring files back.

use fastrand::Rng;
use mapwal::internals::Operation;
use mapwal::{Error, Lsn};

use super::super::history::Action;
use super::super::model::{Entry, Rule, SLOTS, Violation, meta_value, tag};
use super::Run;
use super::judge::Failed;

impl Run<'_> {
    pub(super) fn trim(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let lsn = rng.u64(self.log().first_lsn().0..=self.watch.model.lock().next_lsn());
        if rng.bool() { self.trim_with(rng, lsn) } else { self.trim_to(lsn) }
    }

    /// Trims with a metadata slot that is set.
    fn trim_with(&mut self, rng: &mut Rng, lsn: u64) -> Result<(), Failed> {
        let log = self.log();
        let (slot, id) = (rng.usize(0..SLOTS), self.watch.model.lock().fresh_id());
        self.watch.submit(&[Entry::Meta { slot, id }]);
        let before = self.watch.model.lock().begin_trim_with(lsn);
        let first_before = log.first_lsn();
        let trimmed = log.trim_before_with(Lsn(lsn), &[(slot, &meta_value(id))]);
        self.watch.settle();
        let mut model = self.watch.model.lock();
        if let Err(error) = trimmed {
            if log.meta(slot) != Some(meta_value(id)) {
                model.undo_trim(before);
                model.withdraw(1);
            }
            if self.tells_of_earlier(&error) {
                return Ok(());
            }
            return Err(Failed::new(Action::Trim, error));
        }
        model.end_trim_with();
        match log.first_lsn() {
            first if first == first_before => model.undo_trim(before),
            first => model.settle_first(first.0),
        }
        Ok(())
    }

    /// Fills segments and trims them, so that files come back: once a segment was prepared before the first trim, the one after the
    /// next is made of what that has dropped.
    pub(super) fn cycle(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        if rng.u8(..) < if self.disk.has_fault() { 192 } else { 64 } {
            return self.trim_in_parts(rng);
        }
        for _ in 0..rng.u8(2..5) {
            for _ in 0..rng.u8(1..3) {
                self.append(rng, |log, id, bytes| log.append(tag(id), bytes))?;
            }
            self.log().rotate().map_err(|error| Failed::new(Action::Rotate, error))?;
            match rng.u8(..) {
                0..64 => self.append(rng, |log, id, bytes| log.append(tag(id), bytes))?,
                64..96 => self.view(rng).map_err(Failed::Broken)?,
                _ => {}
            }
            let next = self.watch.model.lock().next_lsn();
            self.trim_to(next)?;
        }
        self.append(rng, |log, id, bytes| log.append(tag(id), bytes))?;
        if rng.bool() { self.sync(rng) } else { Ok(()) }
    }

    /// Without a rotation in between, only the control page says what was trimmed first.
    fn trim_in_parts(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        for _ in 0..3 {
            self.append(rng, |log, id, bytes| log.append(tag(id), bytes))?;
            self.log().rotate().map_err(|error| Failed::new(Action::Rotate, error))?;
        }
        let next = self.watch.model.lock().next_lsn();
        self.trim_to(next - 1)?;
        if self.may_aim {
            // All is durable: what is synced next is that page.
            self.disk.aim_fault(Operation::SyncMapping);
        }
        self.trim_to(next)
    }

    /// Whether an error may be that of an operation which an earlier step was made to fail in, since files are removed when no caller waits.
    fn tells_of_earlier(&self, error: &Error) -> bool {
        self.had_fault && matches!(error, Error::Io { operation: "remove", .. })
    }

    fn trim_to(&mut self, lsn: u64) -> Result<(), Failed> {
        let log = self.log();
        let before = self.watch.model.lock().begin_trim(lsn);
        let first_before = log.first_lsn();
        let trimmed = match log.trim_before(Lsn(lsn)) {
            Err(error) if self.tells_of_earlier(&error) => log.trim_before(Lsn(lsn)),
            trimmed => trimmed,
        };
        trimmed.map_err(|error| Failed::new(Action::Trim, error))?;
        if log.first_lsn() == first_before {
            self.watch.model.lock().undo_trim(before);
            return Ok(());
        }
        let first = log.first_lsn().0;
        if first > lsn {
            let message = format!("trimmed to {first}, asked for {lsn}");
            return Err(Failed::Broken(Violation::new(Rule::Lost, message)));
        }
        self.watch.model.lock().settle_first(first);
        Ok(())
    }
}
