//! A PostgreSQL server for the benchmark, stopped when dropped.

use crate::context::Context;
use crate::user::User;
use anyhow::{Context as _, Result, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Settings of all servers: nothing happens by itself, nothing waits for the disk.
const SETTINGS: &str = "listen_addresses = ''\nfsync = off\nwal_level = replica\nmax_wal_senders = 10\n\
    shared_buffers = 256MB\nmax_wal_size = 8GB\nmin_wal_size = 1GB\ncheckpoint_timeout = 1h\nautovacuum = off\n\
    archive_mode = on\narchive_command = '/bin/true'\n";

/// A server.
pub struct Postgres {
    /// Its data directory.
    pub data: PathBuf,
    /// Directory of its socket.
    pub socket: PathBuf,
    /// Folder of its programs.
    pub bin: PathBuf,
    user: User,
}

impl Postgres {
    /// A new cluster with page checksums, not started.
    ///
    /// # Errors
    /// When `initdb` fails.
    pub fn init(context: &Context, bin: &Path, data: &Path) -> Result<()> {
        context.user.make_dir(data)?;
        let mut initdb = context.user.command(&bin.join("initdb"));
        initdb.args(["-k", "-A", "trust", "-U", "postgres", "--no-sync", "--no-locale", "-E", "UTF8", "-D"]);
        succeed(initdb.arg(data))?;
        let mut file = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
        Ok(file.write_all(SETTINGS.as_bytes())?)
    }

    /// Starts a server on a data directory; its socket is in a directory `name` of this run.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(context: &Context, bin: &Path, data: &Path, name: &str) -> Result<Self> {
        let socket = context.fresh(name)?;
        let server = Self { data: data.to_owned(), socket, bin: bin.to_owned(), user: context.user };
        // What an interrupted run left behind.
        server.stop();
        let log = server.socket.join("log");
        let options = format!("-k {}", server.socket.display());
        let mut start = server.command("pg_ctl");
        start
            .arg("-D")
            .arg(data)
            .arg("-l")
            .arg(&log)
            .arg("-o")
            .arg(options)
            .args(["-w", "-t", "120", "start"]);
        // The server keeps the pipes of its starter, so they must not be waited for.
        let status = start.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if !status.success() {
            bail!("PostgreSQL does not start: {}", std::fs::read_to_string(&log).unwrap_or_default());
        }
        Ok(server)
    }

    fn command(&self, program: &str) -> Command {
        self.user.command(&self.bin.join(program))
    }

    /// A program of PostgreSQL's as a client of this server.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.arg("-h").arg(&self.socket).args(["-U", "postgres"]);
        command
    }

    /// Runs SQL in one session; gives what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn sql(&self, sql: &[&str]) -> Result<String> {
        let mut psql = self.client("psql");
        psql.args(["-d", "postgres", "-AtXq", "-v", "ON_ERROR_STOP=1"]);
        for statement in sql {
            psql.arg("-c").arg(statement);
        }
        succeed(&mut psql)
    }

    /// Changes `archive_command`.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn archive_by(&self, command: &str) -> Result<()> {
        let setting = format!("ALTER SYSTEM SET archive_command = '{}'", command.replace('\'', "''"));
        self.sql(&[&setting, "SELECT pg_reload_conf()"]).map(|_| ())
    }

    fn stop(&self) {
        let mut stop = self.command("pg_ctl");
        stop.arg("-D").arg(&self.data).args(["-w", "-t", "60", "-m", "fast", "stop"]);
        // Not running is fine.
        let _ = stop.output();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a command to its end; gives what it prints.
///
/// # Errors
/// When it fails, with what it says.
pub fn succeed(command: &mut Command) -> Result<String> {
    // Not the environment: keys are in it.
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
