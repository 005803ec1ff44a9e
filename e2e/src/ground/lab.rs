//! The lab: the API double (or a real API server), the node double and an S3 server in this process, and the
//! operator and instance manager as the programs that users get.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use howdah_lab_apiserver::ApiServer;
use howdah_lab_node::{Backoff, Bind, Image, ImageCatalog, Node, Signal};
use howdah_s3::{Action, Rule, Server};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::assets::Assets;
use super::firewall::Cut;
use super::s3::{S3Access, StoredObject};
use super::slot::Slot;
use super::{deploy, processes};
use crate::kubectl::Output;
use crate::paths;

const SYSTEM: &str = "howdah-system";
const BUCKET: &str = "backups";
/// Image of another version of the operator ([`Lab::next_operator`]).
const NEXT_OPERATOR: &str = "howdah:next";
const ACCESS_KEY: &str = "lab-access";
const SECRET_KEY: &str = "lab-secret-key";
/// The MinIO image of the seed. In the lab this project's own S3 server answers in its place.
const MINIO: &str = "minio/minio:RELEASE.2020-06-03T22-13-49Z";
/// Starts the S3 server on the pod's own address, with MinIO's variables; MinIO's arguments are passed over.
const MINIO_ENTRYPOINT: &str = "AWS_ACCESS_KEY_ID=$MINIO_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$MINIO_SECRET_KEY exec /howdah-s3 --memory --bucket backups --listen $(hostname -i):9000";

/// Reference of the lab's image with a major version of PostgreSQL.
#[must_use]
pub fn postgres_image(major: u32) -> String {
    format!("lab/postgresql:{major}")
}

enum Api {
    Double(ApiServer),
    Real(Assets),
}

/// Everything that runs in this process for the lab.
pub struct Lab {
    api: Api,
    /// Runs the controllers too.
    node: Node,
    more: OnceLock<Vec<Node>>,
    s3: Server,
    kubeconfig: PathBuf,
    files: PathBuf,
    slot: Slot,
}

impl Lab {
    /// Starts the lab on the API double; also the administrator's kubeconfig and the way to the S3 server.
    ///
    /// # Errors
    /// When a part is missing or does not come up.
    pub async fn start(files: &Path) -> Result<(Self, PathBuf, S3Access)> {
        let slot = Slot::take()?;
        let api = ApiServer::builder()
            .bind("127.0.0.1:0")
            .service_cidr(slot.services())
            .start()
            .await
            .context("the API double does not start")?;
        let kubeconfig = files.join("kubeconfig");
        std::fs::write(&kubeconfig, api.admin_kubeconfig().context("no kubeconfig")?)?;
        Self::around(Api::Double(api), slot, kubeconfig, files, true).await
    }

    /// Starts the lab around the real kube-apiserver and etcd in `dir`.
    ///
    /// # Errors
    /// When a part is missing or does not come up.
    pub async fn start_on_assets(dir: &Path, files: &Path) -> Result<(Self, PathBuf, S3Access)> {
        let slot = Slot::take()?;
        let assets = Assets::start(dir, files, &slot.services()).await?;
        let kubeconfig = assets.kubeconfig.clone();
        let controllers = !assets.has_controller_manager();
        Self::around(Api::Real(assets), slot, kubeconfig, files, controllers).await
    }

    async fn around(
        api: Api,
        slot: Slot,
        kubeconfig: PathBuf,
        files: &Path,
        controllers: bool,
    ) -> Result<(Self, PathBuf, S3Access)> {
        let s3 = Server::builder()
            .memory()
            .credentials(ACCESS_KEY, SECRET_KEY)
            .bucket(BUCKET)
            .listen("127.0.0.1:0")
            .start()
            .await
            .context("the S3 server does not start")?;
        let read = Kubeconfig::read_from(&kubeconfig).context("the lab's own kubeconfig")?;
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        let node = Node::builder(config)
            .name("lab-node-1")
            .root_dir(files.join("node"))
            .images(images(files)?)
            .backoff(backoff())
            .pod_net(slot.pod_net())
            .service_cidr(slot.spare())
            .controllers(controllers)
            .start()
            .await
            .context("the node double does not start")?;
        let access = S3Access {
            endpoint: s3.endpoint(),
            endpoint_here: s3.endpoint(),
            bucket: BUCKET.to_owned(),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        };
        let lab = Self {
            api,
            node,
            more: OnceLock::new(),
            s3,
            kubeconfig: kubeconfig.clone(),
            files: files.to_path_buf(),
            slot,
        };
        Ok((lab, kubeconfig, access))
    }

