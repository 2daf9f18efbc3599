//! A rule for `Debug`: every public type prints what a person wants in a log line, and no contents.

use std::collections::BTreeMap;
use std::fmt::Debug;

use mapwal::error::*;
use mapwal::inspect::*;
use mapwal::testing::*;
use mapwal::wal::*;
use mapwal::*;

use super::shown::Interface;
use super::source::repository;
use crate::support::scratch::scratch;
use crate::support::{open, read_only, small};

/// Long enough for each field of the statistics.
const LEN_MAX: usize = 700;
/// Contents of records, which nobody wants in a log line.
const SECRET: &[u8] = &[0x51; 40];

/// What types print, by name.
#[derive(Default)]
struct Printed(BTreeMap<&'static str, String>);

impl Printed {
    /// `value`, of the type `name`.
    fn note(&mut self, name: &'static str, value: &dyn Debug) {
        self.0.insert(name, format!("{value:?}"));
    }
}

macro_rules! note {
    ($printed:ident: $($name:ident = $value:expr),* $(,)?) => {
        $($printed.note(stringify!($name), &$value);)*
    };
}

fn note_log(printed: &mut Printed) {
    let dir = scratch();
    let log = open(dir.path(), &small().trim_on_request(true));
    (0..2000).for_each(|_| assert_ne!(log.append(7, SECRET).unwrap(), Lsn(0)));
    log.create_pin("replica", "somebody", Lsn(1), Some(1 << 30)).unwrap();
    log.sync().unwrap();
    let snapshot = log.snapshot().unwrap();
    assert_eq!(snapshot.iter().flatten().count(), 2000);
    let mut follower = log.follow(Lsn(1), Visibility::Published).unwrap();
    note!(printed: Log = log, Pin = log.pin(Lsn(1)).unwrap(), PinDirectory = PinDirectory::open(dir.path()).unwrap());
    note!(printed: PinStatus = log.pins()[0], PinState = log.pins()[0].state, Stats = log.stats());
    let written = log.append_with_writer(7, SECRET.len(), |writer| {
        writer.put_slice(SECRET);
        note!(printed: PayloadWriter = writer);
        Ok(())
    });
    assert_eq!(written.unwrap(), Lsn(2001));
    note!(printed: RecoveryReport = log.recovery(), Lsn = Lsn(u64::MAX), Options = Options::new());
    note!(printed: LogReader = read_only(dir.path()).unwrap(), Snapshot = snapshot, Visibility = Visibility::Durable);
    note!(printed: RequestedTrim = request_trim(dir.path(), Lsn(1)).unwrap());
    note!(printed: Record = snapshot.get(Lsn(9)).unwrap(), RecordRef = log.get(Lsn(9)).unwrap());
    note!(printed: SegmentBytes = snapshot.segment_bytes(&snapshot.get(Lsn(9)).unwrap().unwrap()).unwrap());
    note!(printed: Mark = log.mark().and(Lsn(7)), Durable = log.durable(Lsn(7)));
    let mut iter = snapshot.iter();
    iter.next();
    note!(printed: Iter = iter, Frames = follower.next_batch(1 << 20).unwrap().unwrap(), Follower = follower);
    note!(printed: FollowerStream = follower.into_stream());
    note!(printed: SealedSegment = log.sealed(0).unwrap()[0], SegmentTip = log.sealed(0).unwrap()[0].tip());
    note!(printed: DurablePrefix = log.durable_prefix().unwrap().unwrap());

    let found = Inspection::open(dir.path()).unwrap();
    let first = &found.segments()[0];
    let mut scan = SegmentScan::open(&first.path).unwrap();
    let remains = found.remains().unwrap();
    note!(printed: Remains = remains, LostBeginning = remains.lost_beginning());
    note!(printed: Inspection = found, SegmentFile = first, Activity = found.activity(), SegmentScan = scan);
    while let Some(ScanItem::Frame(frame)) = scan.next().unwrap() {
        note!(printed: ScanItem = ScanItem::Frame(frame), ScannedFrame = frame, FrameRole = frame.role());
    }
    let summary = verify_segment(&std::fs::read(&first.path).unwrap()).unwrap();
    let report = found.verify(VerifyOptions::new().live(true), &mut |_| {}).unwrap();
    let mut check = SegmentCheck::new();
    let segment = std::fs::read(&first.path).unwrap();
    // Up to the middle of a record.
    check.push(&segment[..segment.windows(8).position(|bytes| bytes == &SECRET[..8]).unwrap() + 20]).unwrap();
    note!(printed: RecordDigest = check.digest());
    note!(printed: SegmentSummary = summary, SegmentCheck = check, VerifyReport = report, VerifyOptions = VerifyOptions::new());
    note!(printed: SegmentReport = report.segments[0], SegmentState = report.segments[0].state);
    note!(printed: Extent = Extent::new(u128::MAX, 1..=9, 1 << 32, Lsn(7)));
    drop(log);
    std::fs::remove_file(&first.path).unwrap();
    let found = Inspection::open(dir.path()).unwrap();
    let damaged = found.verify(VerifyOptions::new(), &mut |_| {}).unwrap();
    let damage = &damaged.damage[0];
    note!(printed: Corruption = damage);
    note!(printed: VerifyReport = damaged, Damage = damage.damage);
    note!(printed: Error = Error::from(damage.clone()));
}

fn note_log_that_was_trimmed(printed: &mut Printed) {
    let dir = scratch();
    let log = open(dir.path(), &small());
    (0..5000).for_each(|_| assert_ne!(log.append(7, SECRET).unwrap(), Lsn(0)));
    let reader = read_only(dir.path()).unwrap();
    let view = reader.snapshot().unwrap();
    assert_eq!(view.iter().count(), 5000);
    log.trim_before(log.next_lsn()).unwrap();
    crate::support::wait::until("a file is kept", || {
        let found = Inspection::open(dir.path()).unwrap();
        found.kept_files().first().map(|kept| printed.note("KeptFile", kept)).is_some()
    });
}

fn note_wal(printed: &mut Printed) {
    let dir = scratch();
    let options = WalOptions::new().log(small());
    {
        let wal = crate::support::transactions::open(dir.path());
        let mut open = wal.begin().unwrap();
        (0..1000).for_each(|_| assert_ne!(open.insert(PageId(7), SECRET).unwrap(), Lsn(0)));
        let begun = wal.begin_checkpoint().unwrap();
        let dirty: Vec<_> = (0..100).map(|page| DirtyPage::from(PageId(page))).collect();
        note!(printed: Wal = wal, Transaction = open, Savepoint = open.savepoint(), BegunCheckpoint = begun);
        note!(printed: DirtyPage = dirty[0], ActiveTransaction = ActiveTransaction::new(open.id()));
        begun.log(&[], &dirty).unwrap();
        let mut committed = wal.begin().unwrap();
        committed.insert(PageId(7), SECRET).unwrap();
        wal.append_plain(0x8000, SECRET).unwrap();
        let committed = committed.commit().unwrap();
        note!(printed: Committed = committed, WalOptions = options, RecoverFrom = RecoverFrom::Checkpoint);
        committed.applied();
        drop(open);
    }
    let (wal, recovery) = crate::support::transactions::recover(dir.path(), &options);
    recovery.redone();
    note!(printed: Recovery = recovery, IncompleteTransaction = recovery.incomplete_transactions()[0]);
    note!(printed: Checkpoint = recovery.checkpoint().unwrap().unwrap(), Redo = recovery.redo());
    note!(printed: History = recovery.history(), PlainRecords = recovery.plain_records(), Undo = recovery.undo());
    let record = recovery.redo().next().unwrap().unwrap();
    note!(printed: WalRecord = record, RecordType = record.record_type(), TransactionId = record.transaction());
    note!(printed: PageId = record.page().unwrap());
    let open = wal.resume(recovery.incomplete_transactions()[0].transaction).unwrap();
    open.abort::<WalError>(|undoing| {
        printed.note("Undoing", &undoing);
        let compensated = undoing.compensate(SECRET)?;
        printed.note("Compensated", &compensated);
        Ok(compensated)
    })
    .unwrap();
}

fn note_errors(printed: &mut Printed) {
    note!(printed: SimulatedDisk = SimulatedDisk::new(7), DiskFailure = DiskFailure::Full);
    note!(printed: RequestFault = RequestFault::NotTaken);
    note!(printed: PinFault = PinFault::Lost { lsn: Lsn(1), first: Lsn(2) }, MetaFault = MetaFault::NoSlot { slots: 16 });
    note!(printed: ReplicaFault = ReplicaFault::Gap { next: Lsn(1) }, FormatFault = FormatFault::Features { unknown: 7 });
    note!(printed: NumberSpace = NumberSpace::Records, LayoutMismatch = LayoutMismatch::Size);
    note!(printed: FileKind = FileKind::Symlink, Unsupported = Unsupported::Network);
    let wal = WalError::Transaction { transaction: TransactionId(7), fault: TransactionFault::NotOpen };
    note!(printed: WalError = wal, TransactionFault = TransactionFault::NotOpen, ChainFault = ChainFault::Forward);
    note!(printed: RecordFault = RecordFault::UnknownType { code: 7 });
}

#[test]
fn every_public_type_prints_a_line_without_contents() {
    let mut printed = Printed::default();
    note_log(&mut printed);
    note_log_that_was_trimmed(&mut printed);
    note_wal(&mut printed);
    note_errors(&mut printed);

    let sources = repository();
    let is_type = |name: &&String| name.starts_with(char::is_uppercase);
    // An alias; and two that nothing outside of the crate can make: one of them a part of others.
    let others = ["Result", "Evidence", "SpaceLeft"];
    let names = Interface::of(&sources, "").names;
    let missing: Vec<_> = names
        .iter()
        .filter(is_type)
        .filter(|name| !printed.0.contains_key(name.as_str()) && !others.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not looked at: {missing:?}");
    for (name, line) in &printed.0 {
        assert!(line.len() <= LEN_MAX, "{name} prints {} bytes: {line:.300}", line.len());
        assert!(!line.contains('\n'), "{name} prints several lines: {line}");
        assert!(!line.contains("81, 81"), "{name} prints contents: {line:.300}");
        assert!(!line.contains("Mutex") && !line.contains("0x"), "{name} prints what it is made of: {line:.300}");
    }
}
