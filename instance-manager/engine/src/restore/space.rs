//! Whether the volumes have room, asked before the first byte is written.

use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes needed in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// An existing directory on the volume.
    pub dir: PathBuf,
    /// Bytes that will be written there.
    pub bytes: u64,
}

/// Takes off what each directory gives back before.
pub fn less(needs: &mut [Need], freed: &[u64]) {
    for (need, freed) in needs.iter_mut().zip(freed) {
        need.bytes = need.bytes.saturating_sub(*freed);
    }
}

/// Adds up what each volume must take, and fails when one cannot.
pub fn check(needs: &[Need]) -> Result<()> {
    let mut volumes: BTreeMap<u64, (&Path, u64)> = BTreeMap::new();
    for need in needs {
        let meta =
            std::fs::metadata(&need.dir).map_err(|error| Error::io("cannot look at", &need.dir, error))?;
        volumes.entry(meta.dev()).or_insert((&need.dir, 0)).1 += need.bytes;
    }
    for (dir, bytes) in volumes.into_values() {
        let free = free(dir)?;
        if bytes > free {
            return Err(full(dir, bytes, free));
        }
    }
    Ok(())
}

/// Free bytes of the volume that holds a directory.
pub fn free(dir: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(dir)
        .map_err(|error| Error::io("cannot look at the volume of", dir, error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn full(dir: &Path, needed: u64, free: u64) -> Error {
    Error::new(
        ErrorKind::DiskFull,
        format!("the volume of {} has {free} bytes free; the restore needs {needed}", dir.display()),
    )
    .with_remedy(format!(
        "enlarge the volume by at least {} bytes, with room for WAL",
        needed.saturating_sub(free)
    ))
}

/// Says of a write that found the volume full how much the whole needs.
pub fn explain(error: Error, dir: &Path, needed: Option<u64>) -> Error {
    if error.kind() != ErrorKind::DiskFull {
        return error;
    }
    let whole = needed.map_or_else(String::new, |bytes| format!("; the backup needs {bytes} bytes"));
    let message = format!("the volume of {} is full ({error}){whole}", dir.display());
    Error::new(ErrorKind::DiskFull, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_on_one_volume_are_added_up() {
        let temp = tempfile::tempdir().expect("a directory");
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        for dir in [&a, &b] {
            std::fs::create_dir(dir).expect("a directory");
        }
        let half = free(temp.path()).expect("asks") / 4 * 3;
        let need = |dir: &Path, bytes| Need { dir: dir.to_path_buf(), bytes };
        check(&[need(&a, half)]).expect("fits");
        let error = check(&[need(&a, half), need(&b, half)]).expect_err("too much");
        assert_eq!(error.kind(), ErrorKind::DiskFull);
        assert!(error.to_string().contains(&(half * 2).to_string()), "{error}");
    }
}
