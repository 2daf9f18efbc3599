//! Transactions over a log, and recovery: what was committed is redone, what was not leaves no trace.

use std::collections::BTreeMap;
use std::error::Error;

use mapwal::wal::{PageId, Wal, WalOptions};

/// What an engine keeps in memory and loses in a crash: here one page of balances.
type Page = BTreeMap<u8, u8>;
const PAGE: PageId = PageId(1);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let options = WalOptions::new();
    // SAFETY: the directory is new and on a local file system, and only this log writes to its files.
    let wal = unsafe { Wal::open(directory.path(), &options)? };

    let mut page = Page::from([(b'A', 0), (b'B', 0)]);
    commit(&wal, &mut page, &[(b'A', 70), (b'B', 30)])?;
    commit(&wal, &mut page, &[(b'A', 50), (b'B', 50)])?;
    // This one reaches the log, and is never committed.
    let mut open = wal.begin()?;
    open.update(PAGE, &[b'A', 255])?;
    wal.flush()?;
    drop(open);
    drop(wal); // As a crash would leave it: not closed, and the page is gone.

    // SAFETY: as above.
    let (wal, recovery) = unsafe { Wal::open_and_recover(directory.path(), &options)? };
    let mut recovered = Page::from([(b'A', 0), (b'B', 0)]);
    for record in recovery.redo() {
        let &[name, balance] = record?.data() else { return Err("not a record of this engine".into()) };
        println!("redo: {} has {balance}", name as char);
        recovered.insert(name, balance);
    }
    recovery.redone();
    assert_eq!(recovered, page);

    // Nothing of an open transaction is in a page, since this engine changes it after the commit: so nothing is to be undone.
    for open in wal.open_transactions() {
        println!("transaction {} was not committed", open.transaction());
        wal.resume(open.transaction())?.discard()?;
    }
    wal.close()?;
    Ok(())
}

/// Changes balances: in the log, durably, and then in the page.
fn commit(wal: &Wal, page: &mut Page, changes: &[(u8, u8)]) -> mapwal::wal::Result<()> {
    let mut transaction = wal.begin()?;
    for &(name, balance) in changes {
        transaction.update(PAGE, &[name, balance])?;
    }
    let committed = transaction.commit()?;
    page.extend(changes.iter().copied());
    committed.applied();
    Ok(())
}
