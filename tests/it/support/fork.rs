//! Children that go on where their parent was, without its other threads.

use nix::libc;

/// A child that hangs is ended after so many seconds.
pub(crate) const PATIENCE: u32 = 20;

/// A forked child, which does `act` and ends with the number that it returns.
pub(crate) struct Child(libc::pid_t);

impl Child {
    pub(crate) fn fork(act: impl FnOnce() -> i32) -> Self {
        // SAFETY: the child runs nothing but `act`, and ends without a look at what belongs to the threads that it lacks.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "no process");
        if pid > 0 {
            return Self(pid);
        }
        // SAFETY: no memory is touched.
        unsafe { libc::alarm(PATIENCE) };
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).unwrap_or(101);
        // SAFETY: it ends here.
        unsafe { libc::_exit(code) }
    }

    /// The number that it ends with; of the signal that has ended it, the negative.
    pub(crate) fn end(self) -> i32 {
        let mut status = 0;
        // SAFETY: a valid place for the status, and a child of this process.
        let waited = unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        assert_eq!(waited, self.0);
        if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
    }

    pub(crate) fn kill(self) {
        // SAFETY: a child of this process.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        self.end();
    }
}
