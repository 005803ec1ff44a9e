//! A real PostgreSQL for one test: its own directories, its own socket, archiving through the test process.
//!
//! `archive_command` and `restore_command` are shell scripts that hand the request to the test process over named
//! pipes and wait for the exit code, so that the engine under test answers PostgreSQL itself.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Programs of PostgreSQL 15.
pub fn program(name: &str) -> PathBuf {
    program_of(15, name)
}

/// Programs of a version: 15 of the system, others among the parts of the lab.
pub fn program_of(major: u32, name: &str) -> PathBuf {
    let path = match major {
        15 => PathBuf::from("/usr/lib/postgresql/15/bin"),
        other => Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/parts/pg{other}/bin")),
    };
    let path = path.join(name);
    assert!(
        path.exists(),
        "{} is missing: apt-get install -y postgresql-15, or ./hack/test for the parts",
        path.display()
    );
    path
}

/// The user that PostgreSQL runs as: the test's own, or the package's `postgres` when the test runs as root.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    pub fn get() -> Self {
        let own = std::fs::metadata("/proc/self").map(|meta| {
            use std::os::unix::fs::MetadataExt;
            (meta.uid(), meta.gid())
        });
        let (uid, gid) = own.expect("/proc is mounted");
        if uid != 0 {
            return Self { uid, gid };
        }
        let passwd = std::fs::read_to_string("/etc/passwd").expect("a passwd file");
        let entry = passwd.lines().find(|line| line.starts_with("postgres:"));
        let entry = entry.expect("no user postgres: apt-get install -y postgresql-15");
        let number = |field: usize| entry.split(':').nth(field).and_then(|text| text.parse().ok());
        Self { uid: number(2).expect("a uid"), gid: number(3).expect("a gid") }
    }

    pub fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").env_remove("PGDATA").current_dir("/");
        command.uid(self.uid).gid(self.gid);
        command
    }

    /// Makes a directory that belongs to PostgreSQL.
    pub fn make_dir(self, path: &Path) {
        std::fs::create_dir_all(path).expect("a directory");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).expect("a mode");
        chown(path, Some(self.uid), Some(self.gid)).expect("an owner");
    }
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A server, stopped when dropped.
pub struct Postgres {
    pub user: User,
    pub data: PathBuf,
    pub socket: PathBuf,
    major: u32,
    log: PathBuf,
    running: bool,
}

impl Postgres {
    /// A new cluster with page checksums and archiving, not started. `segment` is the WAL segment size in MiB.
    pub fn init(root: &Path, name: &str, segment: u32) -> Self {
        Self::init_version(root, name, 15, &[&format!("--wal-segsize={segment}")])
    }

    /// The same of any version, with more arguments for `initdb`.
    pub fn init_version(root: &Path, name: &str, major: u32, more: &[&str]) -> Self {
        let mut server = Self::adopt(root, name, &root.join(name));
        server.major = major;
        server.user.make_dir(&server.data);
        run(server
            .user
            .command(server.program("initdb"))
            .args(["-k", "-A", "trust", "-U", "postgres", "--no-sync", "--no-locale", "-E", "UTF8"])
            .args(more)
            .arg("-D")
            .arg(&server.data));
        server.configure("fsync = off\nmax_wal_senders = 10\nwal_level = replica\n");
        server
    }

    /// A program of this server's version.
    pub fn program(&self, name: &str) -> PathBuf {
        // Of 13 the lab has the server alone; the tools of 15 know it.
        let of_server = ["initdb", "pg_ctl", "postgres"].contains(&name);
        program_of(if self.major == 13 && !of_server { 15 } else { self.major }, name)
    }

    /// A server on a data directory that is or will be there.
    pub fn adopt(root: &Path, name: &str, data: &Path) -> Self {
        let user = User::get();
        let socket = root.join(format!("{name}.sock"));
        user.make_dir(&socket);
        Self {
            user,
            data: data.to_owned(),
            socket,
            major: 15,
            log: root.join(format!("{name}.sock/log")),
            running: false,
        }
    }

    /// The same server as one of another version.
    pub fn of_version(mut self, major: u32) -> Self {
        self.major = major;
        self
    }

    /// Adds settings.
    pub fn configure(&self, settings: &str) {
        let path = self.data.join("postgresql.conf");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("postgresql.conf");
        writeln!(file, "listen_addresses = ''\nunix_socket_directories = '{}'", self.socket.display())
            .expect("writes");
        file.write_all(settings.as_bytes()).expect("writes");
    }

    pub fn start(&mut self) {
        self.running = true;
        let log = self.log.clone();
        let mut command = self.user.command(self.program("pg_ctl"));
        command.arg("-D").arg(&self.data).arg("-l").arg(&log).args(["-w", "-t", "120", "start"]);
        // The server inherits the pipes of its starter, so they must not be waited for.
        let status = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status();
        assert!(status.expect("pg_ctl starts").success(), "PostgreSQL does not start:\n{}", self.log());
    }

