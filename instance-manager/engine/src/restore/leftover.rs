//! What lies in the directories already: files that are right by the manifest stay, everything else goes.
//!
//! Checksums decide; times are never looked at. Links are not followed: what is behind them is not the restore's.

use super::check::{Checker, Expected};
use super::extract::{Target, unfinished};
use super::place::PG_CONTROL;
use crate::backup::record::Hasher;
use crate::error::{Error, Result};
use crate::progress::Progress;
use barman_cloud::exclude::tablespace_major;
use std::borrow::Cow;
use std::fs::{DirEntry, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

/// Bytes read at a time.
const BUFFER: usize = 1 << 20;
/// At the top of the data directory: the server's own log files are in no backup, and tell what went wrong before.
const LOGS: [&str; 2] = ["log", "pg_log"];

/// The directories of a restore with what may be in them.
pub struct Leftover<'a> {
    pub targets: &'a [Target],
    pub checker: &'a Checker,
    /// Major version of the backup: a tablespace may hold directories of others.
    pub major: Option<u32>,
}

struct Candidate<'a> {
    path: PathBuf,
    expected: &'a Expected,
}

impl Leftover<'_> {
    /// Keeps every file whose size and checksum are those of the manifest. Reads on `jobs` threads.
    pub fn compare(&self, jobs: usize, progress: &Progress, cancel: &CancellationToken) -> Result<()> {
        let mut candidates = Vec::new();
        for target in self.targets {
            self.walk(target, &mut |entry, name| {
                let (path, meta) = (entry.path(), entry.metadata());
                let expected = self.checker.expected(name).filter(|file| Some(file.size) == len(meta));
                candidates.extend(expected.map(|expected| Candidate { path, expected }));
                Ok(false)
            })?;
        }
        // The largest first, so that no thread is left with one at the end.
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.expected.size));
        progress.restart(candidates.iter().map(|candidate| candidate.expected.size).sum());
        let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..jobs.min(candidates.len()) {
                scope.spawn(|| {
                    let mut buffer = vec![0; BUFFER];
                    while let Some(candidate) = candidates.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if cancel.is_cancelled() {
                            stopped.store(true, Ordering::Relaxed);
                            return;
                        }
                        match is_right(candidate, &mut buffer, progress, cancel) {
                            Ok(true) => candidate.expected.keep(),
                            Ok(false) => {}
                            // It is replaced, so it need not be readable.
                            Err(error) => {
                                tracing::warn!(file = %candidate.path.display(), %error, "cannot be compared");
                            }
                        }
                    }
                });
            }
        });
        if stopped.into_inner() || cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Bytes of each target that [`Leftover::sweep`] will free.
    pub fn freed(&self) -> Result<Vec<u64>> {
        let mut all = Vec::with_capacity(self.targets.len());
        for target in self.targets {
            let mut freed = 0;
            self.walk(target, &mut |entry, name| {
                let meta = entry.metadata();
                if let Ok(meta) = meta
                    && meta.nlink() == 1
                    && !self.checker.is_kept(name)
                {
                    freed += meta.blocks() * 512;
                }
                Ok(false)
            })?;
            all.push(freed);
        }
        Ok(all)
    }

    /// Takes the control file's name away, so that PostgreSQL does not start on what follows.
    pub fn hide_control(&self) -> Result<()> {
        let Some(path) = self.targets.first().map(|data| data.root.join(PG_CONTROL)) else { return Ok(()) };
        let hidden = unfinished(&path);
        let done = if self.checker.is_kept(Path::new(PG_CONTROL)) && !hidden.exists() {
            std::fs::rename(&path, &hidden)
        } else {
            std::fs::remove_file(&path)
        };
        let synced = match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done.and_then(|()| File::open(path.parent().unwrap_or(&path))?.sync_all()),
        };
        synced.map_err(|error| Error::io("cannot take away", &path, error))
    }

    /// Removes everything that is not kept.
    pub fn sweep(&self) -> Result<()> {
        for target in self.targets {
            self.walk(target, &mut |entry, name| {
                if self.checker.is_kept(name) {
                    return Ok(false);
                }
                let path = entry.path();
                std::fs::remove_file(&path).map_err(|error| Error::io("cannot remove", &path, error))?;
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// Shows everything but directories with its name in the manifest. What `visit` answers true for is gone;
    /// directories that become empty by that are removed.
    fn walk(&self, target: &Target, visit: &mut dyn FnMut(&DirEntry, &Path) -> Result<bool>) -> Result<()> {
        if target.root.exists() {
            self.walk_dir(target, Path::new(""), visit)?;
        }
        Ok(())
    }

    /// Returns whether something was removed and nothing is left.
    fn walk_dir(
        &self,
        target: &Target,
        below: &Path,
        visit: &mut dyn FnMut(&DirEntry, &Path) -> Result<bool>,
    ) -> Result<bool> {
        let dir = target.root.join(below);
        let failed = |error| Error::io("cannot list", &dir, error);
        let (mut removed, mut left) = (false, false);
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = below.join(entry.file_name());
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            if self.is_apart(target, &path, is_dir) {
                left = true;
                continue;
            }
            let gone = if is_dir {
                let emptied = self.walk_dir(target, &path, visit)?;
                if emptied {
                    std::fs::remove_dir(entry.path())
                        .map_err(|error| Error::io("cannot remove", &entry.path(), error))?;
                }
                emptied
            } else {
                visit(&entry, &manifest_name(target, &path))?
            };
            removed |= gone;
            left |= !gone;
        }
        Ok(removed && !left)
    }

    /// What is nobody's business here.
    fn is_apart(&self, target: &Target, path: &Path, is_dir: bool) -> bool {
        let Some(name) = path.to_str().filter(|_| path.components().count() == 1) else { return false };
        let is_data = target.manifest_prefix.as_os_str().is_empty();
        match (name, is_data) {
            ("lost+found", _) => true,
            (_, true) => is_dir && LOGS.contains(&name),
            (_, false) => {
                let major = tablespace_major(name);
                major.is_none() || self.major.is_some_and(|own| major != Some(own))
            }
        }
    }
}

/// A control file under its own name counts unless the restore's is beside it.
fn manifest_name<'a>(target: &Target, path: &'a Path) -> Cow<'a, Path> {
    let is_control = target.manifest_prefix.as_os_str().is_empty() && path == Path::new(PG_CONTROL);
    if is_control && target.path(path).exists() {
        return Cow::Owned(unfinished(&target.path(path)));
    }
    target.manifest_name(path)
}

