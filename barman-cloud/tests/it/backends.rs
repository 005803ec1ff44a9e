//! The same store on each storage, for tests of what must be the same everywhere.

use crate::servers::{Running, azurite, fake_gcs};
use crate::support::{BUCKET, limits, options, server};
use barman_cloud::store::{AzureCredentials, AzureOptions, GcsCredentials, GcsOptions, client_config};
use barman_cloud::{Destination, Repository, S3Options, Store};
use howdah_s3::Server;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};

/// Azurite's account and its key, which everybody knows.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A key that signs nothing: for emulators, which look at no token.
const NO_KEY: &str = r#"{"type":"service_account","client_email":"a@b","private_key":"","private_key_id":"","disable_oauth":true}"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    S3,
    Gcs,
    Azure,
}

enum Behind {
    S3(Server),
    Other(Running),
}

/// A server with an empty bucket.
pub struct Backend {
    pub kind: Kind,
    behind: Behind,
}

pub async fn backend(kind: Kind) -> Backend {
    let behind = match kind {
        Kind::S3 => Behind::S3(server().await),
        Kind::Gcs => Behind::Other(fake_gcs(BUCKET)),
        Kind::Azure => {
            let running = azurite();
            make_container(running.port()).await;
            Behind::Other(running)
        }
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

    fn port(&self) -> u16 {
        match &self.behind {
            Behind::S3(server) => server.address().port(),
            Behind::Other(running) => running.port(),
        }
    }

    /// Where the server listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
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
                let mut options = GcsOptions::new(GcsCredentials::ServiceAccount(NO_KEY.into()));
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
        let url = format!("http://{}/{ACCOUNT}/{BUCKET}/{key}?comp=tags", self.address());
        ask_azurite(http::Method::GET, &url).await
    }

    /// All keys of the bucket, in order.
    pub async fn keys(&self) -> Vec<String> {
        let all = self.store_at("").list_prefix("").await.expect("listed");
        all.into_iter().map(|object| object.key).collect()
    }
}

/// Makes the bucket of an Azurite.
async fn make_container(port: u16) {
    let url = format!("http://127.0.0.1:{port}/{ACCOUNT}/{BUCKET}?restype=container");
    ask_azurite(http::Method::PUT, &url).await;
}

/// A request with the account's key, that the library does not make.
async fn ask_azurite(method: http::Method, url: &str) -> String {
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method.clone();
    *request.uri_mut() = url.parse().expect("a URL");
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).expect("base64"));
    AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request).expect("signed");
    let tls = client_config(None, None).expect("TLS");
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).build().expect("a client");
    let asked = client.request(method, url).headers(request.headers().clone());
    let answer = asked.send().await.expect("an answer");
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    assert!(status.is_success(), "{status} {text}");
    text
}
