//! Which directories with content a restore may work on.

use super::extract::Target;
use super::marker::is_empty;
use crate::control::ControlData;
use crate::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The directories of a delta restore that belong to the data directory that is there, after making sure that it is
/// one of this system. None when there is nothing in it.
pub fn owned(
    pgdata: &Path,
    targets: &[Target],
    wal_dir: Option<&Path>,
    system_id: Option<u64>,
) -> Result<Vec<PathBuf>> {
    if is_empty(pgdata)? {
        return Ok(Vec::new());
    }
    same_system(pgdata, system_id)?;
    let mut owned = vec![pgdata.to_owned()];
    for target in targets.iter().filter(|target| !target.manifest_prefix.as_os_str().is_empty()) {
        if leads_to(&pgdata.join(&target.manifest_prefix), &target.root) {
            owned.push(target.root.clone());
        }
    }
    owned.extend(wal_dir.filter(|wal_dir| leads_to(&pgdata.join("pg_wal"), wal_dir)).map(Path::to_owned));
    Ok(owned)
}

fn leads_to(link: &Path, dir: &Path) -> bool {
    matches!((link.canonicalize(), dir.canonicalize()), (Ok(link), Ok(dir)) if link == dir)
}

fn same_system(pgdata: &Path, wanted: Option<u64>) -> Result<()> {
    let refused = |what: String| {
        Err(Error::new(ErrorKind::Lineage, what)
            .with_remedy("give the data directory that the backup was taken of, or an empty one"))
    };
    let found = match ControlData::read(pgdata) {
        Ok(control) => control.system_id,
        Err(error) => {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{} holds something, but no data directory that can be recognised", pgdata.display()),
            )
            .with_source(error)
            .with_remedy("restore into an empty directory; move away what is there"));
        }
    };
    match wanted {
        Some(wanted) if wanted == found => Ok(()),
        Some(wanted) => refused(format!(
            "{} holds the database system {found}, the backup is of system {wanted}",
            pgdata.display()
        )),
        None => refused("the backup does not say which database system it is of".to_owned()),
    }
}

/// Refuses a directory that a server runs on. A server's working directory is its data directory, so a process id that was taken over by another program is
/// no obstacle.
pub fn not_running(pgdata: &Path) -> Result<()> {
    let path = pgdata.join("postmaster.pid");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("cannot read", &path, error)),
    };
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else {
        return Ok(());
    };
    let runs = match std::fs::canonicalize(format!("/proc/{pid}/cwd")) {
        Ok(cwd) => pgdata.canonicalize().is_ok_and(|pgdata| pgdata == cwd),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if runs {
        return Err(Error::new(
            ErrorKind::Precondition,
            format!("a server runs on {} with process id {pid}", pgdata.display()),
        )
        .with_remedy("stop the server first"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_working_directory() {
        let temp = tempfile::tempdir().expect("a directory");
        not_running(temp.path()).expect("no file");
        std::fs::write(temp.path().join("postmaster.pid"), format!("{}\n", std::process::id()))
            .expect("writes");
        not_running(temp.path()).expect("this process works elsewhere");
        let mut child = std::process::Command::new("sleep")
            .arg("600")
            .current_dir(temp.path())
            .spawn()
            .expect("sleep starts");
        std::fs::write(temp.path().join("postmaster.pid"), format!("{}\n", child.id())).expect("writes");
        let error = not_running(temp.path()).expect_err("it works here");
        child.kill().expect("ends");
        child.wait().expect("ended");
        assert_eq!(error.kind(), ErrorKind::Precondition);
        not_running(temp.path()).expect("nobody has that number");
    }

    #[test]
    fn an_empty_directory_needs_no_questions_and_a_strange_one_is_refused() {
        let temp = tempfile::tempdir().expect("a directory");
        assert!(owned(temp.path(), &[], None, None).expect("empty").is_empty());
        std::fs::write(temp.path().join("precious"), "x").expect("writes");
        let error = owned(temp.path(), &[], None, Some(1)).expect_err("no data directory");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(temp.path().join("precious").exists());
    }
}
