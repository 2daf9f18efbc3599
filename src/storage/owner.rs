//! Owner, group and mode of new files: those of the log's existing files.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, Stat, Uid};
use rustix::io::Errno;

/// Reading and writing, of files; what else a mode may say is left out.
const FILE_BITS: u32 = 0o666;
/// What the owner always may.
const OWNER_BITS: u32 = 0o600;
/// What a group must be allowed for it to make no difference which of its members a file belongs to.
const GROUP_BITS: u32 = 0o060;

/// How files are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
    /// `None` for that of this process.
    user: Option<u32>,
    group: Option<u32>,
    mode: u32,
}

/// A file would belong to this process, and the other files of the log do not.
#[derive(Debug, thiserror::Error)]
#[error("the files of the log belong to user {owner}, and this process may not give a new one to that user")]
struct NotOurs {
    owner: u32,
}

impl Pattern {
    /// For the owner of this process alone.
    pub(super) const PRIVATE: Self = Self { user: None, group: None, mode: OWNER_BITS };

    /// As the first of `like` that is in `directory`. If none is, with `mode`; then a process of root's makes files for the
    /// owner of the directory.
    pub(super) fn of(directory: impl AsFd, like: &[String], mode: u32) -> io::Result<Self> {
        for name in like {
            match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => return Ok(Self::like(&stat, stat.st_mode)),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Self::like(&rustix::fs::fstat(&directory)?, mode));
        }
        Ok(Self { mode: usable(mode), ..Self::PRIVATE })
    }

    fn like(stat: &Stat, mode: u32) -> Self {
        Self { user: Some(stat.st_uid), group: Some(stat.st_gid), mode: usable(mode) }
    }

    pub(super) fn file_mode(&self) -> Mode {
        Mode::from_raw_mode(self.mode)
    }

    /// A user that may read a file may find it in its directory.
    pub(super) fn directory_mode(&self) -> Mode {
        Mode::from_raw_mode(directory_mode(self.mode))
    }

    /// Gives `file`, which this process has just created, its owner, its group where that is possible, and its mode whatever
    /// the mask of the process.
    pub(super) fn give(&self, file: impl AsFd, mode: Mode) -> io::Result<()> {
        let stat = rustix::fs::fstat(&file)?;
        if Mode::from_raw_mode(stat.st_mode) != mode {
            // A file system without modes is no worse off; what it has been created with is at most this.
            let _ = rustix::fs::fchmod(&file, mode);
        }
        let (user, group) = (self.user.unwrap_or(stat.st_uid), self.group.unwrap_or(stat.st_gid));
        if (user, group) == (stat.st_uid, stat.st_gid) {
            return Ok(());
        }
        let given = rustix::fs::fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        match given {
            Ok(()) => Ok(()),
            Err(Errno::PERM) if user == stat.st_uid || self.is_shared(&file, stat.st_gid) => Ok(()),
            Err(Errno::PERM) => Err(io::Error::new(io::ErrorKind::PermissionDenied, NotOurs { owner: user })),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether all of the group may write the file, and it is of the right group.
    fn is_shared(&self, file: impl AsFd, found: u32) -> bool {
        let Some(group) = self.group else { return false };
        let is_of_group = || group == found || rustix::fs::fchown(file, None, Some(Gid::from_raw(group))).is_ok();
        self.mode & GROUP_BITS == GROUP_BITS && is_of_group()
    }
}

/// Creates the directory `path` and its missing parents, for files with `mode`, and makes their names durable.
pub(super) fn create_directories(path: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|a| !a.as_os_str().is_empty() && !a.exists()).collect();
    let mode = directory_mode(mode);
    for created in missing.into_iter().rev() {
        let parent = created.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = File::open(parent)?;
        match DirBuilder::new().mode(mode).create(created) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            other => other?,
        }
        // Before it is opened: the mask of the process may leave nothing of the mode.
        fs::set_permissions(created, Permissions::from_mode(mode))?;
        let pattern = Pattern::of(&parent, &[], mode)?;
        pattern.give(File::open(created)?, Mode::from_raw_mode(mode))?;
        parent.sync_all()?;
    }
    Ok(())
}

fn usable(mode: u32) -> u32 {
    mode & FILE_BITS | OWNER_BITS
}

/// The mode of a directory whose files have `mode`: users that may read them may search it.
pub(super) fn directory_mode(mode: u32) -> u32 {
    let mode = usable(mode);
    mode | (mode & 0o444) >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_searched_by_readers() {
        for (file, directory) in [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755), (0o660, 0o770), (0o200, 0o700)] {
            assert_eq!(directory_mode(file), directory, "{file:o}");
        }
    }

    #[test]
    fn nothing_is_executable_and_the_owner_can_go_on() {
        assert_eq!(usable(0o4755), 0o644);
        assert_eq!(usable(0o040), 0o640);
    }
}
