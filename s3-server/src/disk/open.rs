//! Taking up a directory: whose it is, that nobody else has it, and what a crash left in it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::tree;
use super::volume::remove_all;

/// Says what the directory is.
const MARKER: &str = "howdah-repository.json";
/// The only format so far.
const FORMAT: u32 = 1;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refuses.
    #[error("cannot {action} {}: check owner, mode and free space of the volume", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another process serves it.
    #[error("{} is in use by another process: only one may serve a volume; this passes when that one ends", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to something else.
    #[error("{} {what}: mount the volume of this repository there, or an empty one", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The bucket's name cannot be used.
    #[error("{name:?} cannot be the name of a repository: use letters, digits and hyphens")]
    Name {
        /// The name.
        name: String,
    },
}

impl OpenError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
    bucket: String,
    created: DateTime<Utc>,
}

/// A directory that is ours now.
pub(super) struct Prepared {
    pub created: DateTime<Utc>,
    pub lock: File,
}

/// Whether a name is one directory and one bucket.
pub(super) fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'))
        && !name.starts_with(['.', '-'])
}

/// Whether a directory was made a volume once.
pub(super) fn is_volume(dir: &Path) -> bool {
    dir.join(MARKER).is_file()
}

/// Makes `top` a volume of bucket `name`, or checks that it is one, and locks it.
pub(super) fn prepare(name: &str, top: &Path) -> Result<Prepared, OpenError> {
    if !is_name(name) {
        return Err(OpenError::Name { name: name.to_owned() });
    }
    fs::create_dir_all(top).map_err(OpenError::io("make", top))?;
    let path = top.join("lock");
    let lock = File::create(&path).map_err(OpenError::io("write", &path))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::InUse { path: top.to_owned() }),
        Err(error) => return Err(OpenError::io("lock", &path)(error.into())),
    }
    let marker = marker(name, top)?;
    for below in ["objects", "uploads", "parts", "tmp"] {
        let dir = top.join(below);
        fs::create_dir_all(&dir).map_err(OpenError::io("make", &dir))?;
    }
    tree::sync(top).map_err(OpenError::io("flush", top))?;
    Ok(Prepared { created: marker.created, lock })
}

fn marker(name: &str, top: &Path) -> Result<Marker, OpenError> {
    let path = top.join(MARKER);
    let foreign = |what: String| OpenError::Foreign { path: top.to_owned(), what };
    match fs::read(&path) {
        Ok(bytes) => {
            let found: Marker = serde_json::from_slice(&bytes)
                .map_err(|error| foreign(format!("holds an unreadable {MARKER} ({error})")))?;
            if found.bucket != name {
                return Err(foreign(format!("belongs to repository {}, not to {name}", found.bucket)));
            }
            if found.format != FORMAT {
                return Err(foreign(format!("has format {}, written by another version", found.format)));
            }
            Ok(found)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if top.join("objects").exists() {
                return Err(foreign(format!("holds objects and no {MARKER}")));
            }
            let made = Marker { format: FORMAT, bucket: name.to_owned(), created: Utc::now() };
            write(&path, &made).map_err(OpenError::io("write", &path))?;
            Ok(made)
        }
        Err(error) => Err(OpenError::io("read", &path)(error)),
    }
}

/// Writes JSON beside `path` and renames it over `path`.
pub(super) fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), tree::sync)
}

/// Takes the parts of an upload out of sight with one rename, then removes them.
pub(super) fn bury(top: &Path, upload: &str) -> io::Result<()> {
    let grave = top.join("tmp").join(format!("{upload}.gone"));
    for at in ["uploads", "parts"] {
        let dir = top.join(at).join(upload);
        match fs::rename(&dir, &grave) {
            Ok(()) => {
                tree::sync(&top.join(at))?;
                remove_all(&grave)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
