//! Volumes as directories: making them, filling them, taking them away.
//!
//! Files from API objects are switched all at once: they live in a dated directory, `..data` points to it, and
//! the names a program opens point through `..data`. A program therefore never sees half of an update.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::content::File;
use crate::error::Error;

/// Makes a directory that the pod's user, whoever that is, may use.
pub(crate) fn directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o777).create(path).map_err(Error::file("create", path))?;
    // The umask may have taken some of it away.
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(Error::file("chmod", path))
}

/// Mounts a file system in memory at `path`, of so many bytes at most.
pub(crate) fn memory(path: &Path, limit: Option<u64>) -> Result<(), Error> {
    directory(path)?;
    if is_mounted(path) {
        return Ok(());
    }
    let mut options = "mode=0777".to_owned();
    if let Some(limit) = limit {
        options.push_str(&format!(",size={limit}"));
    }
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
        .map_err(|errno| Error::File {
            action: "mount a tmpfs (this needs root) on",
            path: path.to_owned(),
            source: errno.into(),
        })
}

/// Every mount point at or below `path`, the deepest first.
fn mounted_below(path: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|field| PathBuf::from(field.replace("\\040", " ")))
        .filter(|point| point.starts_with(path))
        .collect();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    found
}

fn is_mounted(path: &Path) -> bool {
    mounted_below(path).iter().any(|point| point == path)
}

/// Unmounts whatever is mounted at or below `path`.
pub(crate) fn unmount_below(path: &Path) {
    for point in mounted_below(path) {
        if let Err(errno) = umount2(&point, MntFlags::MNT_DETACH) {
            tracing::warn!(path = %point.display(), %errno, "cannot unmount");
        }
    }
}

/// Unmounts and removes a directory with all that is in it.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    unmount_below(path);
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::file("remove", path)),
    }
}

/// Makes the files of a volume what `files` says, all at once. Nothing happens when they are so already.
pub(crate) fn write_files(volume: &Path, files: &BTreeMap<String, File>) -> Result<(), Error> {
    let failed = |action| Error::file(action, volume);
    directory(volume)?;
    let data = volume.join("..data");
    let old = fs::read_link(&data).ok();
    if old.is_some() && read_files(&data) == *files {
        return Ok(());
    }
    let name = format!("..{}", chrono::Utc::now().format("%Y_%m_%d_%H_%M_%S.%9f"));
    let fresh = volume.join(&name);
    fs::create_dir(&fresh).map_err(failed("create"))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).map_err(failed("chmod"))?;
    for (path, file) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed("create"))?;
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(&target)
            .map_err(failed("create"))?;
        out.write_all(&file.content).map_err(failed("write"))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode)).map_err(failed("chmod"))?;
    }
    let switch = volume.join("..data_tmp");
    let _ = fs::remove_file(&switch);
    symlink(&name, &switch).map_err(failed("link"))?;
    fs::rename(&switch, &data).map_err(failed("switch"))?;

    let wanted: BTreeSet<&str> =
        files.keys().map(|path| path.split('/').next().unwrap_or(path.as_str())).collect();
    for entry in fs::read_dir(volume).map_err(failed("list"))? {
        let entry = entry.map_err(failed("list"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(name.as_str()) {
            fs::remove_file(entry.path()).map_err(failed("remove"))?;
        }
    }
    for first in wanted {
        let link = volume.join(first);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(first), &link).map_err(failed("link"))?;
        }
    }
    if let Some(old) = old {
        let _ = fs::remove_dir_all(volume.join(old));
    }
    Ok(())
}

fn read_files(dir: &Path) -> BTreeMap<String, File> {
    fn walk(top: &Path, dir: &Path, found: &mut BTreeMap<String, File>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(top, &path, found);
            } else if let (Ok(content), Ok(meta), Ok(name)) =
                (fs::read(&path), fs::metadata(&path), path.strip_prefix(top))
            {
                let mode = meta.permissions().mode() & 0o7777;
                found.insert(name.to_string_lossy().into_owned(), File { content, mode });
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, File> {
        pairs
            .iter()
            .map(|(path, text)| ((*path).to_owned(), File { content: text.as_bytes().to_vec(), mode: 0o640 }))
            .collect()
    }

    #[test]
    fn files_are_switched_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        write_files(&volume, &files(&[("a", "1"), ("deep/b", "2")])).unwrap();
        let first = fs::read_link(volume.join("..data")).unwrap();
        assert_eq!(fs::read_to_string(volume.join("deep/b")).unwrap(), "2");
        let mode = fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640);

        write_files(&volume, &files(&[("a", "1"), ("deep/b", "2")])).unwrap();
        assert_eq!(fs::read_link(volume.join("..data")).unwrap(), first, "nothing changed");

        write_files(&volume, &files(&[("a", "9"), ("c", "3")])).unwrap();
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "9");
        assert!(!volume.join("deep").exists());
        assert!(!volume.join(first).exists());
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        remove(&dir.path().join("none")).unwrap();
    }
}
