//! A small PostgreSQL cluster for Barman to back up.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A running server; stopped when dropped.
pub struct Postgres {
    bin: PathBuf,
    dir: tempfile::TempDir,
}

const PORT: &str = "5432";

impl Postgres {
    /// Makes a cluster and starts it, without network, as user `postgres` when the test runs as root.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let this = Self { bin: programs(), dir };
        // Barman's tools must get through.
        std::fs::set_permissions(this.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
        std::fs::create_dir(this.path("ts")).expect("writing");
        if is_root() {
            run(Command::new("chown").arg("-R").arg("postgres").arg(this.dir.path()));
        }
        this.program("initdb", &["-A", "trust", "-U", "postgres", "-N", "-D", &this.text("data")]);
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off -c autovacuum=off -p {PORT}",
            this.dir.path().display()
        );
        let log = this.text("log");
        this.program("pg_ctl", &["-w", "-D", &this.text("data"), "-l", &log, "-o", &options, "start"]);
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Options by which Barman connects.
    pub fn connection(&self) -> [String; 6] {
        [
            "-h".into(),
            self.dir.path().display().to_string(),
            "-p".into(),
            PORT.into(),
            "-U".into(),
            "postgres".into(),
        ]
    }

    /// Runs SQL, one statement a transaction.
    pub fn sql(&self, statements: &[&str]) {
        let host = self.dir.path().display().to_string();
        for statement in statements {
            self.program(
                "psql",
                &["-X", "-v", "ON_ERROR_STOP=1", "-h", &host, "-p", PORT, "-U", "postgres", "-c", statement],
            );
        }
    }

    /// Stops the server cleanly.
    pub fn stop(&self) {
        self.program("pg_ctl", &["-w", "-D", &self.text("data"), "-m", "fast", "stop"]);
    }

    /// Stops the server and starts it again with its settings read anew.
    pub fn restart(&self) {
        let (data, log) = (self.text("data"), self.text("log"));
        self.program("pg_ctl", &["-w", "-D", &data, "-m", "fast", "-l", &log, "restart"]);
    }

    fn command(&self, program: &str) -> Command {
        self.command_of(self.bin.join(program))
    }

    /// A program as the user that the server runs as.
    pub fn command_of(&self, path: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn program(&self, program: &str, arguments: &[&str]) {
        run(self.command(program).args(arguments));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Stopped already, as a rule.
        let data = self.text("data");
        let _ = self.command("pg_ctl").args(["-D", &data, "-m", "immediate", "stop"]).output();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").expect("/proc is mounted").uid() == 0
}

fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|dirs| dirs.filter_map(|dir| Some(dir.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    found.retain(|bin| bin.join("initdb").exists());
    found.sort();
    found.pop().expect("PostgreSQL is missing: apt-get install postgresql-15")
}

/// Output goes to a file: a server that stays would hold a pipe open.
pub fn run(command: &mut Command) {
    let mut log = tempfile::tempfile().expect("a file");
    let status = command
        .stdout(log.try_clone().expect("a file"))
        .stderr(log.try_clone().expect("a file"))
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if !status.success() {
        use std::io::{Read, Seek};
        let mut text = String::new();
        log.rewind().expect("a file");
        log.read_to_string(&mut text).expect("a file");
        panic!("{command:?}: {status}\n{text}");
    }
}

/// Content of all regular files below a directory, by relative path.
pub fn files_below(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(&path).expect("readable") {
            let path = entry.expect("readable").path();
            let kind = std::fs::symlink_metadata(&path).expect("there").file_type();
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                let content = std::fs::read(&path).expect("readable");
                files.push((path.strip_prefix(root).expect("below").to_owned(), content));
            }
        }
    }
    files
}
