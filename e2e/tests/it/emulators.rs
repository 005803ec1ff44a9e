//! Google Cloud Storage and Azure Blob Storage beside the lab's S3, each with an empty bucket, on the loopback interface,
//! where the lab's pods reach them.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Result, ensure};
use howdah_e2e::Kubectl;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use serde_json::{Value, json};

#[path = "../../../barman-cloud/tests/it/servers.rs"]
mod servers;

use servers::{Running, azurite, fake_gcs};

/// Azurite's account and its key, which everybody knows.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// A key that signs nothing: for the emulator, which looks at no token.
pub const GOOGLE_KEY: &str = r#"{"type":"service_account","client_email":"a@b","private_key":"","private_key_id":"","disable_oauth":true}"#;
const BUCKET: &str = "backups";

/// The two, as long as this lives.
pub struct Emulators {
    gcs: Running,
    azure: Running,
}

impl Emulators {
    /// Begins them, and puts their credentials into the Secret `cloud-creds`.
    pub async fn start(kubectl: &Kubectl) -> Result<Self> {
        let emulators = Self { gcs: fake_gcs(BUCKET), azure: azurite() };
        make_container(emulators.azure.port())?;
        let secret = [("gcs.json", GOOGLE_KEY), ("account", ACCOUNT), ("key", KEY)];
        kubectl.create_secret("cloud-creds", &secret).await?;
        Ok(emulators)
    }

    pub fn gcs_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.gcs.port())
    }

    pub fn azure_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.azure.port())
    }

    /// A repository in Google's.
    pub fn gcs(&self, name: &str) -> Value {
        json!({
            "name": name,
            "gcs": {"bucket": BUCKET, "endpoint": self.gcs_endpoint()},
            "credentials": {"applicationCredentials": {"name": "cloud-creds", "key": "gcs.json"}},
        })
    }

    /// A repository in Azure's.
    pub fn azure(&self, name: &str) -> Value {
        json!({
            "name": name,
            "azure": {"container": BUCKET, "endpoint": self.azure_endpoint()},
            "credentials": {
                "storageAccount": {"name": "cloud-creds", "key": "account"},
                "storageKey": {"name": "cloud-creds", "key": "key"},
            },
        })
    }
}

/// Makes the container of an Azurite: one signed request.
fn make_container(port: u16) -> Result<()> {
    let target = format!("/{ACCOUNT}/{BUCKET}?restype=container");
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = "PUT".parse()?;
    *request.uri_mut() = format!("http://127.0.0.1:{port}{target}").parse()?;
    let credential = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY)?);
    AzureAuthorizer::new(&credential, ACCOUNT).try_authorize(&mut request)?;
    let mut text = format!("PUT {target} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n");
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\r\n", value.to_str()?);
    }
    text += "content-length: 0\r\n\r\n";
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.write_all(text.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 201"), "the container was not made: {answer}");
    Ok(())
}
