//! The server as tests hold it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use howdah_s3_server::{DiskStore, ObjectInfo, Retention, Service, Store as _, WriteCondition};
use s3s::auth::SecretKey;
use s3s::service::S3ServiceBuilder;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::auth::{Credential, Credentials};
use crate::error::Error;
use crate::faults::Faults;
use crate::gate::{Gate, RequestRecord};
use crate::listener::{self, Connections, Port};
use crate::store::{Memory, Store};
use crate::tls::{self, Tls};
use crate::upload::UploadInfo;

enum Kind {
    Memory,
    Disk(PathBuf),
    Sink,
}

/// Says what the server is to be.
#[must_use]
pub struct Builder {
    kind: Kind,
    credentials: Credentials,
    buckets: Vec<String>,
    listen: String,
    admin: Option<String>,
    tls: Option<Tls>,
    min_part_size: u64,
    md5_etags: bool,
}

impl Builder {
    /// Keeps everything in memory. The default.
    pub fn memory(mut self) -> Self {
        self.kind = Kind::Memory;
        self
    }

    /// Keeps everything in a directory, durably: what was acknowledged survives a crash and a restart.
    pub fn disk(mut self, root: impl Into<PathBuf>) -> Self {
        self.kind = Kind::Disk(root.into());
        self
    }

    /// Acknowledges and drops bodies above 64 KiB; smaller ones are kept so that control objects can be read.
    pub fn sink(mut self) -> Self {
        self.kind = Kind::Sink;
        self
    }

    /// Admits an access key and its secret to everything. May be repeated.
    pub fn credentials(self, key: impl Into<String>, secret: impl Into<String>) -> Self {
        self.admit(key.into(), secret.into(), |_| {})
    }

    /// Admits a temporary credential: requests must carry this session token.
    pub fn session_credentials(
        self,
        key: impl Into<String>,
        secret: impl Into<String>,
        token: impl Into<String>,
    ) -> Self {
        let token = token.into();
        self.admit(key.into(), secret.into(), |credential| credential.token = Some(token))
    }

    /// Admits a credential that may only read.
    pub fn read_only_credentials(self, key: impl Into<String>, secret: impl Into<String>) -> Self {
        self.admit(key.into(), secret.into(), |credential| credential.read_only = true)
    }

    /// Admits a credential to these buckets only.
    pub fn credentials_for(
        self,
        key: impl Into<String>,
        secret: impl Into<String>,
        buckets: &[&str],
    ) -> Self {
        let buckets: BTreeSet<String> = buckets.iter().map(|bucket| (*bucket).to_owned()).collect();
        self.admit(key.into(), secret.into(), |credential| credential.buckets = Some(buckets))
    }

    fn admit(mut self, key: String, secret: String, adjust: impl FnOnce(&mut Credential)) -> Self {
        let mut credential =
            Credential { secret: SecretKey::from(secret), token: None, read_only: false, buckets: None };
        adjust(&mut credential);
        self.credentials.0.insert(key, credential);
        self
    }

