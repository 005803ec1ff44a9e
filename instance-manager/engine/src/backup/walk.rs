//! Lists what a backup will read: directories, files and links of one tree, in Barman's order (a directory, its
//! files, then its subdirectories), in a form small enough for millions of files.

use super::rules;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::exclude::{FileType, Scope, Verdict};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A tree to list.
#[derive(Debug, Clone, Copy)]
pub struct Root<'a> {
    /// Its top; may be a link.
    pub path: &'a Path,
    /// Which rules it is read by.
    pub scope: Scope,
    /// Real locations of directories to leave out, because they get tars of their own.
    pub apart: &'a [PathBuf],
}

/// A directory in the backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirItem {
    /// Relative to the root; empty for the root itself.
    pub path: PathBuf,
    /// Where it is read from; elsewhere than `path` says when a link led to it.
    pub source: PathBuf,
    /// Permission bits, owner, group, modification time.
    pub stat: Stat,
}

/// A file in the backup; its metadata is taken when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileItem {
    /// Index of its directory.
    pub dir: u32,
    /// Name in that directory.
    pub name: Box<OsStr>,
    /// Size when it was listed.
    pub size: u64,
}

/// A symbolic link in the backup, kept as a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkItem {
    /// Relative to the root.
    pub path: PathBuf,
    /// Where it leads.
    pub target: PathBuf,
    /// Owner, group, modification time.
    pub stat: Stat,
}

/// Metadata of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in whole seconds.
    pub mtime: i64,
}

impl From<&Metadata> for Stat {
    fn from(meta: &Metadata) -> Self {
        Self { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid(), mtime: meta.mtime() }
    }
}

/// A listed tree.
#[derive(Debug, Default)]
pub struct Tree {
    /// Directories, parents before children.
    pub dirs: Vec<DirItem>,
    /// Files in Barman's order.
    pub files: Vec<FileItem>,
    /// Links.
    pub links: Vec<LinkItem>,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Tree {
    /// Path of a file relative to the root, and where to read it.
    pub fn paths(&self, file: &FileItem) -> (PathBuf, PathBuf) {
        let dir = &self.dirs[file.dir as usize];
        (dir.path.join(&*file.name), dir.source.join(&*file.name))
    }
}

struct Pending {
    path: PathBuf,
    source: PathBuf,
    /// Do not go in.
    empty: bool,
    /// Device and inode of the directories that links led to on the way here: a link back ends there.
    followed: Vec<(u64, u64)>,
}

/// Lists a tree. Entries that vanish meanwhile are left out; an unreadable directory is an error, because a backup
/// without it would not be whole.
pub fn walk(root: Root<'_>) -> Result<Tree> {
    let real_root = root.path.canonicalize().map_err(|error| Error::io("cannot find", root.path, error))?;
    let mut tree = Tree::default();
    let top = Pending { path: PathBuf::new(), source: real_root.clone(), empty: false, followed: Vec::new() };
    let mut stack = vec![top];
    while let Some(dir) = stack.pop() {
        let is_root = dir.path.as_os_str().is_empty();
        let meta = match std::fs::metadata(&dir.source) {
            Ok(meta) => meta,
            Err(error) if !is_root && error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("cannot look at", &dir.source, error)),
        };
        let index = u32::try_from(tree.dirs.len()).map_err(|_| {
            Error::new(ErrorKind::Invalid, format!("{} has too many directories", root.path.display()))
        })?;
        tree.dirs.push(DirItem {
            path: dir.path.clone(),
            source: dir.source.clone(),
            stat: Stat::from(&meta),
        });
        if dir.empty {
            continue;
        }
        let mut children = list(&mut tree, index, &dir, root, &real_root)?;
        // The stack gives the last one first.
        children.reverse();
        stack.append(&mut children);
    }
    Ok(tree)
}

