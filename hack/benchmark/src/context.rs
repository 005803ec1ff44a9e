//! What every part of the benchmark needs to know: programs, directories, the S3 servers.

use crate::options::Options;
use crate::s3::{Kind, S3};
use crate::user::User;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// Bucket of all.
pub const BUCKET: &str = "bench";

/// Everything that stays during a run.
pub struct Context {
    /// The command line.
    pub options: Options,
    /// This program.
    pub own: PathBuf,
    /// Files of single runs; emptied at the start.
    pub scratch: PathBuf,
    /// Who PostgreSQL runs as.
    pub user: User,
    /// The S3 server over HTTP.
    pub s3: S3,
    /// A second one over TLS, for pgBackRest, which speaks nothing else.
    pub s3_tls: S3,
    /// Cipher of Howdah's repository; empty without.
    pub cipher: std::cell::Cell<&'static str>,
}

impl Context {
    /// Looks for the programs, makes the directories, starts the S3 servers.
    ///
    /// # Errors
    /// When a program is missing or a server does not start.
    pub async fn new(options: Options) -> Result<Self> {
        let own = std::env::current_exe().context("this program cannot find itself")?;
        let user = User::find()?;
        for program in [
            options.programs.join("engine-cli"),
            options.programs.join("instance-manager"),
            options.programs.join("howdah-s3"),
            options.postgres.join("postgres"),
            options.postgres.join("pgbench"),
            options.postgres_pgbackrest.join("postgres"),
        ] {
            need(&program, "run hack/bench, which builds and installs what is missing")?;
        }
        user.make_dir(&options.work)?;
        let scratch = options.work.join("run");
        let _ = std::fs::remove_dir_all(&scratch);
        user.make_dir(&scratch)?;
        let server = options.programs.join("howdah-s3");
        let disk = scratch.join("store");
        let s3 = S3::start(&server, Kind::new(options.store, &disk.join("http")), None).await?;
        let certificate = scratch.join("s3.pem");
        let s3_tls =
            S3::start(&server, Kind::new(options.store, &disk.join("tls")), Some(&certificate)).await?;
        Ok(Self { own, scratch, user, s3, s3_tls, cipher: std::cell::Cell::new(""), options })
    }

    /// A program of Howdah's.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.options.programs.join(name)
    }

    /// A directory for one run, empty.
    ///
    /// # Errors
    /// When it cannot be emptied or made.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let dir = self.scratch.join(name);
        remove(&dir)?;
        self.user.make_dir(&dir)?;
        Ok(dir)
    }
}

/// Removes a directory, when it is there.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Fails when a program is not there.
///
/// # Errors
/// Names it and the remedy.
pub fn need(program: &Path, remedy: &str) -> Result<()> {
    if !program.exists() {
        bail!("{} is missing: {remedy}", program.display());
    }
    Ok(())
}
