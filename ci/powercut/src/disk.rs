//! The disk: one file in a FUSE file system, in a process of its own, that records each write and flush and fails as planned.
//!
//! The kernel's loop driver turns a flush of the block device into an `fsync` of the file. One thread answers, so that the
//! recording has one order. The process also takes down everything that was set up over it, as soon as its standard input
//! comes to an end: then nobody else is left to do so.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};

use parking_lot::Mutex;

use crate::fault;
use crate::filesystem::{MARK_BYTES, MARK_PLACE};
use crate::places::Places;
use crate::recording::{Recording, Word};
use crate::teardown;

const ATTRIBUTES_LIVE: Duration = Duration::from_hours(1);
const FILE: INodeNo = INodeNo(2);
const WRITE_BYTES_MAX: u32 = 1 << 20;
const DELAY_MICROS_MAX: u64 = 400;
/// How long a disk goes on to fail. A file system may try the same write for ever, and keep a process that waits for it
/// from dying.
const FAILING_MAX: Duration = Duration::from_secs(20);

/// What is said once the disk is there.
pub const READY: &str = "ready";

struct Disk {
    content: File,
    len: u64,
    recording: Recording,
    /// Since when the recording has had a failure.
    failing: Mutex<Option<Instant>>,
}

/// Serves the disk until standard input ends, then takes everything down.
pub fn serve(places: &Places) -> Result<()> {
    let content =
        OpenOptions::new().read(true).write(true).open(places.content()).context("cannot open the content")?;
    let len = content.metadata()?.len();
    let disk = Disk { content, len, recording: Recording::open(&places.memory)?, failing: Mutex::default() };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("powercut".to_owned())];
    let session = fuser::spawn_mount(disk, places.fuse(), &config).context("cannot mount the disk")?;
    println!("{READY}");
    // The end of the input, or an error: either way nobody is there any more.
    let _ = std::io::stdin().read(&mut [0]);
    fault::end(&Recording::open(&places.memory)?);
    teardown::lane(places);
    session.umount_and_join().context("cannot unmount the disk")?;
    teardown::remove(places);
    Ok(())
}

impl Disk {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_file = inode == FILE;
        FileAttr {
            ino: inode,
            size: if is_file { self.len } else { 0 },
            blocks: self.len.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn delay(&self) {
        let one_in = self.recording.get(Word::DelayOneIn);
        if one_in > 0 && fastrand::u64(0..one_in) == 0 {
            std::thread::sleep(Duration::from_micros(fastrand::u64(0..DELAY_MICROS_MAX)));
        }
    }

    /// Whether data has the mark of what must not fail.
    fn is_marked(&self, data: &[u8]) -> Result<bool> {
        let (mark, place) = (self.recording.get(Word::Mark), MARK_PLACE as usize);
        if mark == 0 || data.len() < place + MARK_BYTES {
            return Ok(false);
        }
        let mut bytes = [0; MARK_BYTES];
        self.content.read_exact_at(&mut bytes, mark)?;
        Ok(data[place..place + MARK_BYTES] == bytes)
    }

    /// Ends the faults once they have lasted long enough.
    fn watch_failures(&self) {
        let mut failing = self.failing.lock();
        if self.recording.get(Word::FirstFailed) == 0 {
            *failing = None;
        } else if failing.get_or_insert_with(Instant::now).elapsed() > FAILING_MAX {
            fault::end(&self.recording);
        }
    }

    /// Writes, unless the write is to fail. Whether it did not.
    fn try_write(&self, offset: u64, data: &[u8]) -> Result<bool> {
        self.watch_failures();
        let fails = !self.is_marked(data)? && fault::write_fails(&self.recording, offset, data.len() as u64);
        if !fails {
            self.content.write_all_at(data, offset)?;
        }
        self.recording.add(Some((offset, data)), fails)?;
        Ok(!fails)
    }

    fn try_flush(&self) -> Result<bool> {
        self.watch_failures();
        let fails = fault::flush_fails(&self.recording);
        self.recording.add(None, fails)?;
        Ok(!fails)
    }
}

/// The answer to an operation that was not made to fail and failed: the judge sees nothing of it, so it must be seen here.
fn broken(error: &anyhow::Error) -> Errno {
    eprintln!("the disk itself fails: {error:#}");
    Errno::EIO
}

impl Filesystem for Disk {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == Places::DISK {
            reply.entry(&ATTRIBUTES_LIVE, &self.attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&ATTRIBUTES_LIVE, &self.attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Without a page cache of its own: each read and write of the block device comes here.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; u64::from(size).min(self.len.saturating_sub(offset)) as usize];
        match self.content.read_exact_at(&mut bytes, offset) {
            Ok(()) => reply.data(&bytes),
            Err(error) => reply.error(broken(&error.into())),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.delay();
        match self.try_write(offset, data) {
            Ok(true) => reply.written(data.len() as u32),
            Ok(false) => reply.error(Errno::EIO),
            Err(error) => reply.error(broken(&error)),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.delay();
        match self.try_flush() {
            Ok(true) => reply.ok(),
            Ok(false) => reply.error(Errno::EIO),
            Err(error) => reply.error(broken(&error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A close of the file, which makes nothing durable.
        reply.ok();
    }
}
