//! Servers of Google Cloud Storage and Azure Blob Storage, as their makers ship them for tests, on loopback ports. Pods of
//! the lab reach them; those of a real cluster do not.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Azurite's account.
pub const AZURE_ACCOUNT: &str = "devstoreaccount1";
/// Its key, which everybody knows.
pub const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// A key of a service account that signs nothing: fake-gcs-server looks at no token.
pub const GCS_KEY: &str = r#"{"type":"service_account","client_email":"a@b","private_key":"","private_key_id":"","disable_oauth":true}"#;

/// A server with an empty bucket or container. It ends when this is dropped.
pub struct Emulator {
    /// What goes into `endpoint`.
    pub endpoint: String,
    child: Child,
    _dir: TempDir,
}

impl Emulator {
    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        self.endpoint.split('/').nth(2).unwrap_or_default()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Emulator {
    /// fake-gcs-server with `bucket`.
    ///
    /// # Errors
    /// When it is not installed (the message names the command) or does not start.
    pub fn gcs(bucket: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join(bucket))?;
        // It does not tell a port that it chose itself.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut child = command("fake-gcs", "fake-gcs-server")?
            .args([
                "-backend",
                "memory",
                "-scheme",
                "http",
                "-host",
                "127.0.0.1",
                "-public-host",
                "127.0.0.1",
            ])
            .args(["-port", &port.to_string()])
            .arg("-data")
            .arg(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("fake-gcs-server does not start")?;
        let output = child.stderr.take();
        let emulator = Self { endpoint: format!("http://127.0.0.1:{port}"), child, _dir: dir };
        line(output, "fake-gcs-server", "server started")?;
        Ok(emulator)
    }

    /// Azurite with `container`.
    ///
    /// # Errors
    /// When it is not installed (the message names the command) or does not start.
    pub async fn azure(container: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut child = command("azurite", "node_modules/.bin/azurite-blob")?
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent"])
            .args(["--disableTelemetry", "--skipApiVersionCheck"])
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("azurite does not start")?;
        let output = child.stdout.take();
        let mut emulator = Self { endpoint: String::new(), child, _dir: dir };
        let said = line(output, "azurite", "successfully listens on")?;
        let address = said.trim().rsplit('/').next().unwrap_or_default().to_owned();
        emulator.endpoint = format!("http://{address}/{AZURE_ACCOUNT}");
        make_container(&address, container).await.with_context(|| format!("container {container}"))?;
        Ok(emulator)
    }
}

/// A program below `target/parts` that ends with this one at the latest, also when this one is killed.
fn command(part: &str, program: &str) -> Result<Command> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/parts").join(part).join(program);
    ensure!(path.exists(), "{} is missing: run hack/install {part}", path.display());
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(path).stdin(Stdio::null());
    Ok(command)
}

/// The first line that holds `word`; what comes after it is read and dropped, so that the server never waits.
fn line(output: Option<impl Read + Send + 'static>, name: &str, word: &str) -> Result<String> {
    let mut lines = BufReader::new(output.context("no output")?).lines();
    let mut seen = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        if line.contains(word) {
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(line);
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    bail!("{name} ended before it listened:\n{seen}")
}

/// The one request that no client library for data makes.
async fn make_container(address: &str, container: &str) -> Result<()> {
    let path = format!("/{AZURE_ACCOUNT}/{container}?restype=container");
    let answer = ask_azure(address, "PUT", &path).await?;
    ensure!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    Ok(())
}

/// A request to Azurite with the account's key; the whole answer, with its head.
///
/// # Errors
/// When it cannot be sent.
pub async fn ask_azure(address: &str, method: &str, path: &str) -> Result<String> {
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method.parse()?;
    *request.uri_mut() = format!("http://{address}{path}").parse()?;
    let key = AzureCredential::AccessKey(AzureAccessKey::try_new(AZURE_KEY)?);
    AzureAuthorizer::new(&key, AZURE_ACCOUNT).try_authorize(&mut request)?;
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n");
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str()?));
    }
    text.push_str("\r\n");
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_listen_and_end_when_they_are_dropped() {
        let gcs = Emulator::gcs("bucket").unwrap();
        let azure = Emulator::azure("container").await.unwrap();
        assert!(azure.endpoint.ends_with("/devstoreaccount1"), "{}", azure.endpoint);
        let all = [gcs.address().to_owned(), azure.address().to_owned()];
        for address in &all {
            TcpStream::connect(address).await.unwrap();
        }
        drop((gcs, azure));
        for address in &all {
            assert!(TcpStream::connect(address).await.is_err(), "{address} still listens");
        }
    }
}
