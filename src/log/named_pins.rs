//! Pins with a name, that survive a restart.

use super::Log;
use crate::error::Result;
use crate::format::pin::NamedPin;
use crate::lsn::Lsn;
use crate::segment::pins::files;
use crate::segment::pins::{NamedPins, PinStatus, check_name};

impl Log {
    /// Makes a pin `name` that keeps record `lsn` and all after it from being trimmed, until it is moved or dropped,
    /// also after a restart. It may hold back `limit_bytes` of disk space, counted in whole segments; beyond that trim
    /// ignores it, and the pin is lost. `owner` is shown in lists of pins: 64 bytes are kept. Durable on return.
    ///
    /// # Errors
    /// [`Error::Pin`](crate::Error::Pin) for a name that is invalid or taken; [`Error::Trimmed`](crate::Error::Trimmed) or [`Error::NotAppended`](crate::Error::NotAppended) when `lsn` is not in
    /// the log nor next; [`Error::NoSpace`](crate::Error::NoSpace), [`Error::Io`](crate::Error::Io), [`Error::InsideAppend`](crate::Error::InsideAppend).
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// use mapwal::Lsn;
    ///
    /// log.append(1, b"for the replica")?;
    /// log.create_pin("replica-1", "the machine in the cellar", Lsn(1), Some(10 << 30))?;
    /// log.advance_pin("replica-1", Lsn(2))?; // it has record 1, durably
    /// assert_eq!(log.pins()[0].lsn, Lsn(2));
    /// log.rewind_pin("replica-1", Lsn(1))?; // it has lost that, and the log still has it
    /// log.assign_pin("replica-1", "the machine in the attic")?;
    /// log.limit_pin("replica-1", Some(20 << 30))?;
    /// log.drop_pin("replica-1")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_pin(&self, name: &str, owner: &str, lsn: Lsn, limit_bytes: Option<u64>) -> Result<()> {
        let _entered = self.shared.enter()?;
        check_name(name)?;
        let lock = self.shared.pins.lock_files()?;
        let mut pins = self.shared.pins.lock();
        self.check_pinnable(lsn)?;
        pins.named.create(&lock, name, NamedPin { owner: owner.to_owned(), lsn, limit_bytes, lost: false })
    }

    /// As [`Self::create_pin`], in the place of the pin of that name if there is one, also of one that is lost or damaged: what that said is gone. Durable on
    /// return, and in one step: at any moment, and after any crash, there is the one or the other. So an owner whose pin is lost begins anew without a moment in
    /// which there is none.
    ///
    /// # Errors
    /// As [`Self::create_pin`], but for a name that is taken. The pin is as it was then, or the new one if it was damaged.
    ///
    /// # Example
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # // SAFETY: the directory is new, and only this log writes to its files.
    /// # let log = unsafe { mapwal::Log::open(dir.path(), &mapwal::Options::new().segment_size_bytes(64 << 10)) }?;
    /// # for _ in 0..3 { log.append(1, &[0; 10_000])?; log.rotate()?; }
    /// use mapwal::{Lsn, PinState};
    ///
    /// log.create_pin("replica-1", "a machine that was away for long", Lsn(1), Some(64 << 10))?;
    /// log.trim_before(Lsn(3))?;
    /// assert_eq!(log.pins()[0].state, PinState::Lost);
    /// log.replace_pin("replica-1", "the same, with a backup", Lsn(3), Some(64 << 20))?;
    /// assert_eq!(log.pins()[0].state, PinState::Reserved);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replace_pin(&self, name: &str, owner: &str, lsn: Lsn, limit_bytes: Option<u64>) -> Result<()> {
        let _entered = self.shared.enter()?;
        check_name(name)?;
        let lock = self.shared.pins.lock_files()?;
        let mut pins = self.shared.pins.lock();
        self.check_pinnable(lsn)?;
        pins.named.replace(&lock, name, NamedPin { owner: owner.to_owned(), lsn, limit_bytes, lost: false })
    }

    /// Moves pin `name` forward to record `lsn`, which may be the next one to come: records before it may be trimmed. A
    /// number below its own is ignored. Durable on return. Waits up to a second for other processes that change pins. Needs no room on the disk, as long as
    /// what the pin was before is beside it, and but for a file system that copies what it changes, such as btrfs.
    ///
    /// # Errors
    /// [`Error::Pin`](crate::Error::Pin) when there is none of this name, when it is damaged, or when records that it kept are gone;
    /// [`Error::NotAppended`](crate::Error::NotAppended), [`Error::InsideAppend`](crate::Error::InsideAppend);
    /// [`Error::NoSpace`](crate::Error::NoSpace), [`Error::Io`](crate::Error::Io), with the pin as it was.
    pub fn advance_pin(&self, name: &str, lsn: Lsn) -> Result<()> {
        let _entered = self.shared.enter()?;
        let lock = self.shared.pins.lock_files()?;
        let mut pins = self.shared.pins.lock();
        pins.named.advance(&lock, name, lsn, self.first_lsn(), || self.check_pinnable(lsn))
    }

    /// Moves pin `name` back to record `lsn`, whose owner has lost what it had; or to the oldest record after it that is in the log, and from which on the
    /// pin holds back no more than half of its limit: the log grows, and beyond its limit it keeps nothing. A number above its own is ignored. Durable on return.
    ///
    /// # Errors
    /// As [`Self::advance_pin`].
    pub fn rewind_pin(&self, name: &str, lsn: Lsn) -> Result<()> {
        let _entered = self.shared.enter()?;
        let lock = self.shared.pins.lock_files()?;
        let mut pins = self.shared.pins.lock();
        pins.named.rewind(&lock, name, lsn, &self.shared.segments.load())
    }

    /// States that pin `name` is `owner`'s from here on: 64 bytes are kept. Durable on return.
    ///
    /// # Errors
    /// [`Error::Pin`](crate::Error::Pin) when there is none of this name, or when it is damaged;
    /// [`Error::NoSpace`](crate::Error::NoSpace), [`Error::Io`](crate::Error::Io), [`Error::InsideAppend`](crate::Error::InsideAppend).
    pub fn assign_pin(&self, name: &str, owner: &str) -> Result<()> {
        let _entered = self.shared.enter()?;
        let lock = self.shared.pins.lock_files()?;
        self.shared.pins.lock().named.assign(&lock, name, owner)
    }

    /// Lets pin `name` hold back `limit_bytes` of disk space from here on, or any amount. Beyond a limit that is lower than what it holds back, the next trim
    /// ignores it. Durable on return.
    ///
    /// # Errors
    /// As [`Self::assign_pin`]; [`Error::Pin`](crate::Error::Pin) also when records that it kept are gone.
    pub fn limit_pin(&self, name: &str, limit_bytes: Option<u64>) -> Result<()> {
        let _entered = self.shared.enter()?;
        let lock = self.shared.pins.lock_files()?;
        self.shared.pins.lock().named.limit(&lock, name, limit_bytes, self.first_lsn())
    }

    /// Removes pin `name`, also a damaged one. Durable on return.
    ///
    /// # Errors
    /// [`Error::Pin`](crate::Error::Pin) when there is none of this name; [`Error::Io`](crate::Error::Io), [`Error::InsideAppend`](crate::Error::InsideAppend).
    pub fn drop_pin(&self, name: &str) -> Result<()> {
        let _entered = self.shared.enter()?;
        let lock = self.shared.pins.lock_files()?;
        self.shared.pins.lock().named.remove(&lock, name)
    }

    /// The named pins, by name: also those that another process has made by [`PinDirectory`](super::PinDirectory).
    #[must_use]
    pub fn pins(&self) -> Vec<PinStatus> {
        // A thread that is not there may hold a lock.
        if self.shared.check_process().is_err() {
            return Vec::new();
        }
        let segments = self.shared.segments.load();
        match files::entries(&*self.shared.storage) {
            Ok(entries) => NamedPins::of(entries).statuses(&segments),
            // Those that were there when they were read last.
            Err(_) => self.shared.pins.lock().named.statuses(&segments),
        }
    }
}
