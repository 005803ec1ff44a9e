//! A repository host in this process, and its clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use barman_cloud::store::{ClientCertificate, Limits};
use barman_cloud::{Destination, S3Options, Store};
use howdah_s3::{Pair, VolumeServer, WRITER};
use howdah_s3_server::{DiskStore, Retention};

pub const BUCKET: &str = "bucket";

pub struct Host(pub VolumeServer);

pub fn open(dir: &Path) -> Arc<DiskStore> {
    let volumes = [(BUCKET.to_owned(), PathBuf::from(dir))];
    Arc::new(DiskStore::volumes(&volumes, Retention::default()).unwrap())
}

pub fn certificate(pair: Pair) -> ClientCertificate {
    ClientCertificate::pem(pair.chain, pair.key)
}

impl Host {
    pub async fn start(dir: &Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self(VolumeServer::over(open(dir)).await.unwrap())
    }

    pub fn options(&self, own: Option<Pair>) -> S3Options {
        let mut options = S3Options::with_keys("any", "any");
        options.endpoint = Some(self.0.endpoint());
        options.ca_pem = Some(self.0.authority.pem().as_bytes().to_vec());
        options.client_certificate = own.map(certificate);
        options.limits = Limits {
            retries: 1,
            backoff_first: Duration::from_millis(5),
            backoff_max: Duration::from_millis(50),
            ..Limits::default()
        };
        options
    }

    pub fn client(&self, cn: &str) -> Pair {
        self.0.authority.client(cn).unwrap()
    }

    /// The store of a member.
    pub fn store(&self) -> Store {
        self.store_as(Some(self.client(WRITER)))
    }

    pub fn store_as(&self, own: Option<Pair>) -> Store {
        store(&self.options(own))
    }

    pub async fn end(self) {
        self.0.shutdown().await;
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