    /// Starts a server that recovers, and waits until it was promoted.
    pub fn start_recovered(&mut self) {
        self.start();
        self.wait("SELECT NOT pg_is_in_recovery()");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn stop(&mut self) {
        if std::mem::take(&mut self.running) {
            let mut command = self.user.command(self.program("pg_ctl"));
            command.arg("-D").arg(&self.data).args(["-w", "-t", "60", "-m", "immediate", "stop"]);
            // Already stopped is fine.
            let _ = command.output();
        }
    }

    pub fn psql(&self) -> Command {
        let mut command = self.user.command(self.program("psql"));
        command.arg("-h").arg(&self.socket).args([
            "-U",
            "postgres",
            "-d",
            "postgres",
            "-AtXq",
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        command
    }

    /// Runs SQL; panics when it fails.
    pub fn sql(&self, sql: &str) -> String {
        let output = run(self.psql().arg("-c").arg(sql));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs SQL in another database; panics when it fails.
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        let output = run(self.psql().arg("-d").arg(database).arg("-c").arg(sql));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Waits until a query says true.
    pub fn wait(&self, query: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while self.sql(query) != "t" {
            assert!(
                std::time::Instant::now() < deadline,
                "waiting for {query} takes too long:\n{}",
                self.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// A digest over all rows of a query.
    pub fn digest(&self, table: &str) -> String {
        self.sql(&format!("SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Two named pipes between a command of PostgreSQL's and the test process.
#[derive(Clone)]
pub struct Bridge {
    dir: PathBuf,
}

impl Bridge {
    /// Makes the pipes in `dir`, and answers requests with the exit code that `answer` gives, until the process ends.
    pub fn new(root: &Path, name: &str, answer: impl Fn(&str) -> u8 + Send + 'static) -> Self {
        let dir = root.join(name);
        User::get().make_dir(&dir);
        for pipe in ["ask", "tell"] {
            let path = dir.join(pipe);
            run(Command::new("mkfifo").arg("-m").arg("0666").arg(&path));
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("a mode");
        }
        let open = |pipe: &str| {
            // For both directions, so that opening never waits and no end is ever missing.
            File::options().read(true).write(true).open(dir.join(pipe)).expect("a pipe")
        };
        let (ask, mut tell) = (open("ask"), open("tell"));
        std::thread::spawn(move || {
            for line in BufReader::new(ask).lines() {
                let Ok(line) = line else { return };
                let code = answer(&line);
                if writeln!(tell, "{code}").is_err() {
                    return;
                }
            }
        });
        Self { dir }
    }

    /// A shell command that asks with these words and exits with the answer.
    pub fn command(&self, words: &str) -> String {
        let dir = self.dir.display();
        format!("echo \"{words}\" > {dir}/ask; read code < {dir}/tell; exit $code")
    }
}

/// Writers that keep files appearing, growing, shrinking and vanishing until stopped.
pub struct Load {
    children: Vec<std::process::Child>,
    stop: PathBuf,
}

impl Load {
    pub fn start(postgres: &Postgres) -> Self {
        postgres.sql("CREATE TABLE IF NOT EXISTS counters (id int PRIMARY KEY, n int); INSERT INTO counters SELECT g, 0 FROM generate_series(1, 2000) g");
        let stop = postgres.socket.join("stop");
        let script = |sql: &str| format!("while [ ! -e '{}' ]; do {sql} || exit 1; done", stop.display());
        let psql = format!(
            "{} -h '{}' -U postgres -d postgres -Xqc",
            postgres.program("psql").display(),
            postgres.socket.display()
        );
        let work = [
            format!(
                "{psql} \"UPDATE counters SET n = n + 1 WHERE id % 7 = 3; UPDATE counters SET n = n + 1 WHERE id = 5\""
            ),
            format!(
                "{psql} \"CREATE TABLE churn AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g\" && {psql} \"TRUNCATE churn\" && {psql} \"DROP TABLE churn\""
            ),
        ];
        let children = work
            .iter()
            .map(|sql| {
                let mut command = postgres.user.command("sh");
                command.arg("-c").arg(script(sql)).spawn().expect("sh starts")
            })
            .collect();
        Self { children, stop }
    }

    /// Waits for the statements under way.
    pub fn stop(mut self) {
        std::fs::write(&self.stop, "").expect("a file");
        for mut child in self.children.drain(..) {
            assert!(child.wait().expect("ends").success(), "the load failed");
        }
        std::fs::remove_file(&self.stop).expect("removes");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A failed test: the writers must not outlive it.
        let _ = std::fs::write(&self.stop, "");
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}
