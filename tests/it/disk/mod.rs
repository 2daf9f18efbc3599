//! What the disk and its file system do: full disks, failed syncs, lost pages, and each kind of file system.

mod device;
mod file_systems;
mod full_disk;
mod guarded;
mod lost_pages;
#[cfg(target_os = "linux")]
mod overlay;
#[cfg(target_os = "linux")]
mod page_cache;
mod poisoned;
mod reserved;
