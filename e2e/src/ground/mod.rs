//! The three grounds: the lab (default), a real API server under the lab's node double (`KUBEBUILDER_ASSETS`), and
//! a real cluster (`E2E_KUBECONFIG`). A ground is started for each test process and stopped with it.

mod assets;
mod deploy;
mod external;
mod firewall;
mod lab;
mod processes;
mod s3;
mod slot;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

pub use firewall::Cut;
pub use lab::Lab;
pub use s3::{S3Access, StoredObject};

use crate::kubectl::{Kubectl, Output};

static NAMESPACES: AtomicU32 = AtomicU32::new(1);

/// Images of this ground.
#[derive(Clone, Debug)]
pub struct Images {
    /// PostgreSQL with all its programs, `psql` among them.
    pub postgres: String,
    /// The image that holds `/operator` and `/instance-manager`.
    pub operator: String,
}

/// A Kubernetes API with Howdah deployed, and an S3 server.
pub struct Ground {
    /// As an administrator, in the namespace `default`.
    pub kubectl: Kubectl,
    /// The S3 server.
    pub s3: S3Access,
    /// Images.
    pub images: Images,
    lab: Option<Lab>,
    _files: TempDir,
}

impl Ground {
    /// Starts the ground that the environment asks for.
    ///
    /// # Errors
    /// When a part is missing (the message names the command that installs it) or does not come up.
    pub async fn start() -> Result<Self> {
        init_process();
        let files = tempfile::Builder::new()
            .prefix("howdah-lab-")
            .tempdir()
            .context("cannot make a folder for the lab")?;
        if let Some(kubeconfig) = std::env::var_os("E2E_KUBECONFIG") {
            return external::start(PathBuf::from(kubeconfig), files).await;
        }
        let (lab, kubeconfig, s3) = match std::env::var_os("KUBEBUILDER_ASSETS") {
            Some(dir) => Lab::start_on_assets(&PathBuf::from(dir), files.path()).await?,
            None => Lab::start(files.path()).await?,
        };
        let images = Images { postgres: lab::postgres_image(15), operator: deploy::IMAGE.to_owned() };
        let kubectl = Kubectl { kubeconfig, namespace: "default".into() };
        deploy::operator(&kubectl, &images).await?;
        Ok(Self { kubectl, s3, images, lab: Some(lab), _files: files })
    }

    /// Makes a namespace of its own for a test.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn namespace(&self, prefix: &str) -> Result<Kubectl> {
        let name = format!("{prefix}-{}-{}", std::process::id(), NAMESPACES.fetch_add(1, Ordering::Relaxed));
        self.kubectl.run(&["create", "namespace", &name]).await?;
        Ok(self.kubectl.in_namespace(&name))
    }

    /// The lab, for faults.
    ///
    /// # Errors
    /// On a real cluster, which offers none.
    pub fn lab(&self) -> Result<&Lab> {
        self.lab.as_ref().context("this test asks the lab for faults: run it without E2E_KUBECONFIG")
    }

    /// Runs a program inside a container: by `kubectl exec` on a real cluster; the API double has no such streams, so on
    /// the lab the node is asked.
    ///
    /// # Errors
    /// When there is no such container, or the program takes longer than `limit`.
    pub async fn exec(
        &self,
        kubectl: &Kubectl,
        pod: &str,
        container: &str,
        argv: &[&str],
        limit: Duration,
    ) -> Result<Output> {
        match &self.lab {
            Some(lab) => lab.exec(&kubectl.namespace, pod, container, argv, limit).await,
            None => {
                let call = [&["exec", pod, "-c", container, "--"], argv].concat();
                tokio::time::timeout(limit, kubectl.output(&call, None))
                    .await
                    .with_context(|| format!("{argv:?} in {pod} takes longer than {} s", limit.as_secs()))?
            }
        }
    }

    /// The image of a major version of PostgreSQL. On a real cluster `E2E_POSTGRES_IMAGE` with its tag replaced.
    ///
    /// # Errors
    /// When the version is not installed.
    pub fn postgres_image(&self, major: u32) -> Result<String> {
        if self.lab.is_some() {
            crate::paths::postgres(major)?;
            return Ok(lab::postgres_image(major));
        }
        let (name, _) = self.images.postgres.rsplit_once(':').context("E2E_POSTGRES_IMAGE has no tag")?;
        Ok(format!("{name}:{major}"))
    }

    /// Keys in the bucket that contain `part`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn keys(&self, part: &str) -> Result<Vec<String>> {
        Ok(self.objects(part).await?.into_iter().map(|o| o.key).collect())
    }

    /// Objects in the bucket whose key contains `part`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn objects(&self, part: &str) -> Result<Vec<StoredObject>> {
        let mut objects = match &self.lab {
            Some(lab) => lab.objects(&self.s3.bucket)?,
            None => self.s3.list().await?,
        };
        objects.retain(|o| o.key.contains(part));
        Ok(objects)
    }

    /// An object's bytes.
    ///
    /// # Errors
    /// When there is none.
    pub async fn read_object(&self, key: &str) -> Result<Vec<u8>> {
        self.s3.read(key).await
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn write_object(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        self.s3.write(key, bytes).await
    }

    /// Removes an object.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn delete_object(&self, key: &str) -> Result<()> {
        self.s3.delete(key).await
    }

    /// Stops everything that was started.
    ///
    /// # Errors
    /// When a part does not stop.
    pub async fn stop(mut self) -> Result<()> {
        match self.lab.take() {
            Some(lab) => lab.stop().await,
            None => Ok(()),
        }
    }
}

/// Once a process: the TLS provider, and a log for those who ask with `RUST_LOG`.
fn init_process() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .try_init();
}

/// A variable that a ground needs.
fn required(name: &str) -> Result<String> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => bail!("{name} is not set; docs/development.md lists the variables of this ground"),
    }
}
