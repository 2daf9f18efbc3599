//! A look at a log that may be live or damaged, without reading all of its records.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use mapwal::error::Corruption;
use mapwal::inspect::Inspection;
use mapwal::{Error, LogReader, Lsn, PinStatus, Snapshot};

use crate::failure::{Explain, Failure, Outcome, Result};
use crate::keep::Keepers;
use crate::tip::Tip;
use crate::writer::Writer;
use crate::{checkpoint, open, progress};

/// What is wrong with the control page.
pub(crate) fn page_fault(inspection: &Inspection) -> Option<&Corruption> {
    inspection.faults().find(|fault| fault.path.ends_with("control"))
}

/// Tells people of a control page that is damaged, if it is: what it would say, nothing else may.
pub(crate) fn tell_page_fault(inspection: &Inspection) -> Option<Corruption> {
    let fault = page_fault(inspection)?;
    Failure::of_log(&fault.clone().into(), &fault.path).tell();
    Some(fault.clone())
}

/// How often a log that is being written is looked at before it is called damaged.
const LOOKS_MAX: u32 = 4;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How often, and for how long, a log is looked at until all that is seen is of one moment.
const MOMENTS_MAX: u32 = 200;
const MOMENTS_TIME: Duration = Duration::from_secs(5);

/// What is found without reading more than headers, links and the newest segment.
pub(crate) struct Look {
    pub(crate) inspection: Inspection,
    pub(crate) writer: Writer,
    /// The first record, and the number after the last; `None` if damage keeps them from being known.
    pub(crate) first: Option<Lsn>,
    pub(crate) next: Option<Lsn>,
    /// Its records; `None` in the same case.
    pub(crate) records: Option<(LogReader, Snapshot)>,
    pub(crate) tip: Option<Tip>,
    pub(crate) pins: Vec<PinStatus>,
    pub(crate) keepers: Keepers,
    pub(crate) damage: Vec<Corruption>,
}

impl Look {
    pub(crate) fn take(directory: &Path, is_archive: bool, what: &'static str) -> Result<Self> {
        let mut look = Self::once(directory, is_archive, what)?;
        for _ in 1..LOOKS_MAX {
            if look.damage.is_empty() || !look.writer.is_alive() {
                break;
            }
            // What changes meanwhile may look like damage. What is damaged stays so.
            std::thread::sleep(PAUSE);
            let before = std::mem::replace(&mut look, Self::once(directory, is_archive, what)?).damage;
            look.damage.retain(|damage| before.contains(damage));
        }
        Ok(look)
    }

    /// How a command ends that has shown it.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.damage.is_empty() { Outcome::Done } else { Outcome::Damaged }
    }

    /// Tells people of the damage, beside what is printed for machines.
    pub(crate) fn tell_damage(&self, directory: &Path) {
        for damage in &self.damage {
            Failure::of_log(&damage.clone().into(), directory).tell();
        }
    }

    /// A line for each damage, as `verify` has it.
    pub(crate) fn print_damage(&self, out: &mut impl Write) -> io::Result<()> {
        self.damage.iter().try_for_each(|damage| {
            let at = damage.lsn.map_or(String::new(), |lsn| format!(", record {lsn}"));
            let proof = damage.evidence.as_ref().map_or(String::new(), |evidence| format!("; {evidence}"));
            writeln!(out, "{}: offset {}{at}: {}{proof}", damage.path.display(), damage.offset, damage.damage)
        })
    }

    fn once(directory: &Path, is_archive: bool, what: &'static str) -> Result<Self> {
        let newest = |inspection: &Inspection| {
            let newest = inspection.segments().iter().rev().find(|file| file.counts);
            newest.map_or(0, |file| file.file_len_bytes)
        };
        let (began, mut looks) = (Instant::now(), 0);
        loop {
            let look = open::again(|| {
                let inspection = Inspection::open(directory)?;
                let bar = progress::of_bytes(what, newest(&inspection));
                let look = Self::of(inspection, directory, is_archive, &bar);
                bar.finish_and_clear();
                look
            })
            .about(directory)?;
            looks += 1;
            if look.is_of_one_moment() || looks == MOMENTS_MAX || began.elapsed() >= MOMENTS_TIME {
                return Ok(look);
            }
        }
    }

    /// Whether the records that are seen are those of the files that are listed.
    fn is_of_one_moment(&self) -> bool {
        let first = self.inspection.segments().iter().filter(|file| file.counts).find_map(|file| file.first_lsn);
        let next = self.tip.as_ref().map(|tip| tip.next);
        !self.damage.is_empty() || first.is_none() || (self.first, self.next) == (first, next)
    }

    fn of(inspection: Inspection, directory: &Path, is_archive: bool, bar: &ProgressBar) -> mapwal::Result<Self> {
        let writer = Writer::find(&inspection);
        let mut damage: Vec<Corruption> = inspection.faults().cloned().collect();
        let reader = noted(open::try_reader(directory, is_archive), &mut damage)?;
        let records = match reader {
            Some(reader) => noted(reader.snapshot(), &mut damage)?.map(|snapshot| (reader, snapshot)),
            None => None,
        };
        let (first, next) = records.as_ref().map(|(_, snapshot)| (snapshot.first_lsn(), snapshot.next_lsn())).unzip();
        let tip = Tip::read(&inspection, next, bar)?;
        let needed = match (&records, &tip) {
            (Some((_, snapshot)), Some(tip)) => {
                let meta = |slot: usize| tip.slots.get(&slot).map(|slot| slot.value.clone());
                noted(checkpoint::needed(meta, snapshot), &mut damage)?
            }
            _ => None,
        };
        let pins = inspection.pins()?;
        let activity = inspection.activity().filter(|_| writer.is_alive());
        let guarded = activity.and_then(|activity| activity.oldest_guarded);
        let keepers = Keepers::new(&inspection, &pins, needed.flatten(), guarded);
        Ok(Self { inspection, writer, first, next, records, tip, pins, keepers, damage })
    }
}

/// Adds what is damaged to what is known to be.
fn noted<T>(outcome: mapwal::Result<T>, damage: &mut Vec<Corruption>) -> mapwal::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Error::Corrupt(corruption)) => {
            let is_place = |known: &Corruption| (&known.path, known.offset) == (&corruption.path, corruption.offset);
            if !damage.iter().any(is_place) {
                damage.push(*corruption);
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
