//! The promises on each kind of file system: see `docs/design/file-systems.md`.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapwal::internals::{Access, DeviceBuffer, Disk, Storage, StorageFile};
use mapwal::{Error, Lsn, Visibility};
use rustix::fs::IFlags;

use crate::support::child::Child;
use crate::support::file_system::{FileSystem, Kind};
use crate::support::files::{await_ready, segment};
use crate::support::scratch::await_spare;
use crate::support::wait::until;
use crate::support::{append, assert_records, drain_from, read_only, small, try_open};

const PAGE_LEN: usize = 4096;
const FIRST_SEGMENT: &str = "00000000000000000001.seg";

/// What was acknowledged is there after a cut, also of a log that goes on in a segment of before.
fn check_cuts(kind: Kind) {
    let Some(disk) = FileSystem::mount(kind, 32) else { return };
    let log = try_open(&disk.path().join("log"), &small()).unwrap();
    append(&log, 1..=300);
    assert_eq!(log.sync().unwrap(), Lsn(300));
    append(&log, 301..=310);
    assert_eq!(log.sync().unwrap(), Lsn(310));
    let cut = disk.after_a_cut();
    let reopened = try_open(&cut.path().join("log"), &small()).unwrap();
    assert_records(&reopened.snapshot().unwrap(), 1, 310);
    append(&reopened, 311..=400);
    reopened.close().unwrap();
    let cut = cut.after_a_cut();
    assert_records(&read_only(&cut.path().join("log")).unwrap().snapshot().unwrap(), 1, 400);
    let reopened = try_open(&cut.path().join("log"), &small()).unwrap();
    assert_records(&reopened.snapshot().unwrap(), 1, 400);
}

#[test]
fn what_was_acknowledged_on_a_device_is_there_after_a_cut() {
    Kind::ON_DEVICES.into_iter().for_each(check_cuts);
}

#[test]
fn a_log_in_memory_or_on_an_overlay_is_there_when_it_is_opened_again() {
    for kind in [Kind::Tmpfs, Kind::Overlayfs] {
        let Some(disk) = FileSystem::mount(kind, 32) else { continue };
        let directory = disk.path().join("log");
        let log = try_open(&directory, &small()).unwrap();
        append(&log, 1..=300);
        assert_eq!(log.sync().unwrap(), Lsn(300));
        drop(log);
        let log = try_open(&directory, &small()).unwrap();
        assert_records(&log.snapshot().unwrap(), 1, 300);
    }
}

/// Of a process of its own. On the overlay, it has opened the log before: `overlay::` has the rest.
#[test]
fn a_reader_beside_its_writer_sees_what_that_appends() {
    for kind in Kind::ON_DEVICES.into_iter().chain([Kind::Tmpfs, Kind::Overlayfs]) {
        let Some(disk) = FileSystem::mount(kind, 32) else { continue };
        let directory = disk.path().join("log");
        let mut writer = Child::serving(&directory);
        assert_eq!(writer.ask("open"), "1");
        assert_eq!(writer.ask("append 10"), "11");
        let reader = read_only(&directory).unwrap();
        let follow = |visibility| reader.follow(Lsn(1), visibility).unwrap();
        let (mut published, mut durable) = (follow(Visibility::Published), follow(Visibility::Durable));
        assert_eq!((drain_from(&mut published, 1), drain_from(&mut durable, 1)), (11, 1), "{kind:?}");
        // Over some rotations.
        assert_eq!(writer.ask("append 990"), "1001");
        assert_eq!((drain_from(&mut published, 11), drain_from(&mut durable, 1)), (1001, 1), "{kind:?}");
        assert_eq!(writer.ask("sync"), "1000");
        assert_eq!(drain_from(&mut durable, 1), 1001, "{kind:?}");
    }
}

/// A commit of ext4's journal that fails is reported to those who wait for it: here that is not the log.
#[test]
fn a_sync_after_ext4_could_not_write_its_journal_for_somebody_else_fails() {
    let Some(disk) = FileSystem::ext4_with_journal_apart(64) else { return };
    let log = try_open(&disk.path().join("log"), &small()).unwrap();
    append(&log, 1..=10);
    assert_eq!(log.sync().unwrap(), Lsn(10));
    await_spare(&log);
    let mut other = File::create(disk.path().join("other")).unwrap();
    other.sync_all().unwrap();
    // To blocks that have been allocated and never written; what says that they have been is for the journal.
    append(&log, 11..=150);
    write_back(&log.directory().join(FIRST_SEGMENT));
    disk.fail_journal();
    other.write_all(b"anything").unwrap();
    other.sync_all().unwrap_err();
    assert!(matches!(log.sync(), Err(Error::Poisoned { durable: Lsn(10), .. })));
}

