//! Where bytes end that are not zero.

/// How many bytes there are up to the last that is not zero, if there is one. Most of what is looked at is zero, and is
/// compared a page at a time.
pub(crate) fn nonzero_len(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let page = bytes.rchunks(ZEROS.len()).position(|page| *page != ZEROS[..page.len()])?;
    let end = bytes.len() - page * ZEROS.len();
    bytes[..end].iter().rposition(|&byte| byte != 0).map(|last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::nonzero_len;

    #[test]
    fn the_last_byte_that_is_not_zero_is_found_wherever_it_is() {
        for len in [0, 1, 4095, 4096, 4097, 10_000] {
            let mut bytes = vec![0; len];
            assert_eq!(nonzero_len(&bytes), None, "{len}");
            for at in [0, 1, 1807, 4095, 4096, 8191, 9999].into_iter().filter(|&at| at < len) {
                bytes[at] = 1;
                assert_eq!(nonzero_len(&bytes), Some(at + 1), "{len}");
            }
        }
    }
}
