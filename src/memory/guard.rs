//! A guard against `SIGBUS`: what becomes of a page of a mapped file that the system cannot provide.
//!
//! A load or store has no way to fail but a signal. With the guard in place, its handler puts a page of memory where the
//! file's was, with the bytes that it held if these can still be read, and with zeros otherwise, and notes that the mapping
//! has **failed**. From then on nothing that is stored there counts: the log is poisoned as soon as one of its calls looks,
//! and no sync acknowledges a segment whose mapping has failed. What is read there is checked once more.
//!
//! The handler runs on the thread that has touched the page, in the middle of anything. It takes no lock, allocates
//! nothing, and finds the mapping in a table that is read by loads alone.

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;

use super::page_size;

const CHUNK_LEN: usize = 256;

/// Which addresses are those of mapped files.
static TABLE: Chunk = Chunk::new();
/// Those of its slots that are not in use.
static FREE: Mutex<Free> = Mutex::new(Free { slots: Vec::new(), last: None });
/// How many pages have been replaced.
static REPLACED: AtomicU32 = AtomicU32::new(0);
/// The action that was there before the guard's. Set before the guard's is.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
static PAGE_LEN: AtomicUsize = AtomicUsize::new(0);

/// Slots, of which there are more where these are not enough. Chunks are never taken back.
struct Chunk {
    slots: [Slot; CHUNK_LEN],
    /// Release, once it is filled.
    next: AtomicPtr<Chunk>,
}

struct Free {
    slots: Vec<&'static Slot>,
    /// The chunk that was added last; `None` if there is not even the first.
    last: Option<&'static Chunk>,
}

/// A mapping's place in the table.
#[derive(Debug)]
pub(super) struct Slot {
    /// Odd while the range is being changed.
    version: AtomicU64,
    start: AtomicUsize,
    len: AtomicUsize,
    has_failed: AtomicBool,
}

impl Chunk {
    const fn new() -> Self {
        Self { slots: [const { Slot::new() }; CHUNK_LEN], next: AtomicPtr::new(ptr::null_mut()) }
    }

    fn next(&self) -> Option<&'static Chunk> {
        // SAFETY: null, or a chunk that was leaked, and filled before the release store that this acquire load reads.
        unsafe { self.next.load(Ordering::Acquire).as_ref() }
    }
}

impl Free {
    fn take(&mut self) -> &'static Slot {
        if let Some(slot) = self.slots.pop() {
            return slot;
        }
        let chunk = match self.last {
            None => &TABLE,
            Some(last) => {
                let chunk: &'static mut Chunk = Box::leak(Box::new(Chunk::new()));
                let chunk = ptr::from_mut(chunk);
                last.next.store(chunk, Ordering::Release);
                last.next().expect("just stored")
            }
        };
        self.last = Some(chunk);
        self.slots.extend(&chunk.slots);
        self.slots.pop().expect("a chunk has slots")
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Notes that `len` bytes at `start` are those of a mapped file.
    pub(super) fn take(start: usize, len: usize) -> &'static Self {
        let slot = FREE.lock().take();
        slot.set(start, len);
        slot
    }

    /// Notes that they are so no more. The mapping is still there. Only in the process of `take` can the slot be used again:
    /// in a child, a thread that is not there may have the lock.
    pub(super) fn give_back(&'static self, is_child: bool) {
        self.set(0, 0);
        if is_child {
            return;
        }
        FREE.lock().slots.push(self);
    }

    /// Called by the owner of the slot.
    fn set(&self, start: usize, len: usize) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.has_failed.store(false, Ordering::Relaxed);
        self.version.store(version + 2, Ordering::Release);
    }

    /// Whether `address` is in its mapping. The slot of a mapping that is being touched does not change; one that is
    /// being changed belongs to another mapping.
    fn holds(&self, address: usize) -> bool {
        let version = self.version.load(Ordering::Acquire);
        let (start, len) = (self.start.load(Ordering::Relaxed), self.len.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_stable = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        is_stable && address.wrapping_sub(start) < len
    }

    /// Whether a page of its mapping has been replaced.
    ///
    /// Relaxed: a thread that has stored to such a page, or read from it, has set it before, in the handler; and it
    /// publishes what it stored with release, so that a leader that walks over it sees this.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }
}

/// How many pages of mapped files have been replaced in this process.
#[inline]
pub(crate) fn replaced_pages() -> u32 {
    REPLACED.load(Ordering::Relaxed)
}

/// Has a `SIGBUS` in a mapping of a log be an error instead of the end of the process: a device that cannot read a page any
/// more, a file system that takes no stores since it has turned read-only, or a full one that did not keep the room that it
/// had allocated.
///
/// The page is replaced by one in memory. A log that stores to such a page is poisoned: the append that did so, or the next
/// call, fails with [`Error::Poisoned`](crate::Error::Poisoned), and no sync says that it is durable. A record that would be
/// read from one is checked once more, and is [`Error::Io`](crate::Error::Io) if its bytes are gone.
///
/// Signal handlers belong to the process, so this is for the application to call, once, at its start, and not for a library.
/// The handler that was there before gets every signal that is not about a mapping of this crate. A handler that is
/// installed later has to pass signals on as well.
///
/// # Errors
/// When the system refuses the handler; [`io::ErrorKind::Unsupported`] on other systems than Linux.
///
/// # Safety
/// - Bytes that were borrowed from a log before may turn to zeros while they are borrowed, when the device cannot give them
///   again: payloads, typed views of them, what is shipped, and those that a closure of
///   [`Log::append_with`](crate::Log::append_with) writes. No code may rely on the contrary for its soundness: text is to be
///   checked and copied before it is taken for a `str` without a check, and a type with invalid values is to be read by copy.
/// - No handler of `SIGBUS` is removed afterwards that this one passes signals on to.
///
/// # Example
/// ```
/// // SAFETY: no code of this program relies on borrowed bytes to keep their values when the device fails.
/// unsafe { mapwal::guard_against_sigbus() }?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub unsafe fn guard_against_sigbus() -> io::Result<()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock();
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    PAGE_LEN.store(page_size(), Ordering::Relaxed);
    let previous = action_of(libc::SIGBUS)?;
    let kept = previous.sa_flags & (libc::SA_RESTART | libc::SA_NODEFER);
    let action = libc::sigaction {
        sa_sigaction: on_sigbus as *const () as usize,
        sa_mask: previous.sa_mask,
        // Also on a stack that has overflowed, whose handler is passed what is not of a mapping.
        sa_flags: libc::SA_SIGINFO | libc::SA_ONSTACK | kept,
        sa_restorer: None,
    };
    PREVIOUS.get_or_init(|| previous);
    install(libc::SIGBUS, &action)
}

