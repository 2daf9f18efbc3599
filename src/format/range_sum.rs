//! Checksums of any stretches of a long run of bytes, each for the price of a short one.
//!
//! The search for frames needs them where bytes look like frames and are not: an application's records may hold
//! anything, and stretches that begin at each word and are thousands of words long would take as long as their lengths
//! together.

use std::ops::Range;

/// From one checkpoint to the next.
const STEP: usize = 512;
/// The polynomial of the CRC-32, reflected.
const POLYNOMIAL: u32 = 0xedb8_8320;
/// x to the power of 2^k modulo the polynomial, for each k.
const SQUARES: [u32; 32] = squares();

/// Brings the bytes at an offset.
type Read<'a, E> = &'a mut dyn FnMut(u64, &mut [u8]) -> Result<(), E>;

/// The CRC-32s of the starts of a run, at every step.
#[derive(Debug)]
pub(crate) struct RangeSums {
    base: u64,
    checkpoints: Vec<u32>,
}

impl RangeSums {
    /// Of the bytes in `range`, which `read` fetches in steps.
    pub(crate) fn new<E>(range: Range<u64>, read: Read<'_, E>) -> Result<Self, E> {
        let mut checkpoints = vec![0];
        let mut sum = crc32fast::Hasher::new();
        let mut buffer = vec![0; 128 * STEP];
        let mut offset = range.start;
        while offset < range.end {
            let len = buffer.len().min(usize::try_from(range.end - offset).unwrap_or(usize::MAX));
            read(offset, &mut buffer[..len])?;
            for step in buffer[..len].chunks(STEP) {
                sum.update(step);
                checkpoints.push(sum.clone().finalize());
            }
            offset += len as u64;
        }
        Ok(Self { base: range.start, checkpoints })
    }

    /// The CRC-32 of the bytes in `range`, which is within what was given, and not changed since.
    pub(crate) fn sum<E>(&self, range: Range<u64>, read: Read<'_, E>) -> Result<u32, E> {
        let before = self.sum_up_to(range.start, read)?;
        let all = self.sum_up_to(range.end, read)?;
        Ok(all ^ multiply(before, power_of_bytes(range.end - range.start)))
    }

    fn sum_up_to<E>(&self, end: u64, read: Read<'_, E>) -> Result<u32, E> {
        let len = usize::try_from(end - self.base).unwrap_or(usize::MAX);
        let mut sum = crc32fast::Hasher::new_with_initial(self.checkpoints[len / STEP]);
        let mut rest = [0; STEP];
        let rest = &mut rest[..len % STEP];
        if !rest.is_empty() {
            read(end - rest.len() as u64, rest)?;
            sum.update(rest);
        }
        Ok(sum.finalize())
    }
}

/// x to the power of 8 for each of `len` bytes: the factor for the sum of what `len` bytes follow.
fn power_of_bytes(len: u64) -> u32 {
    let mut power = 1 << 31;
    let mut exponent = len << 3;
    for square in SQUARES.iter().cycle() {
        if exponent == 0 {
            break;
        }
        if exponent & 1 == 1 {
            power = multiply(*square, power);
        }
        exponent >>= 1;
    }
    power
}

/// The product of two polynomials modulo the polynomial, reflected: the coefficient of x^0 is the highest bit.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 0 { b >> 1 } else { b >> 1 ^ POLYNOMIAL };
        bit >>= 1;
    }
    product
}

const fn squares() -> [u32; 32] {
    let mut squares = [1 << 30; 32];
    let mut at = 1;
    while at < squares.len() {
        squares[at] = multiply(squares[at - 1], squares[at - 1]);
        at += 1;
    }
    squares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stretch_has_the_sum_that_it_has_by_itself() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let bytes: Vec<u8> = (0..200_001).map(|_| next(256) as u8).collect();
        let mut read = |offset: u64, into: &mut [u8]| {
            into.copy_from_slice(&bytes[offset as usize..offset as usize + into.len()]);
            Ok::<_, ()>(())
        };
        let base = 4096;
        let sums = RangeSums::new(base as u64..bytes.len() as u64, &mut read).expect("it can be read");
        for _ in 0..2000 {
            let start = base + next(bytes.len() - base + 1);
            let end = start + next(bytes.len() - start + 1);
            let sum = sums.sum(start as u64..end as u64, &mut read);
            assert_eq!(sum, Ok(crc32fast::hash(&bytes[start..end])), "{start}..{end}");
        }
    }
}