/// Has the kernel write a file that is mapped, and waits until that is done, but not for any journal.
fn write_back(path: &Path) {
    let file = File::open(path).unwrap();
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: no memory is touched.
    assert_eq!(unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) }, 0);
}

/// Bytes of one page, the same in all pages of a file.
fn page(fill: u8) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(fill.into());
    std::iter::repeat_with(|| random.u8(..)).take(PAGE_LEN).collect()
}

/// Whether a read of the device shows other bytes than the page cache when the device has other bytes, or fails since they
/// do not have their checksum.
fn sees_device(disk: &FileSystem, file: &dyn StorageFile, storage: &Disk) -> bool {
    const PAGES: usize = 256;
    let len = (PAGES * PAGE_LEN) as u64;
    file.allocate(len).unwrap();
    file.write_at(&page(1).repeat(PAGES), 0).unwrap();
    file.sync().unwrap();
    let mapping = file.map(len, Access::Read).unwrap();
    storage.load(&mapping, 0..len as usize).unwrap();
    assert!(disk.replace_on_device(&page(1), &page(2)) >= PAGES, "{:?}", disk.kind());
    let mut buffer = DeviceBuffer::new(len as usize);
    match file.read_device_at(&mut buffer, 0) {
        Ok(read) => {
            assert_eq!(read as u64, len);
            buffer.bytes() == page(2).repeat(PAGES)
        }
        Err(_) => true,
    }
}

#[test]
fn a_read_of_the_device_shows_what_the_device_holds() {
    for kind in Kind::ON_DEVICES {
        let Some(disk) = FileSystem::mount(kind, 64) else { continue };
        let storage = Disk::open(&disk.path()).unwrap();
        let own = storage.create("own").unwrap();
        assert!(sees_device(&disk, &*own, &storage), "{kind:?}: the page cache was read");
    }
}

/// How many of some reads of the device show what the page cache has, while the last page of the file is written again and
/// again.
fn reads_of_the_cache(disk: &FileSystem, name: &str, storage: &Disk) -> usize {
    const PAGES: usize = 256;
    const READS: usize = 200;
    let len = (PAGES * PAGE_LEN) as u64;
    let file = storage.create(name).unwrap();
    file.allocate(len).unwrap();
    file.write_at(&page(1).repeat(PAGES), 0).unwrap();
    file.sync().unwrap();
    assert!(disk.replace_on_device(&page(1), &page(2)) >= PAGES, "{:?}", disk.kind());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                file.write_at(&page(3), len - PAGE_LEN as u64).unwrap();
                file.sync().unwrap();
            }
        });
        let reader = storage.open(name, Access::Read).unwrap();
        let mut buffer = DeviceBuffer::new(len as usize);
        let shown = (0..READS).filter(|_| {
            assert_eq!(reader.read_device_at(&mut buffer, 0).unwrap() as u64, len);
            buffer.bytes()[..PAGE_LEN] != page(2)
        });
        let shown = shown.count();
        is_over.store(true, Ordering::Relaxed);
        shown
    })
}

/// Where that is relied on. btrfs, which is not, shows the page cache as long as anything of the file is being written.
#[test]
fn a_read_of_the_device_shows_it_also_while_the_file_is_written() {
    for kind in Kind::ON_DEVICES {
        let Some(disk) = FileSystem::mount(kind, 64) else { continue };
        let storage = Disk::open(&disk.path()).unwrap();
        let cached = reads_of_the_cache(&disk, "own", &storage);
        let is_relied_on = storage.open("own", Access::Read).unwrap().reads_device();
        assert!(cached == 0 || !is_relied_on, "{kind:?}: {cached} reads showed the page cache");
        assert_eq!(is_relied_on, !kind.is_btrfs(), "{kind:?}");
    }
}