/// Adds files and links of one directory; returns its subdirectories.
fn list(
    tree: &mut Tree,
    index: u32,
    dir: &Pending,
    root: Root<'_>,
    real_root: &Path,
) -> Result<Vec<Pending>> {
    let names = match names(&dir.source) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound && dir.source != real_root => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(Error::io("cannot list", &dir.source, error)),
    };
    let unlogged = if rules::is_database_dir(&dir.path) {
        rules::unlogged(names.iter().filter_map(|name| name.to_str()))
    } else {
        HashSet::new()
    };
    let mut children = Vec::new();
    for name in names {
        if rules::is_unlogged_content(&name.to_string_lossy(), &unlogged) {
            continue;
        }
        let (path, source) = (dir.path.join(&name), dir.source.join(&name));
        let meta = match std::fs::symlink_metadata(&source) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("cannot look at", &source, error)),
        };
        if root.apart.contains(&source) {
            continue;
        }
        let file_type = file_type(&meta, &source);
        match rules::verdict(root.scope, &path, file_type) {
            // The control file is read last, by the caller.
            Verdict::Skip | Verdict::Last => {}
            Verdict::Include => match file_type {
                FileType::File => {
                    tree.bytes += meta.len();
                    tree.files.push(FileItem {
                        dir: index,
                        name: name.into_boxed_os_str(),
                        size: meta.len(),
                    });
                }
                FileType::Directory => {
                    children.push(Pending { path, source, empty: false, followed: dir.followed.clone() });
                }
                FileType::Link | FileType::LinkToDirectory => add_link(tree, path, &source, &meta)?,
                FileType::Fifo | FileType::Other => {
                    tracing::debug!(path = %source.display(), "neither file, directory nor link: left out");
                }
            },
            Verdict::IncludeEmpty | Verdict::ReplaceByEmpty => {
                children.push(Pending { path, source, empty: true, followed: Vec::new() });
            }
            Verdict::Follow => match follow(&source, root, real_root, &dir.followed) {
                Some((real, followed)) => {
                    children.push(Pending { path, source: real, empty: false, followed })
                }
                None => add_link(tree, path, &source, &meta)?,
            },
        }
    }
    Ok(children)
}

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut names = std::fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

fn file_type(meta: &Metadata, source: &Path) -> FileType {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    if kind.is_file() {
        FileType::File
    } else if kind.is_dir() {
        FileType::Directory
    } else if kind.is_symlink() {
        if source.is_dir() { FileType::LinkToDirectory } else { FileType::Link }
    } else if kind.is_fifo() {
        FileType::Fifo
    } else {
        FileType::Other
    }
}

