//! What a crash or a client that went away left behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::uploads;
use super::volume::{Retention, Volume};

fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Volume {
    /// Removes leftovers and finishes what was begun. `at_start` says that nobody else is at work yet.
    pub fn sweep(&self, retention: Retention, at_start: bool) -> io::Result<()> {
        if at_start {
            for path in children(&self.tmp())? {
                if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
            }
            for dir in children(&self.top.join("parts"))? {
                self.sweep_parts(&dir)?;
            }
        }
        for dir in children(&self.top.join("uploads"))? {
            self.sweep_upload(&dir, retention)?;
        }
        Ok(())
    }

    /// Parts whose object was replaced or removed just before the crash.
    fn sweep_parts(&self, dir: &Path) -> io::Result<()> {
        let Some(record) = uploads::read(dir)? else {
            // Whose they are is not known, so they stay: an object may need them.
            tracing::warn!(path = %dir.display(), "parts without a readable record");
            return Ok(());
        };
        if !self.belongs(&record.template.key, &name(dir))? {
            tracing::info!(key = record.template.key, "parts of an object that is gone are removed");
            self.bury(&name(dir));
        }
        Ok(())
    }

    fn sweep_upload(&self, dir: &Path, retention: Retention) -> io::Result<()> {
        let id = name(dir);
        let _upload = self.lock_upload(&id);
        let Some(record) = uploads::read(dir)? else {
            // None of ours; it goes when nothing is in it.
            let _ = fs::remove_dir(dir);
            return Ok(());
        };
        if self.belongs(&record.template.key, &id)? {
            return self.settle(&id, None);
        }
        // The directory changes with every part that comes.
        let changed = fs::metadata(dir)?.modified()?;
        let age = SystemTime::now().duration_since(changed).unwrap_or_default();
        if age >= retention.uploads {
            tracing::info!(key = record.template.key, upload = id, "an abandoned upload is removed");
            self.bury(&id);
        }
        Ok(())
    }

    fn belongs(&self, key: &str, upload: &str) -> io::Result<bool> {
        self.consists_of(key, upload).map_err(|error| {
            io::Error::other(error.message().unwrap_or("the object cannot be read").to_owned())
        })
    }
}
