//! A memory cgroup of our own, version 1 or 2, removed when dropped.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Where the memory controller of version 1 is mounted.
const V1: &str = "/sys/fs/cgroup/memory";
/// Where version 2 is mounted.
const V2: &str = "/sys/fs/cgroup";

/// A cgroup.
pub struct Cgroup {
    dir: PathBuf,
    peak: &'static str,
}

impl Cgroup {
    /// A cgroup whose members have `bytes` of memory together, page cache included; the kernel kills who needs more.
    ///
    /// # Errors
    /// When this machine has no memory controller or this user may not use it.
    pub fn limited(bytes: u64) -> Result<Self> {
        let name = format!("howdah-bench-{}", std::process::id());
        let (dir, limit, peak) = if Path::new(V1).join("memory.limit_in_bytes").exists() {
            (Path::new(V1).join(name), "memory.limit_in_bytes", "memory.max_usage_in_bytes")
        } else if controllers().contains("memory") {
            (Path::new(V2).join(name), "memory.max", "memory.peak")
        } else {
            bail!("no memory controller below {V2}: mount one (mount -t cgroup -o memory memory {V1})");
        };
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot make {}: run as root", dir.display()))?;
        let group = Self { dir, peak };
        std::fs::write(group.dir.join(limit), bytes.to_string())
            .with_context(|| format!("cannot limit {}", group.dir.display()))?;
        Ok(group)
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Peak of all memory charged to it, page cache included, MiB.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn peak(&self) -> Result<f64> {
        let text = std::fs::read_to_string(self.dir.join(self.peak)).context("the cgroup has no peak")?;
        Ok(text.trim().parse::<f64>()? / 1024.0 / 1024.0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.dir);
    }
}

fn controllers() -> String {
    std::fs::read_to_string(Path::new(V2).join("cgroup.subtree_control")).unwrap_or_default()
}
