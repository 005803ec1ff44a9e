//! A server, and clients for it.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use howdah_lab_apiserver::ApiServer;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing here takes this long unless it is broken.
pub const LONG: Duration = Duration::from_secs(60);

pub struct Lab {
    pub server: ApiServer,
    pub client: Client,
    pub home: TempDir,
}

impl Lab {
    pub async fn start() -> Self {
        Self::with(ApiServer::builder()).await
    }

    pub async fn with(builder: howdah_lab_apiserver::Builder) -> Self {
        let server = builder.start().await.unwrap();
        let home = tempfile::tempdir().unwrap();
        let text = server.admin_kubeconfig().unwrap();
        std::fs::write(home.path().join("kubeconfig"), &text).unwrap();
        let client = client(&text).await;
        Self { server, client, home }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.home.path().join("kubeconfig")
    }

    /// Runs a `kubectl` without blocking the server.
    pub async fn kubectl(&self, program: &Path, arguments: &[&str], input: &str) -> Output {
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.home.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await.unwrap();
        drop(stdin);
        tokio::time::timeout(LONG, child.wait_with_output()).await.expect("kubectl ends").unwrap()
    }

    /// Runs a `kubectl` that must succeed, and returns what it printed.
    pub async fn kubectl_ok(&self, program: &Path, arguments: &[&str], input: &str) -> String {
        let output = self.kubectl(program, arguments, input).await;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{} {arguments:?}: {out}{err}", program.display());
        out
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A client from the text of a kubeconfig.
pub async fn client(kubeconfig: &str) -> Client {
    let parsed = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
    // Refusals are what the tests look at.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Waits until something holds.
pub async fn eventually<F, Fut>(what: &str, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + LONG;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The `kubectl` on the machine.
pub fn system_kubectl() -> PathBuf {
    let found = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|d| d.join("kubectl")).find(|p| p.is_file()));
    found.expect("no kubectl on PATH: apt-get install kubernetes-client")
}

/// Debian's old `kubectl`, unpacked below `target/`.
pub fn old_kubectl() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubernetes-client");
    let program = directory.join("usr/bin/kubectl");
    if program.is_file() {
        return program;
    }
    let unpacked = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let run = |name: &str, arguments: &[&str]| {
        let output = Command::new(name).args(arguments).current_dir(unpacked.path()).output();
        let output = output
            .unwrap_or_else(|e| panic!("{name} cannot be run ({e}): this test needs Debian's apt and dpkg"));
        assert!(
            output.status.success(),
            "{name} {arguments:?} failed, the test needs Debian's kubernetes-client package (apt-get update): {}",
            text(&output.stderr)
        );
    };
    run("apt-get", &["download", "kubernetes-client"]);
    let package = std::fs::read_dir(unpacked.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|e| e == "deb"))
        .expect("apt-get downloaded a package");
    run("dpkg", &["-x", package.to_str().unwrap(), "root"]);
    // Whoever comes second finds the directory there.
    let _ = std::fs::rename(unpacked.path().join("root"), &directory);
    program
}

/// A definition of widgets, as the transcripts use it.
pub fn widgets() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/01-namespaces-and-crds.json");
    let transcript: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let steps = transcript["steps"].as_array().unwrap();
    steps.iter().find(|s| s["name"] == "the definition is created").unwrap()["request"]["body"].clone()
}

pub fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "lab.example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// A plain request as an administrator.
pub async fn request(client: &Client, method: &str, path: &str, body: Value) -> Result<Value, kube::Error> {
    request_as(client, method, path, "application/json", body).await
}

pub async fn request_as(
    client: &Client,
    method: &str,
    path: &str,
    kind: &str,
    body: Value,
) -> Result<Value, kube::Error> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request =
        http::Request::builder().method(method).uri(path).header("content-type", kind).body(body).unwrap();
    client.request(request).await
}

/// The code and the message of a refusal.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("not refused: {other:?}"),
    }
}
