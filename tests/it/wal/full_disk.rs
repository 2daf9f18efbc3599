//! A wal that has filled its disk: its engine rolls back, takes a checkpoint, trims and goes on, also after a crash.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use mapwal::Error;
use mapwal::wal::{PageId, Recovery, Result, Transaction, TransactionId, Wal, WalError};

use crate::support::mounted::Mounted;
use crate::support::transactions::{PAGE, incomplete, recover, small};

const DATA: [u8; 4000] = [0xab; 4000];

/// A disk that a wal fills, and nothing else is left of.
struct Full {
    disk: Mounted,
    /// Open, and as long as the log but for its first segments.
    in_progress: TransactionId,
}

impl Full {
    fn path(&self) -> PathBuf {
        self.disk.path().join("log")
    }

    fn recover(&self) -> (Wal, Recovery) {
        recover(&self.path(), &small())
    }
}

fn no_room<T: std::fmt::Debug>(result: Result<T>) {
    assert!(matches!(result, Err(WalError::Log(Error::NoSpace { .. }))), "{result:?}");
}

fn commit_one(wal: &Wal) -> Result<()> {
    let mut transaction = wal.begin()?;
    transaction.insert(PageId(1), &DATA)?;
    transaction.commit()?.applied();
    Ok(())
}

/// Logs until the disk is full, by one transaction that stays open and by others that commit.
fn fill(disk: Mounted) -> (Full, Wal) {
    let (wal, _) = recover(&disk.path().join("log"), &small());
    wal.log_checkpoint(&[], &[]).unwrap();
    (0..100).for_each(|_| commit_one(&wal).unwrap());
    let mut long = wal.begin().unwrap();
    let refused = loop {
        let logged = long.update(PAGE, &DATA).and_then(|_| commit_one(&wal));
        if let Err(error) = logged {
            break error;
        }
    };
    assert!(matches!(refused, WalError::Log(Error::NoSpace { .. })), "{refused}");
    let in_progress = long.id();
    drop(long);
    let full = Full { disk, in_progress };
    leave_no_room(full.disk.path());
    (full, wal)
}

/// Takes what other programs may take.
fn leave_no_room(disk: &Path) {
    let mut ballast = File::options().create(true).append(true).open(disk.join("ballast")).unwrap();
    while ballast.write_all(&[1; 512]).is_ok() {}
}

fn small_disk() -> Option<Mounted> {
    Mounted::of_size(3 << 20)
}

/// An undo ends here.
struct Stopped;

impl From<WalError> for Stopped {
    fn from(error: WalError) -> Self {
        panic!("{error}")
    }
}

/// Undoes some of what `transaction` has logged: `count` records.
fn undo_some(wal: &Wal, transaction: TransactionId, count: usize) {
    let mut left = count;
    let stopped = wal.resume(transaction).unwrap().abort(|undoing| {
        left = left.checked_sub(1).ok_or(Stopped)?;
        undoing.compensate("undone").map_err(Stopped::from)
    });
    assert!(stopped.is_err(), "there is more to be undone");
}

fn roll_back(transaction: Transaction<'_>) {
    transaction.abort(|undoing| undoing.compensate("undone")).unwrap();
}

/// What an engine does that is told that there is no room.
fn make_room(wal: &Wal, open: &[TransactionId]) {
    open.iter().for_each(|&open| roll_back(wal.resume(open).unwrap()));
    wal.log_checkpoint(&[], &[]).unwrap();
    assert!(wal.truncate_before_checkpoint().unwrap() > 5);
    (0..50).for_each(|_| commit_one(wal).unwrap());
}

#[test]
fn an_engine_that_has_filled_its_disk_rolls_back_takes_a_checkpoint_and_goes_on() {
    let Some(disk) = small_disk() else { return };
    let (full, wal) = fill(disk);
    for _ in 0..3 {
        no_room(wal.begin());
        no_room(wal.append_plain(0x8000, b"refused"));
        no_room(wal.log_insert(full.in_progress, None, PAGE, b"refused"));
    }
    let open: Vec<_> = wal_open(&wal, &full);
    make_room(&wal, &open);
    drop(wal);
    let (_wal, recovery) = full.recover();
    assert_eq!(incomplete(&recovery), []);
    assert_eq!(recovery.redo().count(), 50);
}

/// Those that are open: the long one, and the other that was refused its record if it had begun.
fn wal_open(wal: &Wal, full: &Full) -> Vec<TransactionId> {
    let next = full.in_progress.0..full.in_progress.0 + 2000;
    next.map(TransactionId).filter(|&id| wal.resume(id).is_ok()).collect()
}

#[test]
fn a_checkpoint_fits_also_if_the_application_has_used_up_the_segment_below() {
    let Some(disk) = small_disk() else { return };
    let (full, wal) = fill(disk);
    for open in wal_open(&wal, &full) {
        wal.log_commit(open, None).unwrap().applied();
    }
    while wal.log().append(0x8000, &[]).is_ok() {}
    assert_eq!(wal.log().stats().spare_segments, 1, "one is held back");
    make_room(&wal, &[]);
}

#[test]
fn what_is_open_on_a_full_disk_may_commit() {
    let Some(disk) = small_disk() else { return };
    let (full, wal) = fill(disk);
    for open in wal_open(&wal, &full) {
        wal.log_commit(open, None).unwrap().applied();
    }
    make_room(&wal, &[]);
}

#[test]
fn a_wal_that_crashed_on_a_full_disk_is_rolled_back_there_and_goes_on() {
    // Wherever it crashes once.
    for (before, after) in [(0, 0), (10, 0), (0, 10), (10, 30)] {
        let Some(disk) = small_disk() else { return };
        let (full, wal) = fill(disk);
        undo_some(&wal, full.in_progress, before);
        wal.flush().unwrap();
        drop(wal);
        leave_no_room(full.disk.path());
        let (wal, recovery) = full.recover();
        recovery.redone();
        undo_some(&wal, full.in_progress, after);
        let open = incomplete(&recovery);
        // Its records keep their room as long as it is there.
        drop(recovery);
        make_room(&wal, &open);
    }
}
