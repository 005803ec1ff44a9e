//! A repository host in this process.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use barman_cloud::store::{ClientCertificate, Limits as ClientLimits};
use barman_cloud::{Destination, S3Options, Store};
use howdah_s3_server::{DiskStore, Identity, Limits, Policy, Retention, Server};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, Pair};

pub const BUCKET: &str = "bucket";

pub struct Host {
    pub server: Server,
    pub authority: Authority,
    pub address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub fn open(dir: &Path) -> Arc<DiskStore> {
    let volumes = [(BUCKET.to_owned(), PathBuf::from(dir))];
    Arc::new(DiskStore::volumes(&volumes, Retention::default()).unwrap())
}

pub fn identity(own: &Pair, clients: &Authority) -> Identity {
    Identity::from_pem(own.chain.as_bytes(), own.key.as_bytes(), clients.pem.as_bytes()).unwrap()
}

impl Host {
    pub async fn start(dir: &Path) -> Self {
        Self::over(open(dir)).await
    }

    pub async fn over(store: Arc<DiskStore>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Authority::new();
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let policy = Policy { writers: names(&["member"]), readers: names(&["reader"]) };
        let own = identity(&authority.server(), &authority);
        let server = Server::new(store, policy, own, Limits::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (serving, until) = (server.clone(), stop.clone());
        let task = tokio::spawn(async move { serving.serve(listener, until).await });
        Self { server, authority, address, stop, task }
    }

    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub fn options(&self, own: Option<Pair>) -> S3Options {
        let mut options = S3Options::with_keys("any", "any");
        options.endpoint = Some(self.endpoint());
        options.ca_pem = Some(self.authority.pem.clone().into_bytes());
        options.client_certificate = own.map(|pair| ClientCertificate::pem(pair.chain, pair.key));
        options.limits = ClientLimits {
            retries: 1,
            backoff_first: Duration::from_millis(5),
            backoff_max: Duration::from_millis(50),
            ..ClientLimits::default()
        };
        options
    }

    /// The store of a member.
    pub fn store(&self) -> Store {
        self.store_as(Some(self.authority.client("member")))
    }

    pub fn store_as(&self, own: Option<Pair>) -> Store {
        store(&self.options(own))
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub fn store(options: &S3Options) -> Store {
    Store::s3(&Destination::parse(&format!("s3://{BUCKET}/some/path")).unwrap(), options).unwrap()
}

/// Bytes that do not repeat.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