#[test]
fn where_a_read_of_the_device_may_come_from_the_page_cache_files_say_so() {
    for kind in [Kind::Btrfs, Kind::BtrfsNocow, Kind::BtrfsCompressed, Kind::Overlayfs] {
        let Some(disk) = FileSystem::mount(kind, 64) else { continue };
        let storage = Disk::open(&disk.path()).unwrap();
        // As the log makes its files, and as a copy of them is made.
        let own = storage.create("own").unwrap();
        own.allocate(PAGE_LEN as u64).unwrap();
        assert!(!own.reads_device(), "{kind:?}");
        fs::write(disk.path().join("copy"), "").unwrap();
        assert!(!storage.open("copy", Access::Read).unwrap().reads_device(), "{kind:?}");
    }
}

/// Without a journal a removed name may come back after a power cut: with what it had, and not with what was written since to the
/// same blocks.
#[test]
fn what_was_removed_does_not_come_back_with_the_bytes_of_another_file() {
    for kind in [Kind::Ext4, Kind::Ext4WithoutJournal] {
        let Some(disk) = FileSystem::mount(kind, 16) else { continue };
        let storage = Disk::open(&disk.path()).unwrap();
        // More than half of what is free, so that the second gets blocks of the first.
        let len = storage.space_left().unwrap().bytes / 4 * 3 / PAGE_LEN as u64 * PAGE_LEN as u64;
        let first = storage.create("first").unwrap();
        first.allocate(len).unwrap();
        first.write_at(&page(1).repeat((len / PAGE_LEN as u64) as usize), 0).unwrap();
        first.sync().unwrap();
        storage.sync_directory().unwrap();
        drop(first);
        storage.remove("first").unwrap();
        let second = storage.create("second").unwrap();
        // A child that another test has just forked has the first one open for a moment.
        until("room", || second.allocate(len).is_ok());
        second.write_at(&page(2).repeat((len / PAGE_LEN as u64) as usize), 0).unwrap();
        write_back(&disk.path().join("second"));
        let cut = disk.after_a_cut();
        let first = fs::read(cut.path().join("first")).unwrap_or_default();
        assert!(first.chunks(PAGE_LEN).all(|found| *found == page(1)), "{kind:?}: bytes of another file");
    }
}

/// A log whose records 101 to 150 were never acknowledged, and look written: a page of them has not reached the device.
fn log_that_lost_a_page(disk: &FileSystem) {
    let log = try_open(&disk.path().join("log"), &small()).unwrap();
    append(&log, 1..=100);
    assert_eq!(log.sync().unwrap(), Lsn(100));
    append(&log, 101..=150);
    let segment = log.directory().join(FIRST_SEGMENT);
    drop(log);
    File::open(&segment).unwrap().sync_all().unwrap();
    let mut lost = vec![0; PAGE_LEN];
    File::open(&segment).unwrap().read_exact_at(&mut lost, 6 * PAGE_LEN as u64).unwrap();
    let replaced = disk.replace_on_device(&lost, &vec![0; PAGE_LEN]);
    assert!(replaced == 1 || disk.kind() == Kind::BtrfsCompressed, "{replaced} places");
}

#[test]
fn what_an_open_shows_after_pages_were_lost_is_on_the_device() {
    for kind in Kind::ON_DEVICES {
        let Some(disk) = FileSystem::mount(kind, 32) else { continue };
        log_that_lost_a_page(&disk);
        let log = match try_open(&disk.path().join("log"), &small()) {
            Ok(log) => log,
            // btrfs finds that the bytes do not have their checksum.
            Err(Error::Io { .. }) if kind == Kind::Btrfs => continue,
            Err(error) => panic!("{kind:?}: {error}"),
        };
        let last = log.durable_lsn().0;
        assert!((100..=150).contains(&last), "{kind:?}: {last}");
        assert_records(&log.snapshot().unwrap(), 1, last);
        let cut = disk.after_a_cut();
        let log = try_open(&cut.path().join("log"), &small()).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_records(&log.snapshot().unwrap(), 1, last);
    }
}

/// Has the file system of a process's log shut down by `shut_down`; the process must be told of it by errors, and live on.
fn check_shut_down(disk: &FileSystem, shut_down: impl FnOnce()) {
    let mut child = Child::serving(&disk.path().join("log"));
    for request in ["open", "append 300", "sync"] {
        let answer = child.ask(request);
        assert!(matches!(&*answer, "1" | "301" | "300"), "{request}: {answer}");
    }
    // Whatever has been stored to is written, so that the next store to it asks the file system.
    rustix::fs::syncfs(File::open(disk.path()).unwrap()).unwrap();
    assert_eq!(child.ask("append 10"), "311");
    shut_down();
    let kind = disk.kind();
    let answer = child.ask("truncate 200");
    assert!(answer.parse::<u64>().is_err(), "{kind:?}: {answer}");
    let answer = child.ask("sync");
    assert!(answer.contains("poisoned"), "{kind:?}: {answer}");
    let answer = child.ask("truncate 200");
    assert!(answer.parse::<u64>().is_err(), "{kind:?}: {answer}");
    assert_eq!(child.ask("drop"), "none", "{kind:?}");
}