fn action_of(signal: c_int) -> io::Result<libc::sigaction> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null pointer changes nothing; the other is valid for a `sigaction`.
    let result = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled it, and zeros are a valid one.
    Ok(unsafe { action.assume_init() })
}

fn install(signal: c_int, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: `action` is valid; a null pointer asks for nothing. What it installs is `on_sigbus`, which does only what a
    // handler may, or the system's default.
    let result = unsafe { libc::sigaction(signal, action, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The handler. Of what it calls, nothing takes a lock or allocates.
extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the address of this thread's own `errno`.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // SAFETY: the system passes a valid one to a handler that was installed with `SA_SIGINFO`.
    let told = unsafe { &*info };
    let code = told.si_code;
    // SAFETY: a `SIGBUS` that the system raises for an access has the address; another one has bytes in its place.
    let address = unsafe { told.si_addr() }.addr();
    let is_of_access = matches!(code, libc::BUS_ADRERR | libc::BUS_OBJERR | libc::BUS_MCEERR_AR);
    if !is_of_access || !replace_page(address) {
        pass_on(signal, code, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Puts memory where the page at `address` was, if that is in a mapped file; false if it is not, or if that is impossible.
fn replace_page(address: usize) -> bool {
    let Some(slot) = find(address) else { return false };
    // Before the page is gone, so that an `msync` which has missed it is followed by a look that sees this.
    slot.has_failed.store(true, Ordering::Relaxed);
    REPLACED.fetch_add(1, Ordering::SeqCst);
    let len = PAGE_LEN.load(Ordering::Relaxed);
    let page: *mut c_void = ptr::with_exposed_provenance_mut(address & !(len - 1));
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory, wherever there is room.
    let memory = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return false;
    }
    let to = libc::iovec { iov_base: memory, iov_len: len };
    let from = libc::iovec { iov_base: page, iov_len: len };
    // SAFETY: it asks for this process's own number.
    let this = unsafe { libc::getpid() };
    // What can still be read stays. What cannot is an error here, not a signal, and is left as zeros.
    // SAFETY: `memory` is as long as is said and nobody else's; the other range is only read, by the system.
    unsafe { libc::process_vm_readv(this, &raw const to, 1, &raw const from, 1, 0) };
    let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: `page` is a page of a mapping of this crate, which is being touched and so still there. Its bytes are those
    // of before, or, as the caller of `guard_against_sigbus` has accepted, zeros.
    let moved = unsafe { libc::mremap(memory, len, len, how, page) };
    moved != libc::MAP_FAILED
}

/// The slot of the mapping that `address` is in.
fn find(address: usize) -> Option<&'static Slot> {
    let mut chunk = &TABLE;
    loop {
        if let Some(slot) = chunk.slots.iter().find(|slot| slot.holds(address)) {
            return Some(slot);
        }
        chunk = chunk.next()?;
    }
}

/// Does what would have been done without the guard.
fn pass_on(signal: c_int, code: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(previous) = PREVIOUS.get() else { return };
    // Signals that a process has sent have a code of at most 0.
    let is_sent = code <= 0;
    match previous.sa_sigaction {
        libc::SIG_IGN if is_sent => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            let mut default = *previous;
            default.sa_sigaction = libc::SIG_DFL;
            // The access is made once more, and ends the process where it was made. If this fails, it comes back here.
            let _ = install(signal, &default);
            if is_sent {
                // SAFETY: it sends this thread a signal, which ends the process once this handler is over.
                unsafe { libc::raise(signal) };
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: neither of the two special values, and installed with `SA_SIGINFO`: a function of this type.
            let handler = unsafe {
                std::mem::transmute::<usize, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(handler)
            };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: neither of the two special values: a function of this type.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_its_mapping_and_nowhere_else() {
        // Far from anything that is mapped.
        const START: usize = 1 << 60;
        let slots: Vec<_> = (0..3 * CHUNK_LEN).map(|at| Slot::take(START + at * 8192, 4096)).collect();
        let is_of = |address, slot: &Slot| find(address).is_some_and(|found| ptr::eq(found, slot));
        // Each is found by a walk over all before it, which takes Miri minutes.
        let step = if cfg!(miri) { CHUNK_LEN / 2 - 1 } else { 1 };
        for (at, slot) in slots.iter().enumerate().step_by(step) {
            let start = START + at * 8192;
            assert!(is_of(start, slot) && is_of(start + 4095, slot));
            assert!(find(start + 4096).is_none() && find(start + 8191).is_none());
        }
        slots[5].give_back(false);
        assert!(find(START + 5 * 8192).is_none());
        slots.iter().enumerate().filter(|(at, _)| *at != 5).for_each(|(_, slot)| slot.give_back(false));
        assert!(find(START).is_none());
    }
}
