//! Real WAL for the archive comparisons: segments that `pgbench` fills, collected once and kept, and directories laid
//! out like a data directory with all of them waiting to be archived.

use crate::context::{Context, remove};
use crate::interrupt;
use crate::postgres::{Postgres, succeed};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// Collected segments.
pub struct WalSet {
    dir: PathBuf,
    control: PathBuf,
    /// Their names, in order.
    pub names: Vec<String>,
}

impl WalSet {
    /// At least `count` segments of a server's, from an earlier run or made now.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub fn open(context: &Context, server: &Postgres, count: usize) -> Result<Self> {
        let name = server.data.file_name().unwrap_or_default().to_string_lossy();
        let dir = context.options.work.join(format!("wal-of-{name}"));
        context.user.make_dir(&dir)?;
        if list(&dir)?.len() < count {
            eprintln!("making {count} WAL segments");
            server.archive_by(&format!("cp %p {0}/.part && mv {0}/.part {0}/%f", dir.display()))?;
            while list(&dir)?.len() < count {
                interrupt::check()?;
                let mut pgbench = server.client("pgbench");
                succeed(pgbench.args(["-n", "-N", "-c", "4", "-j", "2", "-t", "5000", "postgres"]))?;
                server.sql(&["CHECKPOINT"])?;
            }
            server.archive_by("/bin/true")?;
        }
        let mut names = list(&dir)?;
        names.truncate(count);
        Ok(Self { dir, control: server.data.clone(), names })
    }

    /// A directory like a data directory, with all segments in `pg_wal` and waiting. The list of names is beside it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn lay_out(&self, context: &Context, name: &str) -> Result<Layout> {
        let layout = self.lay_out_empty(context, name)?;
        let wal = layout.data.join("pg_wal");
        for segment in &self.names {
            std::fs::copy(self.dir.join(segment), wal.join(segment))
                .with_context(|| format!("cannot copy {segment}"))?;
            std::fs::write(layout.status().join(format!("{segment}.ready")), "")?;
        }
        Ok(layout)
    }

    /// The same without segments, to fetch them into.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn lay_out_empty(&self, context: &Context, name: &str) -> Result<Layout> {
        let data = context.fresh(name)?;
        let (wal, status, global) =
            (data.join("pg_wal"), data.join("pg_wal/archive_status"), data.join("global"));
        for dir in [&wal, &status, &global] {
            context.user.make_dir(dir)?;
        }
        for file in ["global/pg_control", "PG_VERSION"] {
            std::fs::copy(self.control.join(file), data.join(file))
                .with_context(|| format!("cannot copy {file}"))?;
        }
        let list = context.scratch.join(format!("{name}.names"));
        std::fs::write(&list, self.names.join("\n"))?;
        Ok(Layout { data, names: list })
    }

    /// Bytes of a segment as collected.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        std::fs::read(self.dir.join(name)).with_context(|| format!("cannot read {name}"))
    }
}

/// A directory with WAL in it.
pub struct Layout {
    /// Like a data directory.
    pub data: PathBuf,
    /// File with the names, one a line.
    pub names: PathBuf,
}

impl Layout {
    /// Where PostgreSQL marks what is archived.
    #[must_use]
    pub fn status(&self) -> PathBuf {
        self.data.join("pg_wal/archive_status")
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        let _ = remove(&self.data);
    }
}

/// Names of the segments in a directory, in order.
fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_are_listed_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["000000010000000000000002", "000000010000000000000001", ".part", "00000001.history"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(list(dir.path()).unwrap(), ["000000010000000000000001", "000000010000000000000002"]);
    }
}