fn len(meta: io::Result<std::fs::Metadata>) -> Option<u64> {
    meta.ok().filter(|meta| meta.is_file()).map(|meta| meta.len())
}

/// Whether a file of the right size has the right content. Without a checksum nobody can tell.
fn is_right(
    candidate: &Candidate<'_>,
    buffer: &mut [u8],
    progress: &Progress,
    cancel: &CancellationToken,
) -> io::Result<bool> {
    let Some(mut hasher) = candidate.expected.checksum.as_ref().and_then(Hasher::like) else {
        progress.add_done(candidate.expected.size);
        return Ok(false);
    };
    let mut file = File::open(&candidate.path)?;
    // Read once, from front to back; a hint that may be refused.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    loop {
        let count = file.read(buffer)?;
        if count == 0 {
            break;
        }
        if cancel.is_cancelled() {
            return Ok(false);
        }
        hasher.update(&buffer[..count]);
        progress.add_done(count as u64);
    }
    Ok(hasher.finish() == candidate.expected.checksum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use barman_cloud::manifest::{FileChecksum, Manifest, ManifestFile};
    use std::os::unix::fs::symlink;

    fn manifest(files: &[(&str, &[u8])]) -> Manifest {
        let files = files.iter().map(|(path, content)| ManifestFile {
            path: path.into(),
            size: content.len() as u64,
            modified: chrono::DateTime::UNIX_EPOCH,
            checksum: Some(FileChecksum::Crc32c(crc32c::crc32c(content))),
        });
        Manifest { version: 1, system_identifier: None, files: files.collect(), wal_ranges: Vec::new() }
    }

    fn put(path: PathBuf, content: &[u8]) {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, content).expect("a file");
    }

    fn names(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut dirs = vec![root.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("lists") {
                let entry = entry.expect("an entry");
                if entry.file_type().expect("a type").is_dir() {
                    dirs.push(entry.path());
                }
                found.push(entry.path().strip_prefix(root).expect("below").display().to_string());
            }
        }
        found.sort();
        found
    }

    #[test]
    fn only_what_the_checksum_confirms_stays() {
        let temp = tempfile::tempdir().expect("a directory");
        let (data, space) = (temp.path().join("data"), temp.path().join("space"));
        let targets = [
            Target { root: data.clone(), manifest_prefix: PathBuf::new() },
            Target { root: space.clone(), manifest_prefix: "pg_tblspc/16400".into() },
        ];
        let checker = Checker::new(Some(manifest(&[
            ("PG_VERSION", b"15\n"),
            ("base/1/1", b"same"),
            ("base/1/2", b"flip"),
            ("base/1/3", b"longer"),
            ("base/2/1", b"behind"),
            ("global/pg_control", b"control"),
            ("pg_tblspc/16400/PG_15_1/5/1", b"same"),
            ("empty", b""),
        ])));
        put(data.join("PG_VERSION"), b"15\n");
        put(data.join("base/1/1"), b"same");
        put(data.join("base/1/2"), b"fl1p");
        put(data.join("base/1/3"), b"short");
        put(data.join("empty"), b"");
        put(data.join("global/pg_control"), b"control");
        put(data.join("log/today"), b"panic");
        put(data.join("lost+found/x"), b"x");
        put(data.join("pg_wal/000000010000000000000001"), b"old");
        put(temp.path().join("outside/1"), b"behind");
        symlink(temp.path().join("outside"), data.join("base/2")).expect("a link");
        put(space.join("PG_15_1/5/1"), b"same");
        put(space.join("PG_15_1/5/9"), b"gone");
        put(space.join("PG_14_1/5/9"), b"of an upgrade");
        put(space.join("note"), b"not PostgreSQL's");

        let leftover = Leftover { targets: &targets, checker: &checker, major: Some(15) };
        let progress = Progress::new();
        leftover.compare(2, &progress, &CancellationToken::new()).expect("compares");
        assert_eq!(checker.kept(), (5, 18));
        assert_eq!(progress.bytes_done(), progress.bytes_total());
        assert!(leftover.freed().expect("counts")[0] > 0);
        leftover.hide_control().expect("hides");
        leftover.sweep().expect("sweeps");
        assert_eq!(
            names(&data),
            [
                "PG_VERSION",
                "base",
                "base/1",
                "base/1/1",
                "empty",
                "global",
                "global/pg_control.howdah-restore",
                "log",
                "log/today",
                "lost+found",
                "lost+found/x"
            ]
        );
        assert_eq!(
            names(&space),
            ["PG_14_1", "PG_14_1/5", "PG_14_1/5/9", "PG_15_1", "PG_15_1/5", "PG_15_1/5/1", "note"]
        );
        assert!(temp.path().join("outside/1").exists(), "what is behind a link is not touched");
    }

    #[test]
    fn a_cancelled_comparison_keeps_nothing_it_did_not_read() {
        let temp = tempfile::tempdir().expect("a directory");
        let targets = [Target { root: temp.path().to_owned(), manifest_prefix: PathBuf::new() }];
        put(temp.path().join("PG_VERSION"), b"15\n");
        let checker = Checker::new(Some(manifest(&[("PG_VERSION", b"15\n")])));
        let cancel = CancellationToken::new();
        cancel.cancel();
        let leftover = Leftover { targets: &targets, checker: &checker, major: None };
        let error = leftover.compare(1, &Progress::new(), &cancel).expect_err("cancelled");
        assert_eq!(error.kind(), crate::ErrorKind::Cancelled);
        assert_eq!(checker.kept(), (0, 0));
    }
}
