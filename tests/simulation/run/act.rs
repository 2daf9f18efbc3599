//! The actions of a history, as they are done to the log and told to the model.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

use fastrand::Rng;
use mapwal::internals::PAGE_BYTES;
use mapwal::{Error, Log, Lsn};

use super::super::history::Action;
use super::super::model::{Entry, Rule, SLOTS, Violation, first_word, meta_value, payload, tag};
use super::judge::Failed;
use super::view::View;
use super::{Run, SEGMENT_BYTES};

/// What stands before a payload, of what a close says, and of each value in it.
const FRAME_HEADER_BYTES: usize = 24;
const CLOSE_HEADER_BYTES: usize = 32;
const META_HEADER_BYTES: usize = 8;

impl Run<'_> {
    pub(super) fn act(&mut self, action: Action, rng: &mut Rng) -> Result<(), Failed> {
        match action {
            Action::Append => self.append(rng, |log, id, bytes| log.append(tag(id), bytes)),
            Action::Vectored => self.append(rng, |log, id, bytes| {
                let (front, back) = bytes.split_at(bytes.len() / 3);
                log.append_vectored(tag(id), &[front, &[], back])
            }),
            Action::InPlace => self.append(rng, |log, id, bytes| {
                log.append_with(tag(id), bytes.len(), |place| place.copy_from_slice(bytes))
            }),
            Action::Hole => self.append_with_hole(rng),
            Action::Panicking => self.append_void(rng),
            Action::Batch => self.append_batch(rng),
            Action::Meta => self.put_meta(rng),
            Action::Sync => self.sync(rng),
            Action::WaitDurable => self.wait_durable(rng),
            Action::Rotate => self.log().rotate().map(|_| ()).map_err(|error| Failed::new(action, error)),
            Action::Trim => self.trim(rng),
            Action::Cycle => self.cycle(rng),
            Action::Truncate => self.truncate(rng),
            Action::Reset => self.reset(rng),
            Action::Read => self.read().map_err(Failed::Broken),
            Action::View => self.view(rng).map_err(Failed::Broken),
            Action::Close => {
                if rng.u8(..) < 96 {
                    self.fill_up_to_close(rng)?;
                }
                self.close()
            }
            Action::Kill => self.kill().map_err(Failed::Broken),
            Action::PowerCut => self.power_cut(rng).map_err(Failed::Broken),
        }
    }

    pub(super) fn append(
        &mut self,
        rng: &mut Rng,
        append: impl FnOnce(&Log, u64, &[u8]) -> mapwal::Result<Lsn>,
    ) -> Result<(), Failed> {
        let len_max = self.log().payload_len_max();
        // Too long for the first segments, where the log may have longer ones.
        let is_long = len_max > SEGMENT_BYTES && rng.u8(..) < 16;
        let len = if is_long { rng.usize(SEGMENT_BYTES as usize..len_max as usize) } else { random_len(rng) };
        self.append_of(len, append).map(drop)
    }

    /// Returns the record's identity.
    fn append_of(
        &mut self,
        len: usize,
        append: impl FnOnce(&Log, u64, &[u8]) -> mapwal::Result<Lsn>,
    ) -> Result<u64, Failed> {
        let (id, expected) = self.watch.submit_record(len);
        let appended = append(&self.log(), id, &payload(id, len));
        self.appended(Action::Append, 1, expected, appended).map(|()| id)
    }

    /// Appends so much that a close which comes next ends with its page: what is appended later begins another one.
    fn fill_up_to_close(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        const SHORT: usize = 8;
        let append = |log: &Log, id, bytes: &[u8]| log.append(tag(id), bytes);
        let id = self.append_of(SHORT, append)?;
        self.sync(rng)?;
        let Some((_, payload)) = self.disk.find(first_word(id)) else { return Ok(()) };
        let log = self.log();
        let values = (0..SLOTS).filter_map(|slot| log.meta(slot)).map(|value| META_HEADER_BYTES + value.len());
        let close = (FRAME_HEADER_BYTES + CLOSE_HEADER_BYTES + values.sum::<usize>()).next_multiple_of(8);
        let end = payload + SHORT + FRAME_HEADER_BYTES + close;
        self.append_of(end.next_multiple_of(PAGE_BYTES) - end, append).map(drop)
    }

    /// An append of `count` entries has come back.
    fn appended(
        &mut self,
        action: Action,
        count: usize,
        expected: u64,
        appended: mapwal::Result<Lsn>,
    ) -> Result<(), Failed> {
        self.watch.settle();
        match appended {
            Ok(lsn) if lsn.0 == expected => Ok(()),
            Ok(lsn) => {
                let message = format!("appended as record {lsn}, not {expected}");
                Err(Failed::Broken(Violation::new(Rule::Gap, message)))
            }
            Err(error) => {
                self.watch.model.lock().withdraw(count);
                Err(Failed::new(action, error))
            }
        }
    }

    fn append_batch(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let count = rng.usize(1..6);
        let mut model = self.watch.model.lock();
        let records: Vec<(u64, usize)> = (0..count).map(|_| (model.fresh_id(), random_len(rng).min(9000))).collect();
        let entry = |(index, &(id, len)): (usize, &(u64, usize))| Entry::Record {
            id,
            len: len as u32,
            continues: index + 1 < count,
        };
        let entries: Vec<Entry> = records.iter().enumerate().map(entry).collect();
        drop(model);
        let expected = self.watch.submit(&entries);
        let payloads: Vec<(u16, Vec<u8>)> = records.iter().map(|&(id, len)| (tag(id), payload(id, len))).collect();
        let batch: Vec<(u16, &[u8])> = payloads.iter().map(|(tag, bytes)| (*tag, &bytes[..])).collect();
        let appended = self.log().append_batch(&batch).map(|range| range.start);
        self.appended(Action::Batch, count, expected, appended)
    }

    /// Another thread appends, and the power fails, while a record is being copied.
    fn append_with_hole(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let len = rng.usize(8..100);
        let (id, expected) = self.watch.submit_record(len);
        let log = self.log();
        let (watch, disk) = (&*self.watch, &self.disk);
        let (first, second) = (rng.bool(), rng.bool());
        let appended = log.append_with(tag(id), len, |place| {
            place.copy_from_slice(&payload(id, len));
            if first {
                disk.show_cut();
            }
            let len = 30;
            let (after, _) = watch.submit_record(len);
            let append = || log.append(tag(after), &payload(after, len));
            let overtook = std::thread::scope(|scope| scope.spawn(append).join().expect("an append does not panic"));
            if overtook.is_err() {
                watch.model.lock().withdraw(1);
            } else if second {
                disk.show_cut();
            }
        });
        self.appended(Action::Hole, 1, expected, appended)
    }

    fn append_void(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let len = random_len(rng).min(500);
        self.watch.submit(&[Entry::Void]);
        let log = self.log();
        let append = || {
            log.append_with(0, len, |place| {
                place.fill(0xee);
                // Without the panic hook, which would print.
                resume_unwind(Box::new(()));
            })
        };
        let caught = catch_unwind(AssertUnwindSafe(append));
        self.watch.settle();
        match caught {
            Err(_) => Ok(()),
            Ok(Ok(_)) => unreachable!("the closure panics"),
            Ok(Err(error)) => {
                self.watch.model.lock().withdraw(1);
                Err(Failed::new(Action::Panicking, error))
            }
        }
    }

    fn put_meta(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let slot = rng.usize(0..SLOTS);
        let id = self.watch.model.lock().fresh_id();
        self.watch.submit(&[Entry::Meta { slot, id }]);
        let put = self.log().put_meta(slot, &meta_value(id));
        self.watch.settle();
        let mark = put.map_err(|error| {
            self.watch.model.lock().withdraw(1);
            Failed::new(Action::Meta, error)
        })?;
        if rng.bool() {
            let submitted = self.watch.model.lock().submitted();
            self.log().wait_durable(mark).map_err(|error| Failed::new(Action::WaitDurable, error))?;
            self.watch.model.lock().acknowledge(submitted);
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let submitted = self.watch.model.lock().submitted();
        self.watch.busy.store(if rng.bool() { 96 } else { 0 }, Ordering::Relaxed);
        let synced = self.log().sync();
        self.watch.busy.store(0, Ordering::Relaxed);
        let durable = synced.map_err(|error| Failed::new(Action::Sync, error))?;
        let mut model = self.watch.model.lock();
        model.acknowledge(submitted);
        model.acknowledge_to(durable.0);
        Ok(())
    }

    fn wait_durable(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let (first, next) = {
            let model = self.watch.model.lock();
            (model.first_lsn(), model.next_lsn())
        };
        if first == next {
            return Ok(());
        }
        let lsn = rng.u64(first..next);
        self.watch.busy.store(64, Ordering::Relaxed);
        let waited = self.log().wait_durable(Lsn(lsn));
        self.watch.busy.store(0, Ordering::Relaxed);
        waited.map_err(|error| Failed::new(Action::WaitDurable, error))?;
        self.watch.model.lock().acknowledge_to(lsn);
        Ok(())
    }

    /// The metadata slots that a call is to set, and what to.
    fn slots(&self, rng: &mut Rng) -> Vec<(usize, u64)> {
        let mut model = self.watch.model.lock();
        (0..rng.usize(0..=SLOTS)).map(|slot| (slot, model.fresh_id())).collect()
    }

    fn truncate(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let slots = self.slots(rng);
        let values = values(&slots);
        let lsn = {
            let mut model = self.watch.model.lock();
            let (first, next) = (self.log().first_lsn().0, model.next_lsn());
            let lsn = rng.u64(first.max(next.saturating_sub(12))..=next) - 1;
            if lsn + 1 >= next {
                // Drops nothing.
                drop(model);
                return self.log().truncate_after(Lsn(lsn)).map_err(|error| Failed::new(Action::Truncate, error));
            }
            model.begin_truncate(lsn, &slots);
            lsn
        };
        let truncated = self.while_others_append(|log| log.truncate_after_with(Lsn(lsn), &borrowed(&values)));
        self.replaced(Action::Truncate, truncated)
    }

    fn reset(&mut self, rng: &mut Rng) -> Result<(), Failed> {
        let slots = self.slots(rng);
        let values = values(&slots);
        let lsn = {
            let mut model = self.watch.model.lock();
            let next = model.next_lsn();
            let lsn = rng.u64(next.saturating_sub(10).max(1)..next + 10);
            model.begin_reset(lsn, &slots);
            lsn
        };
        let reset = self.while_others_append(|log| log.reset_to_with(Lsn(lsn), &borrowed(&values)));
        self.replaced(Action::Reset, reset)
    }

    /// Has other threads append while `call` syncs.
    fn while_others_append<T>(&self, call: impl FnOnce(&Log) -> T) -> T {
        self.watch.busy.store(96, Ordering::Relaxed);
        let done = call(&self.log());
        self.watch.busy.store(0, Ordering::Relaxed);
        done
    }

    fn replaced(&mut self, action: Action, replaced: mapwal::Result<()>) -> Result<(), Failed> {
        match replaced {
            Ok(()) => {
                self.watch.model.lock().end_replace(true);
                Ok(())
            }
            Err(error) => Err(Failed::new(action, error)),
        }
    }

    fn read(&mut self) -> Result<(), Violation> {
        let observed = self.observe(&self.log())?;
        self.watch.model.lock().check_running(&observed)
    }

    /// Looks at what was seen before, lets go of some, and begins to look at more.
    pub(super) fn view(&mut self, rng: &mut Rng) -> Result<(), Violation> {
        self.check_views()?;
        self.views.retain(|_| rng.bool());
        let disk = &self.disk;
        let view = match rng.u8(0..3) {
            0 => self.log().snapshot().ok().and_then(View::of),
            1 => View::elsewhere(disk),
            _ => self.log().sealed(0).ok().and_then(|sealed| View::backup(disk, sealed.last()?)),
        };
        self.views.extend(view);
        Ok(())
    }
}

/// The slots as the model knows them, as the log does.
fn values(slots: &[(usize, u64)]) -> Vec<(usize, Vec<u8>)> {
    slots.iter().map(|&(slot, id)| (slot, meta_value(id))).collect()
}

fn borrowed(values: &[(usize, Vec<u8>)]) -> Vec<(usize, &[u8])> {
    values.iter().map(|(slot, value)| (*slot, &value[..])).collect()
}

pub(super) fn random_len(rng: &mut Rng) -> usize {
    match rng.u8(..) {
        0..24 => rng.usize(0..8),
        24..208 => rng.usize(8..200),
        208..240 => rng.usize(200..2000),
        240..254 => rng.usize(2000..12_000),
        _ => rng.usize(12_000..50_000),
    }
}
