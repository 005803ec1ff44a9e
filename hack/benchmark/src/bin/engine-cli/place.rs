//! Where the store is, as arguments, and the repository that the instance manager would make of it.

use barman_cloud::Compression;
use clap::Args;
use howdah_api::object_store::BarmanObjectStore;
use howdah_engine::{Error, ErrorKind, Repository, Result};
use howdah_instance_manager::kube::secrets::SecretValues;
use howdah_instance_manager::objstore::{self, Purpose};
use serde_json::json;
use std::path::PathBuf;

/// Secret that holds the keys; it exists in this process only.
const SECRET: &str = "keys";

#[derive(Args)]
pub struct Place {
    /// Endpoint URL
    #[arg(long)]
    pub endpoint: String,
    /// Destination, `s3://bucket/path`
    #[arg(long)]
    pub destination: String,
    /// Server name
    #[arg(long)]
    pub server: String,
    /// Codec of what is written
    #[arg(long, default_value = "none")]
    pub compression: Compression,
    /// Parts, or WAL files, at a time
    #[arg(long, default_value_t = 2)]
    pub jobs: usize,
    /// Cipher of the repository; empty without. The passphrase is the environment's AWS_SECRET_ACCESS_KEY: a benchmark
    /// has nothing to hide
    #[arg(long, default_value = "")]
    pub cipher: String,
    /// Data directory
    #[arg(long)]
    pub pgdata: PathBuf,
}

impl Place {
    /// The store as a Cluster names it, so that the product's own code makes the client.
    pub fn store(&self) -> Result<BarmanObjectStore> {
        let mut store = json!({
            "destinationPath": self.destination,
            "endpointURL": self.endpoint,
            "serverName": self.server,
            "s3Credentials": {
                "accessKeyId": { "name": SECRET, "key": "id" },
                "secretAccessKey": { "name": SECRET, "key": "key" },
            },
            "wal": { "maxParallel": self.jobs },
        });
        if self.compression != Compression::None {
            store["wal"]["compression"] = self.compression.as_str().into();
        }
        if !self.cipher.is_empty() {
            let passphrase = json!({ "name": SECRET, "key": "key" });
            store["encryption"] = json!({ "cipher": self.cipher, "passphrase": passphrase });
        }
        serde_json::from_value(store)
            .map_err(|error| Error::new(ErrorKind::Invalid, "the arguments name no store").with_source(error))
    }

    /// The keys, from the environment so that they are in no process list.
    pub fn secrets() -> SecretValues {
        let variable = |name| std::env::var(name).unwrap_or_default().into_bytes();
        let pairs = [("id", variable("AWS_ACCESS_KEY_ID")), ("key", variable("AWS_SECRET_ACCESS_KEY"))];
        let mut secrets = SecretValues::default();
        secrets.insert(SECRET, pairs.map(|(key, value)| (key.to_owned(), value)).into());
        secrets
    }

    /// The repository.
    pub fn repository(&self, purpose: Purpose) -> Result<Repository> {
        objstore::repository(&self.store()?, &self.server, &Self::secrets(), purpose)
            .map_err(|error| Error::new(ErrorKind::Invalid, error.report()))
    }
}
