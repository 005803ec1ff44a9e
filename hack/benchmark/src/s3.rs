//! The S3 server: a process of its own, so that its work is not counted as anybody's.

use crate::context::BUCKET;
use crate::options::StoreKind;
use anyhow::{Context, Result, bail};
use barman_cloud::{Destination, S3Options, Store};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Key id; a secret of nobody's, it opens a server on the loopback interface.
pub const KEY: &str = "bench";
/// Its key.
pub const SECRET: &str = "benchmark";

/// What the server does with what it gets.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Keeps it in memory.
    Memory,
    /// Keeps it in this directory.
    Disk(PathBuf),
    /// Drops it.
    Sink,
}

impl Kind {
    /// As asked for on the command line.
    #[must_use]
    pub fn new(kind: StoreKind, dir: &Path) -> Self {
        match kind {
            StoreKind::Memory => Self::Memory,
            StoreKind::Disk => Self::Disk(dir.to_owned()),
            StoreKind::Sink => Self::Sink,
        }
    }
}

/// A running server, stopped when dropped.
pub struct S3 {
    child: Child,
    /// Its URL.
    pub endpoint: String,
    options: S3Options,
    store: Store,
}

fn client(options: &S3Options) -> Result<Store> {
    Ok(Store::s3(&Destination::parse(&format!("s3://{BUCKET}"))?, options)?)
}

impl S3 {
    /// Starts a server on a free port; with `certificate`, it speaks TLS and writes its certificate there.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(program: &Path, kind: Kind, certificate: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--bucket", BUCKET, "--random-etags"]);
        // pgBackRest sends an address as server name, of which every connection would tell.
        command.env("RUST_LOG", "warn,s3s=off,rustls=error");
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        match kind {
            Kind::Memory => command.arg("--memory"),
            Kind::Sink => command.arg("--sink"),
            Kind::Disk(dir) => {
                std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
                command.arg("--disk").arg(dir)
            }
        };
        if let Some(file) = certificate {
            command.arg("--tls-self-signed").arg(file);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().context("the S3 server does not start")?;
        let out = child.stdout.take().context("the S3 server has no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let Some(endpoint) = line.trim().strip_prefix("endpoint ").map(str::to_owned) else {
            let _ = child.kill();
            bail!("the S3 server does not say where it listens");
        };
        let mut options = S3Options::with_keys(KEY, SECRET);
        options.endpoint = Some(endpoint.clone());
        if let Some(file) = certificate {
            options.ca_pem = Some(std::fs::read(file).context("cannot read the S3 server's certificate")?);
        }
        let store = client(&options)?;
        Ok(Self { child, endpoint, options, store })
    }

    /// A client of its own, for another runtime than this one's.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(&self) -> Result<Store> {
        client(&self.options)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> &str {
        self.endpoint.rsplit(':').next().unwrap_or_default().trim_end_matches('/')
    }

    /// Variables with the keys.
    #[must_use]
    pub fn keys() -> [(String, String); 3] {
        [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "us-east-1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// Keys below a prefix.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.store.list_prefix(prefix).await?.into_iter().map(|object| object.key).collect())
    }

    /// Bytes of all objects below a prefix.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn stored(&self, prefix: &str) -> Result<u64> {
        Ok(self.store.list_prefix(prefix).await?.iter().map(|object| object.size).sum())
    }

    /// Removes everything below a prefix.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn clear(&self, prefix: &str) -> Result<()> {
        let keys = self.list(prefix).await?;
        Ok(self.store.delete_many(&keys).await?)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
