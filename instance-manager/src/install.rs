//! `install DIR`: what the init container `bootstrap-controller` does.
//!
//! It runs in the operator's image, which may hold nothing but this program: no shell, no libraries, no
//! `/etc/passwd`. Everything is written beside its final name and renamed, so a crash leaves no half file.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{getgid, getuid};

/// Whose passwd and group entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// User id of PostgreSQL in the pod.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

impl Ids {
    /// The given ids, or those of this process.
    #[must_use]
    pub fn or_own(uid: Option<u32>, gid: Option<u32>) -> Self {
        Self { uid: uid.unwrap_or_else(|| getuid().as_raw()), gid: gid.unwrap_or_else(|| getgid().as_raw()) }
    }
}

/// A step of the installation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}; the volume must be writable for user {uid}", path.display())]
pub struct InstallError {
    step: &'static str,
    path: PathBuf,
    uid: u32,
    source: io::Error,
}

/// Content of `/etc/passwd` in the pod.
#[must_use]
pub fn passwd(ids: Ids) -> String {
    let Ids { uid, gid } = ids;
    let own = format!("postgres:x:{uid}:{gid}:PostgreSQL:/tmp:/bin/sh\n");
    if uid == 0 { own } else { format!("root:x:0:0:root:/root:/bin/sh\n{own}") }
}

/// Content of `/etc/group` in the pod.
#[must_use]
pub fn group(ids: Ids) -> String {
    let own = format!("postgres:x:{}:\n", ids.gid);
    if ids.gid == 0 { own } else { format!("root:x:0:\n{own}") }
}

/// Copies this program and writes the pod's files into `dir`.
///
/// # Errors
/// Names the step and the path; trying again is safe.
pub fn install(program: &Path, dir: &Path, ids: Ids) -> Result<(), InstallError> {
    let fail = |step, path: &Path| {
        let path = path.to_owned();
        move |source| InstallError { step, path, uid: getuid().as_raw(), source }
    };
    fs::create_dir_all(dir).map_err(fail("make the directory", dir))?;

    let target = dir.join("instance-manager");
    let temporary = dir.join(".instance-manager.new");
    fs::copy(program, &temporary).map_err(fail("copy the manager to", &temporary))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))
        .map_err(fail("make executable", &temporary))?;
    fs::rename(&temporary, &target).map_err(fail("install the manager as", &target))?;

    for (name, content) in [("passwd", passwd(ids)), ("group", group(ids))] {
        let path = dir.join(name);
        write_atomically(&path, content.as_bytes(), 0o644).map_err(fail("write", &path))?;
    }
    for (name, mode) in [("run", 0o770), ("run/certificates", 0o700), ("spool", 0o770)] {
        let path = dir.join(name);
        fs::create_dir_all(&path).map_err(fail("make the directory", &path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(fail("set the mode of", &path))?;
    }
    Ok(())
}

/// Writes `content` beside `path`, with `mode` from the first byte on, and renames it over `path`.
///
/// # Errors
/// Those of the file system; `path` is then as it was.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or_else(|| io::Error::other("the path has no file name"))?);
    name.push(".new");
    let temporary = path.with_file_name(name);
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(dir) = path.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_gets_an_executable_its_user_and_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        fs::write(&program, b"#!").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o555)).unwrap();
        let target = dir.path().join("controller");
        for _ in 0..2 {
            install(&program, &target, Ids { uid: 26, gid: 27 }).unwrap();
        }
        let mode = fs::metadata(target.join("instance-manager")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(
            fs::read_to_string(target.join("passwd")).unwrap(),
            "root:x:0:0:root:/root:/bin/sh\npostgres:x:26:27:PostgreSQL:/tmp:/bin/sh\n"
        );
        assert_eq!(fs::read_to_string(target.join("group")).unwrap(), "root:x:0:\npostgres:x:27:\n");
        assert!(target.join("run/certificates").is_dir() && target.join("spool").is_dir());
    }

    #[test]
    fn a_read_only_volume_is_named() {
        let error = install(Path::new("/proc/self/exe"), Path::new("/proc/nowhere"), Ids { uid: 1, gid: 1 })
            .unwrap_err()
            .to_string();
        assert!(error.contains("/proc/nowhere") && error.contains("must be writable"), "{error}");
    }

    #[test]
    fn secrets_are_never_readable_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_atomically(&path, b"a", 0o600).unwrap();
        write_atomically(&path, b"b", 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"b");
    }
}
