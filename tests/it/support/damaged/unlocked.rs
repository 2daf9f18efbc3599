//! Checks of what reads a log without its lock: readers, followers and inspections.

use mapwal::inspect::{Inspection, SegmentState, VerifyOptions, VerifyReport};
use mapwal::{Error, Lsn, Visibility};

use super::bench::{Bench, Outcome};
use super::specimen::{Change, Expected};
use crate::format::spec::DATA;
use crate::support::read_only;
use crate::support::stored::StoredFrame;

impl Bench<'_> {
    /// Opens the changed log for reading, and checks what comes of it by the rule for readers.
    pub(crate) fn check_reader(&self, change: &Change) -> Outcome {
        self.write(change.segment, change.range.start, &change.bytes);
        let snapshot = read_only(self.dir.path()).and_then(|reader| reader.snapshot());
        let opened = snapshot.is_ok();
        let (records, error) = self.specimen.read(snapshot);
        self.check_read(change, opened, records, error.as_ref())
    }

    /// Follows the changed log from its first record on, and checks what comes of it by the rule for readers.
    pub(crate) fn check_follower(&self, change: &Change) -> Outcome {
        self.write(change.segment, change.range.start, &change.bytes);
        let reader = read_only(self.dir.path());
        let follower = reader.and_then(|reader| reader.follow(Lsn(1), Visibility::Published));
        let opened = follower.is_ok();
        let (records, error) = match follower {
            Ok(follower) => self.specimen.follow(follower),
            Err(error) => (0, Some(error)),
        };
        self.check_read(change, opened, records, error.as_ref())
    }
    fn check_read(&self, change: &Change, opened: bool, records: u64, error: Option<&Error>) -> Outcome {
        let expected = match (self.specimen.expect(change), self.specimen.first_broken(change)) {
            (Expected::Refused, _) => Expected::Refused,
            (_, Some(first)) if first.position() < self.specimen.durable || error.is_some() => Expected::Damage(first),
            (_, Some(first)) => Expected::Records(first.lsn - 1),
            (_, None) => Expected::Records(self.specimen.payloads.len() as u64),
        };
        let records = match &expected {
            Expected::Damage(first) if !opened => first.lsn - 1,
            _ => records,
        };
        let outcome = self.check(change, &expected, records, error);
        assert_eq!(self.undo(change), Vec::<String>::new(), "{change:?}: a reader changes nothing");
        outcome
    }

    /// Inspects the changed log, and checks the report by the rule.
    pub(crate) fn check_inspection(&self, change: &Change) -> Outcome {
        self.write(change.segment, change.range.start, &change.bytes);
        let report = Inspection::open(self.dir.path()).map(|inspection| {
            inspection.verify(VerifyOptions::default(), &mut |_| {}).expect("the files are readable")
        });
        let expected = self.specimen.expect(change);
        let outcome = match report {
            Err(error) => self.check(change, &expected, 0, Some(&error)),
            Ok(report) => self.check_report(change, &expected, &report),
        };
        assert_eq!(self.undo(change), Vec::<String>::new(), "{change:?}: an inspection changes nothing");
        outcome
    }

    fn check_report(&self, change: &Change, expected: &Expected<'_>, report: &VerifyReport) -> Outcome {
        let states: Vec<SegmentState> = report.segments.iter().map(|segment| segment.state).collect();
        let Some(corruption) = report.damage.first() else {
            assert!(!states.contains(&SegmentState::Damaged), "{change:?}: {report:?}");
            let outcome = self.check(change, expected, report.records(), None);
            let beyond = |frame: &&StoredFrame| frame.lsn > report.records() && frame.kind == DATA;
            let lost = self.specimen.frames.iter().any(|frame| beyond(&frame));
            assert!(!lost || report.torn_bytes() > 0 || self.lost_all(change), "{change:?}: {report:?}");
            return outcome;
        };
        assert!(states.contains(&SegmentState::Damaged), "{change:?}: {report:?}");
        let error = Error::from(corruption.clone());
        match (expected, &corruption.evidence) {
            (Expected::Damage(frame), Some(_)) => {
                self.check_evidence(frame, corruption);
                self.check(change, expected, frame.lsn - 1, Some(&error))
            }
            (Expected::Refused, None) => self.check(change, expected, 0, Some(&error)),
            other => panic!("{change:?}: {other:?}: {report:?}"),
        }
    }

    /// Whether the change leaves nothing but zeros from the first frame that it breaks on.
    fn lost_all(&self, change: &Change) -> bool {
        let first = self.specimen.first_broken(change).expect("records are lost");
        let after = self.specimen.frames.iter().filter(|frame| frame.position() >= first.position());
        let is_zeroed = |frame: &StoredFrame| {
            frame.segment == change.segment && change.range.contains(&frame.offset) && change.range.end >= frame.end
        };
        change.bytes.iter().all(|&byte| byte == 0) && after.into_iter().all(is_zeroed)
    }
}