    /// Starts so many nodes besides the first one, `lab-node-2` and on. Volumes can be mounted on all of them.
    ///
    /// # Errors
    /// When one does not start, or more nodes were asked for before.
    pub async fn more_nodes(&self, count: usize) -> Result<()> {
        let mut started = Vec::new();
        for number in 2..2 + count {
            let node = Node::builder(&self.kubeconfig)
                .name(format!("lab-node-{number}"))
                .root_dir(self.files.join(format!("node-{number}")))
                .images(images(&self.files)?)
                .backoff(backoff())
                .pod_net(self.slot.pod_net())
                .service_cidr(self.slot.spare())
                .scheduler(false)
                .claims(false)
                .controllers(false)
                .start()
                .await
                .with_context(|| format!("node {number} of the lab does not start"))?;
            started.push(node);
        }
        if self.more.set(started).is_err() {
            bail!("the lab has been given more nodes already");
        }
        Ok(())
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.node).chain(self.more.get().into_iter().flatten())
    }

    /// The node that runs a pod.
    fn node_with(&self, namespace: &str, pod: &str) -> Result<&Node> {
        self.nodes()
            .find(|node| node.pods_in(namespace).iter().any(|name| name == pod))
            .with_context(|| format!("no node of the lab runs {namespace}/{pod}"))
    }

    fn node_called(&self, name: &str) -> Result<&Node> {
        self.nodes()
            .find(|node| node.name() == name)
            .with_context(|| format!("the lab has no node {name}; Lab::more_nodes makes some"))
    }

    /// Loses a node as by a power failure: every container on it dies at once, and nobody is told.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn lose_node(&self, name: &str) -> Result<()> {
        self.node_called(name)?.lose().await;
        Ok(())
    }

    /// Brings a lost node back; it starts the pods that are still bound to it.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn recover_node(&self, name: &str) -> Result<()> {
        self.node_called(name)?.recover();
        Ok(())
    }

    /// Kills PID 1 of a container (SIGKILL).
    ///
    /// # Errors
    /// When there is no such container.
    pub async fn kill(&self, namespace: &str, pod: &str, container: &str) -> Result<()> {
        self.node_with(namespace, pod)?
            .kill_container(namespace, pod, container, Signal::SIGKILL)
            .with_context(|| format!("cannot kill {container} of {namespace}/{pod}"))
    }

    /// Freezes every process of a container (SIGSTOP): it neither works nor ends, and its connections stay open.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn freeze(&self, namespace: &str, pod: &str, container: &str) -> Result<()> {
        self.node_with(namespace, pod)?
            .signal_all(namespace, pod, container, Signal::SIGSTOP)
            .with_context(|| format!("cannot freeze {container} of {namespace}/{pod}"))
    }

    /// Lets a frozen container go on (SIGCONT).
    ///
    /// # Errors
    /// When there is no such container.
    pub fn thaw(&self, namespace: &str, pod: &str, container: &str) -> Result<()> {
        self.node_with(namespace, pod)?
            .signal_all(namespace, pod, container, Signal::SIGCONT)
            .with_context(|| format!("cannot thaw {container} of {namespace}/{pod}"))
    }

    /// Drops every packet that a pod sends to these places, until the cut is healed or dropped.
    ///
    /// # Errors
    /// When there is no such pod, or the machine has no control groups of the second version.
    pub async fn cut(&self, namespace: &str, pod: &str, places: &[String]) -> Result<Cut> {
        let group = self.node_with(namespace, pod)?.network_group(namespace, pod);
        let group = group.context(
            "a pod's packets cannot be told apart: this machine has no cgroup2 mounted, or this is not root",
        )?;
        Cut::make(&group, places).await
    }

    /// Where the S3 server listens: address and port.
    #[must_use]
    pub fn store_address(&self) -> String {
        host_and_port(&self.s3.endpoint())
    }

    /// Where the API server listens: address and port.
    #[must_use]
    pub fn api_address(&self) -> String {
        host_and_port(&self.api_url())
    }

    /// Namespace and pod of the operator.
    ///
    /// # Errors
    /// When there is none.
    pub fn operator_pod(&self) -> Result<(String, String)> {
        let pods: Vec<String> = self.nodes().flat_map(|node| node.pods_in(SYSTEM)).collect();
        let pod = pods.into_iter().find(|pod| pod.starts_with("howdah-operator-"));
        Ok((SYSTEM.to_owned(), pod.context("no pod of the operator")?))
    }

    /// Runs a program inside a container.
    ///
    /// # Errors
    /// When there is no such container, or the program takes longer than `limit`.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        argv: &[&str],
        limit: Duration,
    ) -> Result<Output> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let node = self.node_with(namespace, pod)?;
        let out = node.exec(namespace, pod, container, &argv, limit).await?;
        Ok(Output {
            ok: out.status.success(),
            code: out.status.code(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }

    /// Kills the oldest process of that name inside a container (SIGKILL).
    ///
    /// # Errors
    /// When there is no such process.
    pub fn kill_process(&self, namespace: &str, pod: &str, container: &str, name: &str) -> Result<()> {
        let first = self
            .node_with(namespace, pod)?
            .container_pid(namespace, pod, container)
            .with_context(|| format!("{container} of {namespace}/{pod} does not run"))?;
        let pid = processes::oldest(first, name)
            .with_context(|| format!("no {name} in {container} of {namespace}/{pod}"))?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL)
            .with_context(|| format!("cannot kill {name} (pid {pid})"))
    }

    /// Makes the image of another version of the operator, and returns its name: the same operator, with an instance manager
    /// that differs from the first one's in its last bytes.
    ///
    /// # Errors
    /// When the program cannot be written.
    pub fn next_operator(&self) -> Result<&'static str> {
        let mut program = std::fs::read(paths::program("instance-manager")?)?;
        program.extend_from_slice(b"another version");
        let path = next_manager(&self.files);
        std::fs::write(&path, program).with_context(|| format!("cannot write {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(NEXT_OPERATOR)
    }

    /// Kills the operator (SIGKILL); the node starts it again.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill_operator(&self) -> Result<()> {
        let (namespace, pod) = self.operator_pod()?;
        self.kill(&namespace, &pod, "operator").await
    }

    /// Whether the API server is the double, which takes faults.
    #[must_use]
    pub fn is_double(&self) -> bool {
        matches!(self.api, Api::Double(_))
    }

    /// Cuts every connection to the API server, and refuses new ones until it is called with `false`.
    ///
    /// # Errors
    /// Under a real API server, which takes no faults.
    pub fn api_away(&self, away: bool) -> Result<()> {
        match &self.api {
            Api::Double(api) => api.faults().set_outage(away),
            Api::Real(_) => bail!("a real API server takes no faults: run this without KUBEBUILDER_ASSETS"),
        }
        Ok(())
    }

    /// Makes every write and read of object bodies slow, or as fast as ever again.
    ///
    /// # Errors
    /// Never; the signature leaves room for a server in another process.
    pub fn slow_store(&self, slow: bool) -> Result<()> {
        self.stall_store(if slow { Duration::from_millis(400) } else { Duration::ZERO })
    }

    /// Lets every write and read of an object's body take so long; zero: as fast as ever again.
    ///
    /// # Errors
    /// Never; see [`Self::slow_store`].
    pub fn stall_store(&self, time: Duration) -> Result<()> {
        self.s3.faults().clear();
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if millis > 0 {
            for method in ["PUT", "GET"] {
                self.s3.faults().add(Rule::new(Action::Stall { millis }).method(method).times(u64::MAX));
            }
        }
        Ok(())
    }

    /// The store refuses every request, as when the credentials were taken away, until this is called with `false`.
    pub fn refuse_store(&self, refuse: bool) {
        self.s3.faults().clear();
        if refuse {
            self.s3.faults().add(Rule::new(Action::access_denied()));
        }
    }

    /// The store refuses connections for so long; the future ends when it is back.
    ///
    /// # Errors
    /// Never; see [`Self::slow_store`].
    pub fn store_away(&self, time: Duration) -> Result<impl Future<Output = ()> + 'static> {
        let faults = self.s3.faults().clone();
        let away = tokio::spawn(async move {
            faults.begin_outage().await;
            tokio::time::sleep(time).await;
            faults.end_outage().await;
        });
        Ok(async move {
            // The task neither panics nor is cancelled.
            let _ = away.await;
        })
    }

    /// The storage class whose volumes really end at their size.
    #[must_use]
    pub fn bounded_storage_class(&self) -> &'static str {
        "bounded"
    }

    /// The API server's address.
    #[must_use]
    pub fn api_url(&self) -> String {
        match &self.api {
            Api::Double(api) => api.url(),
            Api::Real(assets) => assets.url.clone(),
        }
    }

    pub(super) fn objects(&self, bucket: &str) -> Result<Vec<StoredObject>> {
        let objects = self.s3.objects(bucket).context("the S3 server does not tell its objects")?;
        Ok(objects
            .into_iter()
            .map(|o| StoredObject {
                key: o.key,
                size: o.size,
                encryption: o.sse,
                tags: (!o.tags.is_empty())
                    .then(|| o.tags.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("&")),
            })
            .collect())
    }

    /// Stops pods, node, API and S3 server, in this order.
    ///
    /// # Errors
    /// When a part does not stop.
    pub async fn stop(self) -> Result<()> {
        for node in self.more.into_inner().into_iter().flatten() {
            node.shutdown().await;
        }
        self.node.shutdown().await;
        match self.api {
            Api::Double(api) => api.shutdown().await,
            Api::Real(assets) => assets.stop().await?,
        }
        self.s3.shutdown().await;
        Ok(())
    }
}

