//! Taking down what was set up: mounts, loop devices, files. Whatever happened before.

use std::path::Path;
use std::process;

use crate::places::Places;
use crate::system;

/// Unmounts the file system of a lane and detaches its loop devices. The disk must still be served, or be gone.
pub fn lane(places: &Places) {
    complain(unmount(&places.mount()));
    complain(system::detach_loops(&places.mounts));
    complain(system::detach_loops(&places.memory));
}

/// Removes the directories of a lane.
pub fn remove(places: &Places) {
    let _ = std::fs::remove_dir(places.mount());
    let _ = std::fs::remove_dir(places.fuse());
    let _ = std::fs::remove_dir(&places.mounts);
    let _ = std::fs::remove_dir_all(&places.memory);
}

/// Takes down what laboratories have left whose processes are gone.
pub fn leftovers() {
    for (pid, places) in Places::left() {
        let lives = Path::new("/proc").join(pid.to_string()).exists();
        if lives && pid != process::id() {
            continue;
        }
        eprintln!("taking down what process {pid} has left in {}", places.mounts.display());
        lane(&places);
        complain(unmount(&places.fuse()));
        remove(&places);
    }
}

fn unmount(place: &Path) -> anyhow::Result<()> {
    system::mounts_in(place).iter().try_for_each(|mount| system::unmount(mount))
}

fn complain(done: anyhow::Result<()>) {
    if let Err(error) = done {
        eprintln!("while taking down: {error:#}");
    }
}
