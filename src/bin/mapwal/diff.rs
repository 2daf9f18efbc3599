//! `mapwal diff`: where two logs part, by record.
//!
//! Both are read once, in step, as each is at one moment; what is the same is not kept. Records are compared, by number, tag and
//! payload, and nothing else: two logs that differ in their segments, or in their identity, may hold the same.

use std::io::{self, Write};
use std::path::Path;

use indicatif::ProgressBar;
use mapwal::inspect::Inspection;
use mapwal::{LogReader, Lsn, Record, Snapshot};

use crate::arguments::Diff;
use crate::failure::{Explain, Failure, Outcome, Result, Written, counted};
use crate::{open, progress};

pub(crate) fn run(arguments: &Diff) -> Result<Outcome> {
    let sides = [&*arguments.a, &*arguments.b];
    let [a, b] = sides.map(|path| open::reader(path, arguments.archive));
    let (a, b) = (Side::new(&a?, sides[0])?, Side::new(&b?, sides[1])?);
    let total = sides.iter().filter_map(|path| Inspection::open(path).ok()).map(|found| found.bytes_to_verify()).sum();
    let mut comparison = Comparison {
        sides: [&a, &b],
        bar: progress::of_bytes("diff", total),
        run: None,
        counts: Counts::default(),
        parting: None,
        is_unread: false,
    };
    comparison.walk()?;
    comparison.finish(arguments.overlap)
}

/// One of the two logs, as it is at one moment.
struct Side<'p> {
    path: &'p Path,
    snapshot: Snapshot,
    first: Lsn,
    last: Lsn,
}

impl<'p> Side<'p> {
    fn new(reader: &LogReader, path: &'p Path) -> Result<Self> {
        let snapshot = open::again(|| reader.snapshot()).about(path)?;
        let (first, last) = (snapshot.first_lsn(), snapshot.next_lsn().previous());
        Ok(Self { path, snapshot, first, last })
    }

    /// Why it does not have record `lsn`.
    fn lacks(&self, lsn: Lsn) -> Place {
        match lsn {
            lsn if lsn < self.first => Place::Before,
            lsn if lsn > self.last => Place::After,
            _ => Place::Within,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It begins later.
    Before,
    /// It has a number without a record.
    Within,
    /// It ends before.
    After,
}

/// What some records in a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Same,
    Different,
    /// The side that has them, and why the other has not.
    Only(usize, Place),
}

#[derive(Default)]
struct Counts {
    same: u64,
    different: u64,
    only: [u64; 2],
    /// Of those that one side lacks, as many as it has trimmed, or does not reach.
    beyond: u64,
}

struct Run {
    kind: Kind,
    first: Lsn,
    last: Lsn,
    count: u64,
    detail: String,
}

struct Comparison<'a, 'p> {
    sides: [&'a Side<'p>; 2],
    bar: ProgressBar,
    run: Option<Run>,
    counts: Counts,
    /// The first difference between records that both logs reach.
    parting: Option<Lsn>,
    /// No process reads the output any more; the exit code still tells.
    is_unread: bool,
}

impl Comparison<'_, '_> {
    fn walk(&mut self) -> Result<()> {
        let [a, b] = self.sides;
        let (mut of_a, mut of_b) = (a.snapshot.iter(), b.snapshot.iter());
        let (mut next_a, mut next_b) = (of_a.next().transpose().about(a.path)?, of_b.next().transpose().about(b.path)?);
        loop {
            let lsns = (next_a.as_ref().map(Record::lsn), next_b.as_ref().map(Record::lsn));
            let (takes_a, takes_b) = match lsns {
                (None, None) => break,
                (Some(_), None) => (true, false),
                (None, Some(_)) => (false, true),
                (Some(a), Some(b)) => (a <= b, b <= a),
            };
            match (&next_a, &next_b) {
                (Some(one), Some(other)) if takes_a && takes_b => self.compare(one, other)?,
                (Some(one), _) if takes_a => self.pass(Kind::Only(0, b.lacks(one.lsn())), one, String::new)?,
                (_, Some(other)) => self.pass(Kind::Only(1, a.lacks(other.lsn())), other, String::new)?,
                _ => {}
            }
            if takes_a {
                next_a = of_a.next().transpose().about(a.path)?;
            }
            if takes_b {
                next_b = of_b.next().transpose().about(b.path)?;
            }
        }
        self.end_run()
    }