fn host_and_port(url: &str) -> String {
    url.split("://").last().unwrap_or_default().trim_end_matches('/').to_owned()
}

/// Short waits: a container that keeps failing is part of many tests.
fn backoff() -> Backoff {
    Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(5), ..Backoff::default() }
}

/// The instance manager of the operator's other version; it is made when a test asks for it.
fn next_manager(files: &Path) -> PathBuf {
    files.join("instance-manager-next")
}

/// The images of the lab: the operator's (two static programs in an empty root), PostgreSQL's versions, and the
/// stand-in for MinIO.
fn images(files: &Path) -> Result<ImageCatalog> {
    let operator = |manager: PathBuf| -> Result<Image> {
        let programs =
            [(paths::program("operator")?, "operator".to_owned()), (manager, "instance-manager".to_owned())];
        Ok(Image::programs(programs).with_user(10001, 10001).with_entrypoint(&["/operator"]))
    };
    let mut minio = Image::host_system().with_entrypoint(&["/bin/sh", "-c", MINIO_ENTRYPOINT]);
    minio.binds.push(Bind {
        source: paths::program("howdah-s3")?,
        target: Some("/howdah-s3".into()),
        optional: false,
    });
    let mut catalog = ImageCatalog::new()
        .with(deploy::IMAGE, operator(paths::program("instance-manager")?)?)
        .with(NEXT_OPERATOR, operator(next_manager(files))?)
        .with(MINIO, minio);
    for major in 13..=18 {
        // A version that is not installed is no image here: a test that names it fails with the command to install it.
        let Ok(home) = paths::postgres(major) else { continue };
        // Programs of version 15 stand behind, for psql where a package brings the server alone.
        let mut image = Image::host_system()
            .with_path("/usr/lib/postgresql/15/bin")
            .with_path(&home.join("bin").display().to_string());
        if !home.starts_with("/usr") {
            image = image.with_bind(&home);
        }
        catalog = catalog.with(postgres_image(major), image.with_user(26, 26));
    }
    ensure!(
        catalog.find(&postgres_image(15)).is_some(),
        "PostgreSQL 15 is missing: run hack/install base (apt-get install postgresql-15)"
    );
    Ok(catalog)
}
