//! Running Barman's cloud tools against a server of ours.

use barman_cloud::{Destination, Repository, S3Options, Store};
use howdah_s3::Server;
use std::path::{Path, PathBuf};
use std::process::Output;

pub const BUCKET: &str = "oracle";
pub const SERVER: &str = "srv";
pub const URL: &str = "s3://oracle/some/path";

/// A server, our repository on it, and a directory for Barman's files.
pub struct World {
    pub server: Server,
    pub repo: Repository,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let server = Server::builder()
            .memory()
            .credentials("key", "secret")
            .bucket(BUCKET)
            .start()
            .await
            .expect("a port");
        let mut options = S3Options::with_keys("key", "secret");
        options.endpoint = Some(server.endpoint());
        let store = Store::s3(&Destination::parse(URL).expect("valid"), &options).expect("valid");
        let repo = Repository::new(store, SERVER).expect("a name");
        Self { server, repo, dir: tempfile::tempdir().expect("a directory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a tool with options, then URL and server name, then more arguments.
    pub async fn run(&self, tool: &str, options: &[&str], arguments: &[&str]) -> Output {
        let program = venv().join("bin").join(tool);
        assert!(program.exists(), "{} is missing: run hack/install-barman", program.display());
        tokio::process::Command::new(&program)
            .args(options)
            .args(["--endpoint-url", &self.server.endpoint(), URL, SERVER])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("HOME", self.dir.path())
            .env("TMPDIR", self.dir.path())
            .env("TZ", "UTC")
            .output()
            .await
            .expect("it can be started")
    }

    /// Runs a tool that must succeed, and gives what it printed.
    pub async fn ok(&self, tool: &str, options: &[&str], arguments: &[&str]) -> String {
        let output = self.run(tool, options, arguments).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{tool} {options:?} {arguments:?}: {}\n{out}\n{err}", output.status);
        out.into_owned()
    }

    /// Keys in the bucket, without the destination path and the server name.
    pub fn keys(&self) -> Vec<String> {
        let objects = self.server.objects(BUCKET).expect("the bucket");
        let prefix = format!("some/path/{SERVER}/");
        objects.iter().map(|object| object.key.strip_prefix(&prefix).expect("ours").to_owned()).collect()
    }
}

fn venv() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/oracle-venv")
}