fn add_link(tree: &mut Tree, path: PathBuf, source: &Path, meta: &Metadata) -> Result<()> {
    match std::fs::read_link(source) {
        Ok(target) => tree.links.push(LinkItem { path, target, stat: Stat::from(meta) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("cannot read the link", source, error)),
    }
    Ok(())
}

/// A link to a directory outside of the tree stands for its content: a restore must bring it back. One that leads to
/// what the tree holds anyway, or back to where it came from, stays a link.
fn follow(
    source: &Path,
    root: Root<'_>,
    real_root: &Path,
    followed: &[(u64, u64)],
) -> Option<(PathBuf, Vec<(u64, u64)>)> {
    let real = source.canonicalize().ok()?;
    let meta = std::fs::metadata(&real).ok()?;
    let id = (meta.dev(), meta.ino());
    let known = real.starts_with(real_root) || real_root.starts_with(&real) || root.apart.contains(&real);
    if known || followed.contains(&id) {
        return None;
    }
    let mut followed = followed.to_vec();
    followed.push(id);
    Some((real, followed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn touch(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, content).expect("a file");
    }

    fn shown(tree: &Tree) -> Vec<String> {
        let dirs = tree.dirs.iter().map(|dir| format!("{}/", dir.path.display()));
        let files = tree.files.iter().map(|file| tree.paths(file).0.display().to_string());
        let links =
            tree.links.iter().map(|link| format!("{} -> {}", link.path.display(), link.target.display()));
        dirs.chain(files).chain(links).collect()
    }

    fn data(root: &Path) -> Root<'_> {
        Root { path: root, scope: Scope::Data, apart: &[] }
    }

    #[test]
    fn a_directory_comes_before_its_files_and_these_before_its_subdirectories() {
        let temp = tempfile::tempdir().expect("a directory");
        let root = temp.path();
        for path in [
            "PG_VERSION",
            "base/5/1",
            "base/5/2_init",
            "base/5/2",
            "base/x",
            "global/pg_control",
            "global/1",
            "pg_wal/000000010000000000000001",
            "pg_wal/archive_status/x.ready",
            "postmaster.pid",
        ] {
            touch(root, path, "12345");
        }
        let tree = walk(data(root)).expect("walks");
        assert_eq!(
            shown(&tree),
            [
                "/",
                "base/",
                "base/5/",
                "global/",
                "pg_wal/",
                "PG_VERSION",
                "base/x",
                "base/5/1",
                "base/5/2_init",
                "global/1"
            ]
        );
        assert_eq!(tree.bytes, 25);
    }

    #[test]
    fn links_to_directories_outside_are_followed_and_others_kept() {
        let temp = tempfile::tempdir().expect("a directory");
        let (root, outside) = (temp.path().join("data"), temp.path().join("outside"));
        touch(&root, "base/1/a", "x");
        touch(&outside, "wal/000000010000000000000001", "x");
        touch(&outside, "big/b", "xyz");
        touch(&outside, "file", "x");
        symlink(outside.join("wal"), root.join("pg_wal")).expect("a link");
        symlink(outside.join("big"), root.join("base/2")).expect("a link");
        symlink(outside.join("big"), outside.join("big/itself")).expect("a link");
        symlink("base", root.join("inner")).expect("a link");
        symlink(outside.join("file"), root.join("to_file")).expect("a link");
        symlink("nowhere", root.join("dangling")).expect("a link");
        let tree = walk(data(&root)).expect("walks");
        let found = shown(&tree);
        assert!(found.contains(&"pg_wal/".to_owned()), "{found:?}");
        assert!(found.contains(&"base/2/b".to_owned()), "{found:?}");
        assert!(found.contains(&"dangling -> nowhere".to_owned()), "{found:?}");
        assert!(found.contains(&"inner -> base".to_owned()), "{found:?}");
        assert!(found.iter().any(|line| line.starts_with("to_file -> ")), "{found:?}");
        assert!(found.iter().any(|line| line.starts_with("base/2/itself -> ")), "{found:?}");
        assert!(!found.iter().any(|line| line.contains("000000010000000000000001")), "{found:?}");
    }

    #[test]
    fn in_place_tablespaces_stay_and_linked_ones_go() {
        let temp = tempfile::tempdir().expect("a directory");
        let (root, space) = (temp.path().join("data"), temp.path().join("ts"));
        touch(&root, "pg_tblspc/16400/PG_15_202209061/5/1", "x");
        touch(&root, "inside/PG_15_202209061/5/1", "x");
        touch(&space, "PG_15_202209061/5/2", "x");
        touch(&space, "PG_14_202107181/5/2", "x");
        symlink(&space, root.join("pg_tblspc/16399")).expect("a link");
        let apart = [space.clone(), root.canonicalize().expect("real").join("inside")];
        let tree = walk(Root { apart: &apart, ..data(&root) }).expect("walks");
        assert_eq!(
            shown(&tree),
            [
                "/",
                "pg_tblspc/",
                "pg_tblspc/16400/",
                "pg_tblspc/16400/PG_15_202209061/",
                "pg_tblspc/16400/PG_15_202209061/5/",
                "pg_tblspc/16400/PG_15_202209061/5/1"
            ]
        );
        let own = walk(Root { scope: Scope::Tablespace { major: 15 }, ..data(&space) }).expect("walks");
        assert_eq!(shown(&own), ["/", "PG_15_202209061/", "PG_15_202209061/5/", "PG_15_202209061/5/2"]);
    }

    #[test]
    fn a_missing_root_is_an_error_that_names_it() {
        let error = walk(data(Path::new("/nowhere/at/all"))).expect_err("no root");
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