    fn compare(&mut self, one: &Record<'_>, other: &Record<'_>) -> Result<()> {
        self.bar.inc(stored_len(other));
        if (one.tag(), one.payload()) == (other.tag(), other.payload()) {
            return self.pass(Kind::Same, one, String::new);
        }
        let what = || {
            let of = |record: &Record<'_>| format!("tag {}, {} bytes", record.tag(), record.payload().len());
            let at = one.payload().iter().zip(other.payload()).position(|(a, b)| a != b);
            let at = at.map_or(String::new(), |at| format!(", from byte {at} on"));
            format!(": {} is {} and {}{at}", one.lsn(), of(one), of(other))
        };
        self.pass(Kind::Different, one, what)
    }

    /// Takes account of one record; `detail` is asked for the first of a run.
    fn pass(&mut self, kind: Kind, record: &Record<'_>, detail: impl FnOnce() -> String) -> Result<()> {
        self.bar.inc(stored_len(record));
        let lsn = record.lsn();
        match &mut self.run {
            Some(run) if run.kind == kind => (run.last, run.count) = (lsn, run.count + 1),
            _ => {
                self.end_run()?;
                self.run = Some(Run { kind, first: lsn, last: lsn, count: 1, detail: detail() });
            }
        }
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let Run { kind, first, last, count, detail } = run;
        let records = counted(count, "record", "records");
        let line = match kind {
            Kind::Same => {
                self.counts.same += count;
                return Ok(());
            }
            Kind::Different => {
                self.counts.different += count;
                format!("{first}..{last}: {records} {}{detail}", if count == 1 { "differs" } else { "differ" })
            }
            Kind::Only(side, place) => {
                let [this, other] = [side, 1 - side].map(|side| self.sides[side]);
                let other_path = other.path.display();
                let why = match place {
                    Place::Before => format!("{other_path} begins with {}", other.first),
                    Place::After if other.last < other.first => format!("{other_path} has none"),
                    Place::After => format!("{other_path} ends with {}", other.last),
                    Place::Within => format!("{other_path} has none there"),
                };
                self.counts.only[side] += count;
                self.counts.beyond += if place == Place::Within { 0 } else { count };
                format!("{first}..{last}: {records} only in {}: {why}", this.path.display())
            }
        };
        if matches!(kind, Kind::Different | Kind::Only(_, Place::Within)) {
            self.parting.get_or_insert(first);
        }
        self.print(&line)
    }

    fn finish(mut self, is_overlap_alone: bool) -> Result<Outcome> {
        self.bar.finish_and_clear();
        let Counts { same, different, only, beyond } = self.counts;
        let all: u64 = different + only.iter().sum::<u64>();
        let counting = all - if is_overlap_alone { beyond } else { 0 };
        let has_nothing_common = same + different == 0 && all > 0;
        let verdict = match self.parting {
            Some(lsn) => format!("the logs part at record {lsn}"),
            None if has_nothing_common => "the logs have no record in common".to_owned(),
            None if counting > 0 => "one log has more than the other".to_owned(),
            None => "the logs are the same".to_owned(),
        };
        let records = counted(same, "record", "records");
        self.print(&format!(
            "{verdict}: {records} in both, {different} differ, {} and {} only in one",
            only[0], only[1]
        ))?;
        Ok(if counting > 0 || has_nothing_common { Outcome::Differ } else { Outcome::Done })
    }

    fn print(&mut self, line: &str) -> Result<()> {
        if self.is_unread {
            return Ok(());
        }
        match self.bar.suspend(|| writeln!(io::stdout().lock(), "{line}")).written() {
            Err(Failure::PipeClosed) => {
                self.is_unread = true;
                Ok(())
            }
            printed => printed,
        }
    }
}

/// About what it takes in its segment.
fn stored_len(record: &Record<'_>) -> u64 {
    record.payload().len().next_multiple_of(8) as u64 + 24
}
