//! Control groups of the second version, one for each pod: all pods share the machine's network, and the group is how a
//! firewall tells whose packets it sees.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::memory;

/// Where the hierarchy is mounted, if this process may make groups in it.
fn top() -> Option<&'static Path> {
    static TOP: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        nix::unistd::geteuid().is_root().then(|| mounted(&mounts)).flatten()
    };
    TOP.get_or_init(find).as_deref()
}

fn mounted(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    })
}

/// What the kernel calls the group of a pod.
pub(crate) fn name(pod_uid: &str) -> String {
    format!("howdah-pod-{pod_uid}")
}

/// Makes the group of a pod, unless it is there; the file through which a process enters it. `None` on a machine
/// without such groups, whose pods cannot be told apart then.
pub(crate) fn entrance(pod_uid: &str) -> Option<PathBuf> {
    let group = top()?.join(name(pod_uid));
    match fs::create_dir(&group) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => None,
        _ => Some(group.join("cgroup.procs")),
    }
}

/// Removes the group of a pod whose processes have ended.
pub(crate) async fn remove(pod_uid: &str) {
    let Some(group) = top().map(|top| top.join(name(pod_uid))) else { return };
    // A group that is left behind does no harm.
    let _ = tokio::task::spawn_blocking(move || memory::remove(&group)).await;
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_second_version_is_found_beside_the_first() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(super::mounted(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(super::mounted("tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"), None);
    }
}
