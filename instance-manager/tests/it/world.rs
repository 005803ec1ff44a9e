//! What surrounds a pod: the API double with the custom resources, an S3 server, a user for PostgreSQL.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use howdah_api::bootstrap::Bootstrap;
use howdah_api::common::SecretKeySelector;
use howdah_api::object_store::{BarmanObjectStore, S3Credentials};
use howdah_api::{Backup, Cluster, ClusterSpec, naming};
use howdah_lab_apiserver::ApiServer;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::json;

use crate::certificates::Authority;

/// Upper bound of every wait: generous, never reached when things work.
pub const LONG: Duration = Duration::from_secs(120);
pub const NAMESPACE: &str = "default";
pub const BUCKET: &str = "backups";
pub const SUPERUSER_PASSWORD: &str = "super's secret";
pub const APP_PASSWORD: &str = "app's secret";

/// Numeric ids of the user that runs PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// The user `postgres`, which comes with the package. Tests run as root and step down to it.
    pub fn postgres() -> Self {
        assert!(
            nix::unistd::getuid().is_root(),
            "run these tests as root: they start PostgreSQL as another user"
        );
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let line = passwd.lines().find(|l| l.starts_with("postgres:"));
        let fields: Vec<&str> =
            line.expect("there is no user postgres: apt-get install -y postgresql-15").split(':').collect();
        assert!(
            Path::new("/usr/lib/postgresql/15/bin/pg_basebackup").exists(),
            "PostgreSQL 15 is missing: apt-get install -y postgresql-15"
        );
        Self { uid: fields[2].parse().unwrap(), gid: fields[3].parse().unwrap() }
    }
}

/// Everything around the pods of one test.
pub struct World {
    pub api: ApiServer,
    pub client: kube::Client,
    pub s3: howdah_s3::Server,
    pub authority: Authority,
    pub user: User,
    pub dir: tempfile::TempDir,
    octets: (u8, u8),
}

impl World {
    pub async fn new() -> Self {
        let user = User::postgres();
        let api = ApiServer::builder().start().await.unwrap();
        let kubeconfig = api.admin_kubeconfig().unwrap();
        // Short, because the path of a Unix socket is: and readable for the user of PostgreSQL.
        let dir = tempfile::Builder::new().prefix("im").tempdir_in("/tmp").unwrap();
        std::os::unix::fs::chown(dir.path(), Some(user.uid), Some(user.gid)).unwrap();
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, &kubeconfig).unwrap();
        let parsed = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let config =
            kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let s3 = howdah_s3::Server::builder()
            .memory()
            .credentials("key", "secret")
            .bucket(BUCKET)
            .listen("127.0.0.1:0")
            .start()
            .await
            .unwrap();
        let random = rand::random::<u16>().to_be_bytes();
        let world = Self {
            api,
            client,
            s3,
            authority: Authority::new(),
            user,
            dir,
            octets: (random[0].clamp(100, 250), random[1].clamp(1, 250)),
        };
        world.install_crds().await;
        let creds = [("ID", "key"), ("KEY", "secret")];
        world.secret("aws-creds", creds.map(|(k, v)| (k.to_owned(), ByteString(v.into()))).into()).await;
        world
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// A loopback address of its own for each pod.
    pub fn ip(&self, number: u8) -> String {
        format!("127.{}.{}.{number}", self.octets.0, self.octets.1)
    }

    async fn install_crds(&self) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for crd in howdah_api::crds() {
            api.create(&PostParams::default(), &crd).await.unwrap();
        }
        until("the custom resources are served", || async {
            self.clusters().list(&Default::default()).await.is_ok()
                && self.backups().list(&Default::default()).await.is_ok()
        })
        .await;
    }

    pub fn clusters(&self) -> Api<Cluster> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub fn backups(&self) -> Api<Backup> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub async fn secret(&self, name: &str, data: BTreeMap<String, ByteString>) {
        let mut secret = Secret { data: Some(data), ..Secret::default() };
        secret.metadata.name = Some(name.to_owned());
        let parameters = PatchParams::apply("test").force();
        self.secrets().patch(name, &parameters, &Patch::Apply(&secret)).await.unwrap();
    }

    pub async fn login(&self, name: &str, user: &str, password: &str) {
        let data = [("username", user), ("password", password)];
        self.secret(name, data.map(|(k, v)| (k.to_owned(), ByteString(v.into()))).into()).await;
    }

    pub fn store(&self) -> BarmanObjectStore {
        let selector = |key: &str| Some(SecretKeySelector { name: "aws-creds".into(), key: key.into() });
        BarmanObjectStore {
            destination_path: format!("s3://{BUCKET}/"),
            endpoint_url: Some(self.s3.endpoint()),
            s3_credentials: Some(S3Credentials {
                access_key_id: selector("ID"),
                secret_access_key: selector("KEY"),
                ..S3Credentials::default()
            }),
            ..BarmanObjectStore::default()
        }
    }

    pub fn spec(&self, bootstrap: Option<Bootstrap>, archived: bool) -> ClusterSpec {
        let mut spec: ClusterSpec = serde_json::from_value(json!({
            "instances": 1,
            "storage": { "size": "1Gi" },
            "stopDelay": 30,
            "postgresql": { "parameters": { "shared_buffers": "16MB", "max_connections": "30", "fsync": "off" } },
        }))
        .unwrap();
        spec.bootstrap = bootstrap;
        if archived {
            spec.backup = Some(howdah_api::cluster::BackupConfiguration {
                barman_object_store: Some(self.store()),
                ..Default::default()
            });
        }
        spec
    }

    /// What the operator does before the first pod: Secrets, Cluster, first primary.
    pub async fn cluster(&self, name: &str, spec: ClusterSpec) {
        let rw = naming::service_rw(name);
        self.secret(&naming::server_secret(name), self.authority.server(&[&rw])).await;
        self.secret(&naming::replication_secret(name), self.authority.client(naming::REPLICATION_USER)).await;
        self.login(&naming::superuser_secret(name), "postgres", SUPERUSER_PASSWORD).await;
        self.login(&naming::app_secret(name), "app", APP_PASSWORD).await;
        self.clusters().create(&PostParams::default(), &Cluster::new(name, spec)).await.unwrap();
        self.cluster_status(name, json!({ "targetPrimary": naming::instance(name, 1) })).await;
    }

    pub async fn cluster_status(&self, name: &str, status: serde_json::Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.clusters().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Keys in the bucket.
    pub fn keys(&self) -> Vec<String> {
        self.s3.objects(BUCKET).unwrap().into_iter().map(|o| o.key).collect()
    }

    /// Messages of the events about an object of this name.
    pub async fn events(&self, about: &str) -> Vec<String> {
        let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        let all = api.list(&Default::default()).await.unwrap();
        all.items
            .into_iter()
            .filter(|e| e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(about))
            .map(|e| format!("{}: {}", e.reason.unwrap_or_default(), e.note.unwrap_or_default()))
            .collect()
    }

    /// Waits for an event about an object of this name: events are published after what they tell of can be seen
    /// elsewhere.
    pub async fn event(&self, about: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = tokio::time::Instant::now() + LONG;
        loop {
            let events = self.events(about).await;
            if events.iter().any(|event| wanted(event)) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "not among the events about {about}: {events:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Waits until `condition` holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + LONG;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// As [`until`], and keeps what was found.
pub async fn found<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + LONG;
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
