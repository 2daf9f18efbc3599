//! What a run was made on. Figures of different machines say nothing about the log when they are compared.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A machine, as far as it decides figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Its name, family and model.
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) file_system: String,
    pub(crate) kernel: String,
}

impl Machine {
    /// This one, with the file system of `directory`.
    pub(crate) fn here(directory: &Path) -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            processor: processor().unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_gib().unwrap_or_default(),
            file_system: file_system(directory).unwrap_or_else(unknown),
            kernel: kernel().unwrap_or_else(unknown),
        }
    }

    /// Whether figures of the two may be compared: another kernel is a thing to compare.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.processor, self.cores, &self.file_system) == (&other.processor, other.cores, &other.file_system)
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { processor, cores, memory_gib, file_system, kernel } = self;
        write!(f, "{processor}, {cores} cores, {memory_gib} GiB, {file_system}, {kernel}")
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn processor() -> Option<String> {
    let text = read("/proc/cpuinfo")?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let name = field("model name\t").or_else(|| field("CPU implementer"))?;
    let model = field("cpu family\t").zip(field("model\t\t"));
    Some(model.map_or(name.to_owned(), |(family, model)| format!("{name} (family {family}, model {model})")))
}

/// Without what its builder has added.
fn kernel() -> Option<String> {
    let release = read("/proc/sys/kernel/osrelease")?;
    let parts: Vec<&str> = release.trim().split('.').take(2).collect();
    Some(format!("Linux {}", parts.join(".")))
}

/// Rounded: the system keeps some for itself.
fn memory_gib() -> Option<u64> {
    let text = read("/proc/meminfo")?;
    let kib: u64 = text.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib + (1 << 19)) >> 20)
}

/// The type of the mount that `directory` is on.
fn file_system(directory: &Path) -> Option<String> {
    let device = fs::metadata(directory).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = read("/proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.split_whitespace().nth(2) == Some(device.as_str()))?;
    mount.split_once(" - ")?.1.split_whitespace().next().map(str::to_owned)
}