    /// Makes a bucket unless it is there. May be repeated.
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.buckets.push(name.into());
        self
    }

    /// Where to listen, an address and a port; port 0 picks a free one. Default `127.0.0.1:0`.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// Serves HTTPS.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Opens the admin port, for fault injection from other processes. Loopback addresses only.
    pub fn admin(mut self, address: impl Into<String>) -> Self {
        self.admin = Some(address.into());
        self
    }

    /// Smallest size in bytes of a part that is not an upload's last one. Default 5 MiB, as everywhere.
    pub fn min_part_size(mut self, bytes: u64) -> Self {
        self.min_part_size = bytes;
        self
    }

    /// Entity tags are random instead of MD5 sums, as in buckets with KMS keys: for measurements of clients, because the
    /// sum costs the server more than everything else.
    pub fn random_etags(mut self) -> Self {
        self.md5_etags = false;
        self
    }

    /// Starts the server.
    pub async fn start(self) -> Result<Server, Error> {
        if self.credentials.0.is_empty() {
            return Err(Error::Configuration {
                what: "no credentials".to_owned(),
                remedy: "call Builder::credentials",
            });
        }
        let address = parse_address(&self.listen)?;
        let admin = self.admin.as_deref().map(parse_address).transpose()?;
        if admin.is_some_and(|admin| !admin.ip().is_loopback()) {
            return Err(Error::Configuration {
                what: "the admin port has no authentication".to_owned(),
                remedy: "give it a loopback address",
            });
        }
        let acceptor = self.tls.as_ref().map(Tls::config).transpose()?.map(TlsAcceptor::from);
        let store = Arc::new(match self.kind {
            Kind::Memory => Store::Memory(Memory::default()),
            Kind::Sink => Store::Memory(Memory::sink()),
            Kind::Disk(root) => Store::Disk(DiskStore::root(&root, Retention::default())?),
        });
        for bucket in &self.buckets {
            store.make_bucket(bucket)?;
        }

        let service = Service::new(store.clone(), self.min_part_size);
        let service = if self.md5_etags { service } else { service.random_etags() };
        let mut service = S3ServiceBuilder::new(service);
        service.set_auth(self.credentials.clone());
        service.set_access(self.credentials);

        let port = Port::bind(address).map_err(|source| Error::Listen { address, source })?;
        let (address, connections) = (port.address, port.connections.subscribe());
        let (wanted, wanted_rx) = watch::channel(false);
        let (actual_tx, actual) = watch::channel(false);
        let faults = Faults::new(store.clone(), wanted, actual);
        let gate = Gate { service: service.build(), faults: faults.clone() };
        let stop = CancellationToken::new();
        let mut tasks =
            vec![tokio::spawn(listener::serve(port, gate, acceptor, wanted_rx, actual_tx, stop.clone()))];
        let mut server = Server {
            address,
            admin: None,
            tls: self.tls,
            store,
            faults,
            connections,
            stop,
            tasks: Vec::new(),
        };
        if let Some(admin) = admin {
            let listener = tokio::net::TcpListener::bind(admin)
                .await
                .map_err(|source| Error::Listen { address: admin, source })?;
            server.admin =
                Some(listener.local_addr().map_err(|source| Error::Listen { address: admin, source })?);
            tasks.push(crate::admin::spawn(listener, server.handle()));
        }
        server.tasks = tasks;
        Ok(server)
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, Error> {
    text.parse().map_err(|_| Error::Configuration {
        what: format!("{text:?} is not an address"),
        remedy: "give an IP address and a port, such as 127.0.0.1:0",
    })
}

/// What the admin port works on.
#[derive(Clone)]
pub(crate) struct Handle {
    pub store: Arc<Store>,
    pub faults: Faults,
    pub stop: CancellationToken,
}

/// A running server. Dropping it stops it without waiting.
pub struct Server {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    tls: Option<Tls>,
    store: Arc<Store>,
    faults: Faults,
    connections: watch::Receiver<Connections>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// A server in memory on a free port, until told otherwise.
    pub fn builder() -> Builder {
        Builder {
            kind: Kind::Memory,
            credentials: Credentials::default(),
            buckets: Vec::new(),
            listen: "127.0.0.1:0".to_owned(),
            admin: None,
            tls: None,
            min_part_size: 5 * 1024 * 1024,
            md5_etags: true,
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle { store: self.store.clone(), faults: self.faults.clone(), stop: self.stop.clone() }
    }

    /// The endpoint's URL, without a trailing slash.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", tls::host(self.address.ip()), self.address.port())
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin port's URL, without a trailing slash.
    pub fn admin_endpoint(&self) -> Option<String> {
        self.admin.map(|admin| format!("http://{}:{}", tls::host(admin.ip()), admin.port()))
    }

    /// What clients have to trust, PEM, when it serves HTTPS.
    pub fn ca_pem(&self) -> Option<&[u8]> {
        self.tls.as_ref().map(Tls::certificate_pem)
    }

    /// Fault injection.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Every request since the start or the last [`Server::clear_requests`], oldest first, at most 100 000.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.faults.records()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.faults.forget_records();
    }

    /// Its connections: how many were accepted and how many are open.
    pub fn connections(&self) -> Connections {
        *self.connections.borrow()
    }

    /// Returns once no connection is open.
    pub async fn all_connections_closed(&self) {
        // An error means that the listener is gone, and with it every connection.
        let _ = self.connections.clone().wait_for(|connections| connections.open == 0).await;
    }

    /// Makes a bucket; false when it was there.
    pub fn create_bucket(&self, bucket: &str) -> Result<bool, Error> {
        self.store.make_bucket(bucket)
    }

    /// All objects of a bucket in key order.
    pub fn objects(&self, bucket: &str) -> Result<Vec<ObjectInfo>, Error> {
        let snapshot =
            self.store.snapshot(bucket).ok_or_else(|| Error::NoSuchBucket { bucket: bucket.to_owned() })?;
        Ok(snapshot.infos().map(|info| info.as_ref().clone()).collect())
    }

    /// Uploads that were begun and neither completed nor aborted.
    pub fn uploads(&self, bucket: &str) -> Result<Vec<UploadInfo>, Error> {
        self.store.pending(bucket).map_err(|error| missing(&error, bucket, ""))
    }

    /// An object's bytes.
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Bytes, Error> {
        let told = |error: s3s::S3Error| missing(&error, bucket, key);
        let opened = self.store.open(bucket, key).await.map_err(told)?;
        let size = opened.info.size;
        let mut stream = opened.body.stream(0..size).await.map_err(told)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| failed("read", key, std::io::Error::other(error)))?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    /// Stores an object, replacing what is there: for fixtures, and for damaging what a client stored.
    pub async fn put(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> Result<ObjectInfo, Error> {
        use s3s::crypto::Checksum as _;
        let body = body.into();
        let info = ObjectInfo {
            size: body.len() as u64,
            etag: hex::encode(s3s::crypto::Md5::checksum(&body)),
            ..ObjectInfo::new(key)
        };
        let told = |error: s3s::S3Error| missing(&error, bucket, key);
        let mut staging = self.store.stage(bucket, Some(info.size)).await.map_err(told)?;
        self.store.write(&mut staging, body).await.map_err(told)?;
        self.store.put(bucket, info.clone(), staging, &WriteCondition::default()).await.map_err(told)?;
        Ok(info)
    }

    /// Loses an object, as no client asked for.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<(), Error> {
        let told = |error: s3s::S3Error| missing(&error, bucket, key);
        self.store.head(bucket, key).await.map_err(told)?;
        self.store.delete(bucket, key).await.map_err(told)
    }

    /// Stops serving, cuts open connections and waits until all is quiet.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            // A task that panicked has said so already.
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn failed(action: &'static str, key: &str, source: std::io::Error) -> Error {
    Error::Disk { action, path: PathBuf::from(key), source }
}

fn missing(error: &s3s::S3Error, bucket: &str, key: &str) -> Error {
    match error.code().as_str() {
        "NoSuchBucket" => Error::NoSuchBucket { bucket: bucket.to_owned() },
        "InvalidObjectState" => Error::Dropped { bucket: bucket.to_owned(), key: key.to_owned() },
        "NoSuchKey" => Error::NoSuchObject { bucket: bucket.to_owned(), key: key.to_owned() },
        other => failed("use", key, std::io::Error::other(other.to_owned())),
    }
}
