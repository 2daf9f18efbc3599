//! Which file systems keep what a log rests on.

use std::io;
use std::os::fd::OwnedFd;

use crate::error::Unsupported;

/// By the numbers in `linux/magic.h`, and those of file systems from elsewhere.
#[cfg(target_os = "linux")]
const KINDS: [(u32, &str, Unsupported); 18] = [
    (0x6969, "nfs", Unsupported::Network),
    (0x517b, "smbfs", Unsupported::Network),
    (0xff53_4d42, "cifs", Unsupported::Network),
    (0xfe53_4d42, "smb2", Unsupported::Network),
    (0x00c3_6400, "ceph", Unsupported::Network),
    (0x5346_414f, "afs", Unsupported::Network),
    (0x6b41_4653, "afs", Unsupported::Network),
    (0x7375_7245, "coda", Unsupported::Network),
    (0x564c, "ncpfs", Unsupported::Network),
    (0x0bd0_0bd0, "lustre", Unsupported::Network),
    (0x4750_4653, "gpfs", Unsupported::Network),
    (0x1983_0326, "beegfs", Unsupported::Network),
    (0x0116_1970, "gfs2", Unsupported::Network),
    (0x7461_636f, "ocfs2", Unsupported::Network),
    (0x0102_1997, "9p", Unsupported::Relayed),
    (0x6573_5546, "fuse", Unsupported::Relayed),
    (0x786f_4256, "vboxsf", Unsupported::Relayed),
    (0xbacb_acbc, "vmhgfs", Unsupported::Relayed),
];

#[cfg(target_os = "linux")]
const OVERLAY: u32 = 0x794c_7630;

/// The name of the file system that `directory` is on, and why no log can be written there; `None` if one can.
#[cfg(target_os = "linux")]
pub(super) fn unsupported(directory: &OwnedFd) -> io::Result<Option<(&'static str, Unsupported)>> {
    #[allow(
        clippy::cast_sign_loss,
        reason = "a number of 32 bits, in a field whose type differs between architectures"
    )]
    let kind = rustix::fs::fstatfs(directory)?.f_type as u32;
    if kind == OVERLAY {
        let device = rustix::fs::fstat(directory)?.st_dev;
        let is_volatile =
            is_mounted_volatile(device, &std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        return Ok(is_volatile.then_some(("overlay", Unsupported::SyncsOmitted)));
    }
    Ok(KINDS.iter().find(|(number, ..)| *number == kind).map(|&(_, name, why)| (name, why)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn unsupported(_directory: &OwnedFd) -> io::Result<Option<(&'static str, Unsupported)>> {
    Ok(None)
}

/// Whether the overlay with the number `device` is mounted with the option `volatile`, by the list of mounts. A line is such
/// as `36 35 0:44 / /mnt rw,noatime shared:1 - overlay overlay rw,lowerdir=..,volatile`, or `fsync=volatile` at its end.
#[cfg(target_os = "linux")]
fn is_mounted_volatile(device: u64, mounts: &str) -> bool {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    mounts.lines().any(|line| {
        let Some((mount, source)) = line.split_once(" - ") else { return false };
        let options = source.split(' ').nth(2).unwrap_or_default();
        mount.split(' ').nth(2) == Some(&device)
            && options.split(',').any(|option| matches!(option, "volatile" | "fsync=volatile"))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_volatile_overlay_is_known_by_its_line_among_the_mounts() {
        let line =
            "36 35 0:44 / /mnt rw,noatime shared:1 - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c,volatile";
        let device = rustix::fs::makedev(0, 44);
        assert!(is_mounted_volatile(device, line));
        assert!(is_mounted_volatile(device, &line.replace("volatile", "uuid=on,fsync=volatile")));
        assert!(!is_mounted_volatile(rustix::fs::makedev(0, 45), line));
        assert!(!is_mounted_volatile(device, &line.replace(",volatile", "")));
        assert!(!is_mounted_volatile(device, ""));
    }
}
