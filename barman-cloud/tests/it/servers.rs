//! Servers of the other storages, as their makers ship them, on loopback ports. Each test has its own, which ends with
//! the test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A server that runs until it is dropped.
pub struct Running {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Running {
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // By its own pid. It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn part(name: &str, program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/parts").join(name).join(program);
    assert!(path.exists(), "{} is missing: run hack/install {name}", path.display());
    path
}

/// Begins a program that ends with this one at the latest, also when this one is killed.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    command
}

/// The first line that satisfies `test`; what comes after it is read and dropped, so that the server never waits.
fn wait_for(output: impl std::io::Read + Send + 'static, name: &str, test: impl Fn(&str) -> bool) -> String {
    let mut lines = BufReader::new(output).lines();
    let mut seen = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        if test(&line) {
            std::thread::spawn(move || lines.for_each(drop));
            return line;
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    panic!("{name} ended before it listened:\n{seen}");
}

/// Azure Blob Storage, in memory.
pub fn azurite() -> Running {
    let program = part("azurite", "node_modules/.bin/azurite-blob");
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = command(&program)
        .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent"])
        .args(["--disableTelemetry", "--skipApiVersionCheck"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it can be started");
    let output = child.stdout.take().expect("piped");
    let line = wait_for(output, "azurite", |line| line.contains("successfully listens on"));
    let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    Running { child, port, _dir: dir }
}

/// Google Cloud Storage, in memory, with one bucket.
pub fn fake_gcs(bucket: &str) -> Running {
    let program = part("fake-gcs", "fake-gcs-server");
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join(bucket)).expect("a directory");
    // It does not tell a port that it chose itself.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut child = command(&program)
        .args(["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-public-host", "127.0.0.1"])
        .args(["-port", &port.to_string()])
        .arg("-data")
        .arg(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let output = child.stderr.take().expect("piped");
    wait_for(output, "fake-gcs-server", |line| line.contains("server started"));
    Running { child, port, _dir: dir }
}
