//! A child of a process with one thread can have logs of its own.
//!
//! A program without the harness of tests, which has a thread for each test.

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    linux::a_child_of_a_process_with_one_thread_can_have_logs_of_its_own();
}

#[cfg(target_os = "linux")]
#[allow(clippy::pedantic, clippy::unwrap_used, reason = "tests are read for what they show")]
mod linux {
    use std::path::Path;
    use std::sync::mpsc;

    use mapwal::{Log, Lsn, Options};
    use nix::libc;

    /// A child that hangs is ended after so many seconds.
    const PATIENCE: u32 = 20;

    fn open(directory: &Path) -> Log {
        // SAFETY: the directory is a temporary one that only this test touches.
        unsafe { Log::open(directory, &Options::new().segment_size_bytes(64 << 10)) }.expect("the log opens")
    }

    /// Uses a log with its threads, and closes it.
    fn use_log(directory: &Path) {
        let log = open(directory);
        let lsn = log.append(1, b"record").unwrap();
        let (tell, told) = mpsc::channel();
        log.on_durable(lsn, move |outcome| tell.send(outcome.is_ok()).unwrap()).unwrap();
        assert!(told.recv().unwrap());
        log.rotate().unwrap();
        log.close().unwrap();
    }

    fn wait_for_threads_to_end() {
        while std::fs::read_dir("/proc/self/task").unwrap().count() > 1 {
            std::thread::yield_now();
        }
    }

    pub(crate) fn a_child_of_a_process_with_one_thread_can_have_logs_of_its_own() {
        let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        use_log(directory.path());
        // SAFETY: no memory is touched. It ends this process, too, if threads do not end.
        unsafe { libc::alarm(PATIENCE) };
        wait_for_threads_to_end();
        // SAFETY: this process has no other thread.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "no process");
        if pid == 0 {
            // SAFETY: no memory is touched.
            unsafe { libc::alarm(PATIENCE) };
            let used = std::panic::catch_unwind(|| [&directory, &other].map(|log| use_log(log.path())));
            // SAFETY: it ends here, and leaves the directories to its parent.
            unsafe { libc::_exit(i32::from(used.is_err())) }
        }
        let mut status = 0;
        // SAFETY: a valid place for the status, and a child of this process.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0, "what has become of the child");
        assert_eq!(open(directory.path()).next_lsn(), Lsn(3));
        assert_eq!(open(other.path()).next_lsn(), Lsn(2));
    }
}