#[test]
fn a_file_system_that_shuts_itself_down_fails_syncs_and_truncations_and_kills_nobody() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let Some(disk) = FileSystem::mount(kind, 64) else { continue };
        check_shut_down(&disk, || disk.shut_down());
    }
    for kind in Kind::ON_DEVICES {
        let Some(disk) = FileSystem::mount(kind, 64) else { continue };
        check_shut_down(&disk, || {
            disk.fail_writes();
            // Until the file system has noticed.
            let _ = File::create(disk.path().join("other")).and_then(|mut other| {
                other.write_all(b"anything")?;
                other.sync_all()
            });
        });
    }
}

/// What a process does with its log before and after the file system shuts itself down.
const LAST_REQUESTS: [(&str, &str); 3] = [("sync", "rotate"), ("append 2", "rotate"), ("sync", "close")];

/// Has the file system of a process's log, all of whose pages were clean, shut down by `shut_down`, and the process do
/// what it is asked for before and after: it must be told by an error.
fn check_last_requests(disk: &FileSystem, (before, after): (&str, &str), shut_down: impl FnOnce()) {
    let mut child = Child::serving(&disk.path().join("log"));
    assert_eq!(child.ask("open"), "1");
    assert_eq!(child.ask("append 300"), "301");
    // Then nobody asks for its pages once more.
    await_ready(&segment(&disk.path().join("log"), 1));
    assert_eq!(child.ask("append 2"), "303");
    assert_eq!(child.ask("sync"), "302");
    rustix::fs::syncfs(File::open(disk.path()).unwrap()).unwrap();
    child.ask(before);
    shut_down();
    let kind = disk.kind();
    let is_refused = |answer: &str| answer.contains("poisoned") || answer.contains("cannot");
    if after == "rotate" {
        let answer = child.ask("rotate");
        // ext4 and btrfs take some stores, and refuse to write them.
        assert!(is_refused(&answer) || answer.starts_with("30"), "{kind:?}: {answer}");
    }
    let answer = child.ask("close");
    assert!(is_refused(&answer), "{kind:?}, {before}, {after}: {answer}");
    assert_eq!(child.ask("drop"), "none", "{kind:?}");
}

#[test]
fn a_rotation_and_a_close_after_the_file_system_shut_itself_down_kill_nobody() {
    for requests in LAST_REQUESTS {
        for kind in [Kind::Ext4, Kind::Xfs] {
            let Some(disk) = FileSystem::mount(kind, 64) else { continue };
            check_last_requests(&disk, requests, || disk.shut_down());
        }
        for kind in Kind::ON_DEVICES {
            let Some(disk) = FileSystem::mount(kind, 64) else { continue };
            check_last_requests(&disk, requests, || {
                disk.fail_writes();
                // Until the file system has noticed.
                let _ = File::create(disk.path().join("other")).and_then(|mut other| {
                    other.write_all(b"anything")?;
                    other.sync_all()
                });
            });
        }
    }
}

/// What is done once the system has registered the process comes some milliseconds after the open.
#[test]
fn a_control_page_that_cannot_be_written_any_more_right_after_the_open_kills_nobody() {
    for _ in 0..5 {
        let Some(disk) = FileSystem::mount(Kind::Ext4, 16) else { return };
        let directory = disk.path().join("log");
        let mut child = Child::serving(&directory);
        assert_eq!(child.ask("open"), "1");
        let control = File::open(directory.join("control")).unwrap();
        let flags = rustix::fs::ioctl_getflags(&control).unwrap();
        rustix::fs::ioctl_setflags(&control, flags | IFlags::IMMUTABLE).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(child.ask("append 10"), "11");
        child.kill();
        let error = try_open(&directory, &small()).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("control")), "{error}");
        assert_records(&read_only(&directory).unwrap().snapshot().unwrap(), 1, 10);
        fs::metadata(directory.join(FIRST_SEGMENT)).unwrap();
    }
}
