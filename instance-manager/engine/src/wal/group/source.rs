//! Where a file that one repository lacks comes from: `pg_wal`, while PostgreSQL keeps it, else another repository.

use super::{Inner, Member};
use crate::control::ControlData;
use crate::error::{Error, ErrorKind, Result};
use crate::wal::hold::holds_segment;
use barman_cloud::WalName;
use barman_cloud::archive::{FetchOptions, WalObject, WalSource};
use std::path::{Path, PathBuf};

/// A file that one repository lacks, and the objects that hold it in others (by their place in the group).
#[derive(Debug, Clone)]
pub struct Wanted {
    pub name: WalName,
    pub found: Vec<(usize, WalObject)>,
}

/// A file in the scratch directory; it goes when this does.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: the directory is emptied at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A copy of the file; `None` when nobody has it any more.
pub async fn copy(inner: &Inner, target: &Member, wanted: &Wanted) -> Result<Option<Scratch>> {
    let scratch = Scratch(inner.scratch.join(format!("{}-{}", target.name, wanted.name)));
    let control = inner.control().ok_or_else(|| super::no_server(&inner.pgdata))?.clone();
    let (segment_size, system_id) = (control.wal_segment_size, control.system_id);
    let (name, to, wal) = (wanted.name, scratch.path().to_owned(), inner.pgdata.join("pg_wal"));
    let copied = tokio::task::spawn_blocking(move || copy_local(name, &wal, &to, &control)).await;
    match copied {
        Ok(Ok(true)) => return Ok(Some(scratch)),
        Ok(Ok(false)) => {}
        Ok(Err(error)) if error.kind() == ErrorKind::DiskFull => return Err(error),
        Ok(Err(error)) => {
            tracing::debug!(%name, error = %error.report(), "not taken from pg_wal");
        }
        Err(error) => tracing::debug!(%name, %error, "not taken from pg_wal"),
    }
    let check = FetchOptions {
        segment_size: Some(segment_size),
        system_id: Some(system_id),
        ..FetchOptions::default()
    };
    let mut trouble = None;
    for (at, object) in &wanted.found {
        let Ok(archiver) = &inner.members[*at].archiver else { continue };
        match archiver.repository().fetch_wal_object(object, scratch.path(), &check).await {
            Ok(_) => return Ok(Some(scratch)),
            // Retention took it between the listing and the request.
            Err(error) if error.is_not_found() => {}
            Err(error) => drop(trouble.get_or_insert(error)),
        }
    }
    trouble.map_or(Ok(None), |error| Err(Error::from(error)))
}

/// Copies a file of `pg_wal`, unless PostgreSQL uses it for something else by now. Only one that PostgreSQL calls complete
/// counts: a replica that was promoted may have had the beginning of one, and names are given to empty files ahead.
fn copy_local(name: WalName, wal: &Path, to: &Path, control: &ControlData) -> Result<bool> {
    let complete = ["done", "ready"]
        .iter()
        .any(|state| wal.join("archive_status").join(format!("{name}.{state}")).exists());
    let path = &wal.join(name.to_string());
    let Ok(source) = WalSource::pinned(path) else { return Ok(false) };
    if !complete {
        return Ok(false);
    }
    std::fs::copy(path, to).map_err(|error| Error::io("cannot copy", path, error))?;
    if source.check().is_err() {
        return Ok(false);
    }
    match name.segment().filter(|_| name.has_segment_size()) {
        Some(segment) => holds_segment(to, segment, control),
        None => Ok(std::fs::metadata(to).map_err(|error| Error::io("cannot look at", to, error))?.len() > 0),
    }
}
