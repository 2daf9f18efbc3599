//! Progress of what takes longer than a moment: bytes, rate and time left, on a terminal only. Shared with `mapwal-archive`.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done by then is not worth showing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows how far `total_bytes` have been worked through.
pub(crate) fn of_bytes(what: &'static str, total_bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    shown_later(what, Some(total_bytes), style.expect("the template is valid"))
}

/// Shows how many of `total` steps have been taken.
pub(crate) fn of_steps(what: &'static str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len} {eta}");
    shown_later(what, Some(total), style.expect("the template is valid"))
}

/// Shows how much has been done, where the total is not known.
pub(crate) fn of_unknown(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} {bytes} {bytes_per_sec}");
    shown_later(what, None, style.expect("the template is valid"))
}

fn shown_later(what: &'static str, total: Option<u64>, style: ProgressStyle) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
    // In letters that every terminal has.
    bar.set_style(style.progress_chars("=> ").tick_chars("-\\|/ "));
    bar.set_message(what);
    if io::stderr().is_terminal() {
        let later = bar.downgrade();
        // Without a thread nothing is shown.
        let _ = std::thread::Builder::new().spawn(move || {
            std::thread::sleep(PATIENCE);
            if let Some(bar) = later.upgrade().filter(|bar| !bar.is_finished()) {
                bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
                bar.tick();
            }
        });
    }
    bar
}
