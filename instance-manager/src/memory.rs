//! Keeps freed memory from staying resident.
//!
//! WAL and backups pass through buffers of several megabytes. The C library's allocator takes the first large
//! buffer that is freed as a sign to keep all later ones, which leaves an idle manager with tens of megabytes
//! that belong to nobody. Its limits can only be set by the environment before a program starts, so the manager
//! starts itself once more, under the same process id, with these limits.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Set in the environment of the second start.
const TUNED: &str = "HOWDAH_MALLOC_TUNED";
/// Limits of the allocator (glibc, `mallopt(3)`): upload buffers are returned at once, what the network client allocates
/// for each piece is not (a fifth of a restore's time went into its page faults), few arenas.
const LIMITS: [(&str, &str); 3] =
    [("MALLOC_MMAP_THRESHOLD_", "1048576"), ("MALLOC_TRIM_THRESHOLD_", "2097152"), ("MALLOC_ARENA_MAX", "2")];

/// Starts this program anew with the limits, unless that was done or somebody set them already. Returns only
/// when there is nothing to do or it could not be done, which is harmless.
pub fn tune() {
    let set = |name: &str| std::env::var_os(name).is_some();
    if set(TUNED) || LIMITS.iter().any(|(name, _)| set(name)) {
        return;
    }
    let Ok(own) = std::env::current_exe() else { return };
    let error = Command::new(own).args(std::env::args_os().skip(1)).envs(LIMITS).env(TUNED, "1").exec();
    tracing::debug!(%error, "the limits of the allocator could not be set");
}

/// Names that PostgreSQL and its programs must not inherit.
#[must_use]
pub fn own_variables() -> Vec<&'static str> {
    let mut names = vec![crate::run::replace::handover::VARIABLE];
    if std::env::var_os(TUNED).is_some() {
        names.extend(LIMITS.iter().map(|(name, _)| *name).chain([TUNED]));
    }
    names
}
