//! Copying into mapped memory.

use std::ptr::NonNull;

/// The smallest page that a system protects by itself.
const PAGE_LEN: usize = 4096;

/// Copies `bytes` to `destination`, page by page: no store touches two pages.
///
/// On a disk that is full, a file system may have to write one page back before it can take a store to another one (btrfs does).
/// A store that needs two such pages at once would then fault for ever, on one and the other in turn.
///
/// # Safety
/// `destination` is valid for writes of that many bytes, which do not overlap `bytes`, and which nobody else touches meanwhile.
#[inline]
pub(super) unsafe fn copy(bytes: &[u8], destination: NonNull<u8>) {
    if bytes.len() <= PAGE_LEN - destination.addr().get() % PAGE_LEN {
        // SAFETY: as the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), destination.as_ptr(), bytes.len()) };
    } else {
        // SAFETY: as the caller promises.
        unsafe { copy_by_page(bytes, destination) };
    }
}

/// As [`copy`], to bytes that are borrowed, as many.
#[inline]
pub(crate) fn copy_into(destination: &mut [u8], bytes: &[u8]) {
    assert_eq!(destination.len(), bytes.len());
    // SAFETY: `destination` is valid for writes of as many bytes (asserted), borrowed exclusively, and so apart from `bytes`.
    unsafe { copy(bytes, NonNull::from(destination).cast()) };
}

/// # Safety
/// As [`copy`].
#[inline(never)]
unsafe fn copy_by_page(mut bytes: &[u8], mut destination: NonNull<u8>) {
    while !bytes.is_empty() {
        let len = bytes.len().min(PAGE_LEN - destination.addr().get() % PAGE_LEN);
        let (page, rest) = bytes.split_at(len);
        // SAFETY: the first `len` bytes of those that the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(page.as_ptr(), destination.as_ptr(), len) };
        // SAFETY: at most one past the end of them.
        destination = unsafe { destination.add(len) };
        bytes = rest;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{NonNull, PAGE_LEN, copy};

    #[test]
    fn every_byte_is_copied_and_no_other_is_touched() {
        let source: Vec<u8> = (0..3 * PAGE_LEN).map(|at| (at % 251) as u8 + 1).collect();
        for start in [0, 1, PAGE_LEN - 9, PAGE_LEN - 1, PAGE_LEN] {
            for len in [0, 1, 8, 9, PAGE_LEN - 1, PAGE_LEN, PAGE_LEN + 1, 2 * PAGE_LEN + 7] {
                let mut target = vec![0; 4 * PAGE_LEN];
                let destination = NonNull::new(target[start..start + len].as_mut_ptr()).expect("of a vector");
                // SAFETY: `len` bytes of `target`, which nobody else touches.
                unsafe { copy(&source[..len], destination) };
                let mut wanted = vec![0; target.len()];
                wanted[start..start + len].copy_from_slice(&source[..len]);
                assert!(target == wanted, "{len} bytes at {start}");
            }
        }
    }
}
