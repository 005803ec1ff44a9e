//! The same store on each storage, for tests of what must be the same everywhere.

use crate::support::{BUCKET, limits, options, server};
use barman_cloud::store::{AzureCredentials, AzureOptions, GcsCredentials, GcsOptions};
use barman_cloud::{Destination, Repository, S3Options, Store};
use howdah_emulators::{AZURE_ACCOUNT as ACCOUNT, AZURE_KEY as KEY, Emulator, GCS_KEY, ask_azure};
use howdah_s3::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    S3,
    Gcs,
    Azure,
}

enum Behind {
    S3(Server),
    Other(Emulator),
}

/// A server with an empty bucket.
pub struct Backend {
    pub kind: Kind,
    behind: Behind,
}

pub async fn backend(kind: Kind) -> Backend {
    let behind = match kind {
        Kind::S3 => Behind::S3(server().await),
        Kind::Gcs => Behind::Other(Emulator::gcs(BUCKET).expect("fake-gcs-server")),
        Kind::Azure => Behind::Other(Emulator::azure(BUCKET).await.expect("Azurite")),
    };
    Backend { kind, behind }
}

impl Backend {
    /// The server of S3, for what only it shows.
    pub fn s3(&self) -> Option<&Server> {
        match &self.behind {
            Behind::S3(server) => Some(server),
            Behind::Other(_) => None,
        }
    }

    /// Where the server listens.
    pub fn address(&self) -> String {
        match &self.behind {
            Behind::S3(server) => server.address().to_string(),
            Behind::Other(running) => running.address().to_owned(),
        }
    }

    /// A store at a path of the bucket.
    pub fn store_at(&self, path: &str) -> Store {
        self.store_in(BUCKET, path, &self.address())
    }

    /// A store in a bucket, which may be missing, by way of an address, which may be that of a proxy.
    pub fn store_in(&self, bucket: &str, path: &str, address: &str) -> Store {
        let parse = |text: String| Destination::parse(&text).expect("valid");
        match &self.behind {
            Behind::S3(server) => {
                let options = S3Options { endpoint: Some(format!("http://{address}")), ..options(server) };
                Store::s3(&parse(format!("s3://{bucket}/{path}")), &options)
            }
            Behind::Other(_) if self.kind == Kind::Gcs => {
                let mut options = GcsOptions::new(GcsCredentials::ServiceAccount(GCS_KEY.into()));
                options.endpoint = Some(format!("http://{address}"));
                options.limits = limits();
                Store::gcs(&parse(format!("gs://{bucket}/{path}")), &options)
            }
            Behind::Other(_) => {
                let mut options = AzureOptions::new(AzureCredentials::Key(KEY.into()));
                options.limits = limits();
                Store::azure(&parse(format!("http://{address}/{ACCOUNT}/{bucket}/{path}")), &options)
            }
        }
        .expect("valid settings")
    }

    pub fn store(&self) -> Store {
        self.store_at("some/path/")
    }

    pub fn repository(&self) -> Repository {
        Repository::new(self.store(), "srv").expect("a server name")
    }

    /// Tags of a blob of Azure, as Azure shows them.
    pub async fn tags(&self, key: &str) -> String {
        let path = format!("/{ACCOUNT}/{BUCKET}/{key}?comp=tags");
        let answer = ask_azure(&self.address(), "GET", &path).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// All keys of the bucket, in order.
    pub async fn keys(&self) -> Vec<String> {
        let all = self.store_at("").list_prefix("").await.expect("listed");
        all.into_iter().map(|object| object.key).collect()
    }
}
