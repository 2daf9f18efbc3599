//! Records of any type and contents are recovered as transactions: nothing panics, and undo and redo come to an end.

#![no_main]

#[allow(dead_code, reason = "shared by the targets, which use different parts of it")]
mod support;

use libfuzzer_sys::fuzz_target;
use mapwal::{RecoverFrom, Wal, WalOptions};

fuzz_target!(|data: &[u8]| {
    let dir = support::scratch();
    let log = support::open(dir.path()).expect("a new log opens");
    let mut rest = data;
    while let Some((&[kind, len], behind)) = rest.split_first_chunk() {
        let (payload, behind) = behind.split_at(usize::from(len).min(behind.len()));
        if kind & 0x80 == 0 {
            log.append(u16::from(kind & 0x0f), payload).expect("there is room");
        } else {
            log.put_meta(usize::from(kind & 0x0f), &payload[..payload.len().min(16)]).expect("there is room");
        }
        rest = behind;
    }
    log.close().expect("nothing fails");
    for from in [RecoverFrom::Checkpoint, RecoverFrom::OldestRecord] {
        let options = WalOptions::new().log(support::options()).recover_from(from);
        // SAFETY: the directory is this process's, which has no other log open in it.
        let Ok((wal, recovery)) = (unsafe { Wal::open_and_recover(dir.path(), &options) }) else { continue };
        let records = recovery.max_lsn().0;
        assert!(recovery.redo().count() as u64 <= records + 1);
        assert!(recovery.history().count() as u64 <= records + 1);
        assert!(recovery.undo().count() as u64 <= records + 1);
        drop(recovery.checkpoint());
        drop(recovery);
        wal.flush().expect("nothing fails");
    }
});
