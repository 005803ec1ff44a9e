//! Memory limits by the version 1 memory controller, where the machine has it.
//!
//! A process is born into the group of the thread that starts it. The one thread that starts processes therefore
//! steps into a container's group, starts it, and steps out again: the container is limited from its first page.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the controller is mounted.
const TOP: &str = "/sys/fs/cgroup/memory";

/// Whether limits can be set here.
pub(crate) fn is_available() -> bool {
    Path::new(TOP).join("memory.limit_in_bytes").exists() && nix::unistd::geteuid().is_root()
}

/// The group of one run of a container. Dropping it removes it, once its processes are gone.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes a group that may use so many bytes.
    pub fn create(name: &str, limit: u64) -> io::Result<Self> {
        let path = Path::new(TOP).join(format!("howdah-lab-{name}"));
        fs::create_dir(&path)?;
        let group = Self { path };
        fs::write(group.path.join("memory.limit_in_bytes"), limit.to_string())?;
        Ok(group)
    }

    /// Does something with the calling thread inside the group, so that what it starts is born there.
    pub fn inside<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        // 0 stands for the calling thread.
        fs::write(self.path.join("tasks"), "0")?;
        let result = work();
        fs::write(own_group()?.join("tasks"), "0")?;
        Ok(result)
    }

    /// Whether the kernel killed a process of the group for want of memory.
    pub fn has_killed(&self) -> bool {
        let text = fs::read_to_string(self.path.join("memory.oom_control")).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes a group whose processes have ended; a killed one may take a moment to be accounted out.
pub(crate) fn remove(group: &Path) {
    for _ in 0..50 {
        match fs::remove_dir(group) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => return,
        }
    }
}

/// The group of this process's first thread, which never moves.
fn own_group() -> io::Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup")?;
    let group = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|name| name == "memory").then(|| path.trim_start_matches('/').to_owned())
    });
    group.map(|path| Path::new(TOP).join(path)).ok_or_else(|| io::Error::other("no memory controller"))
}
