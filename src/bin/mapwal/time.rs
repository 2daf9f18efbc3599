//! Times as people read them.

use std::time::Duration;

/// In three digits or so.
pub(crate) fn show(time: Duration) -> String {
    match micros(time) {
        us if us < 10.0 => format!("{us:.1} us"),
        us if us < 10_000.0 => format!("{us:.0} us"),
        us => format!("{:.1} ms", us / 1000.0),
    }
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_or_so() {
        let of = |nanos| show(Duration::from_nanos(nanos));
        assert_eq!([0, 1_500, 12_345, 9_999_000].map(of), ["0.0 us", "1.5 us", "12 us", "9999 us"]);
        assert_eq!(of(12_345_678), "12.3 ms");
    }
}
