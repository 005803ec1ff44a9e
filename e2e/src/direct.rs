//! SQL from this process, on grounds whose addresses are this machine's own: without a pod for every statement, and in
//! one session for as long as a test wants it.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use howdah_api::naming;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::kubectl::Kubectl;

/// Longest wait for a session.
const OPEN: Duration = Duration::from_secs(5);
/// Longest wait for the answer to [`Door::ask`].
const ANSWER: Duration = Duration::from_secs(60);

/// A server's address, and who asks there.
#[derive(Clone, Debug)]
pub struct Door {
    // Its own `Debug` does not show the password.
    config: Config,
    address: String,
}

impl Door {
    /// As the superuser of `cluster` in the database `app`, through one of its services: wherever that leads when a
    /// session is opened.
    ///
    /// # Errors
    /// When there is no such cluster, or its addresses are not this machine's.
    pub async fn service(kubectl: &Kubectl, cluster: &str, service: &str) -> Result<Self> {
        let secret = found(kubectl, "secret", &naming::superuser_secret(cluster)).await?;
        let read = |key: &str| -> Result<String> {
            let data = secret["data"][key].as_str().unwrap_or_default();
            let bytes = STANDARD.decode(data).with_context(|| format!("{key} of the superuser's Secret"))?;
            String::from_utf8(bytes).with_context(|| format!("{key} of the superuser's Secret"))
        };
        let mut config = Config::new();
        config
            .user(read("username")?)
            .password(read("password")?)
            .dbname("app")
            .port(u16::try_from(naming::POSTGRES_PORT)?)
            .ssl_mode(SslMode::Disable)
            .application_name("howdah-e2e")
            .connect_timeout(OPEN);
        let service = found(kubectl, "service", service).await?;
        let base = Self { config, address: String::new() };
        base.at(service["spec"]["clusterIP"].as_str().unwrap_or_default())
    }

    /// The same, at another address: that of a pod.
    ///
    /// # Errors
    /// When it is not an address of this machine.
    pub fn at(&self, address: &str) -> Result<Self> {
        ensure!(
            address.starts_with("127."),
            "{address:?} is not an address of this machine: this test needs the lab, without E2E_KUBECONFIG"
        );
        // A host cannot be replaced in a Config, only added.
        let mut config = Config::new();
        let old = &self.config;
        config
            .user(old.get_user().unwrap_or_default())
            .password(old.get_password().unwrap_or_default())
            .dbname(old.get_dbname().unwrap_or_default())
            .port(old.get_ports().first().copied().unwrap_or_default())
            .ssl_mode(old.get_ssl_mode())
            .application_name(old.get_application_name().unwrap_or_default())
            .connect_timeout(OPEN)
            .host(address);
        Ok(Self { config, address: address.to_owned() })
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When nobody answers in 5 seconds, or the server refuses.
    pub async fn open(&self) -> Result<Session> {
        self.open_within(OPEN).await
    }

    /// Opens a session with a server that may take its time; the connection itself must come about in 5 seconds.
    ///
    /// # Errors
    /// When there is no answer in time, or the server refuses.
    pub async fn open_within(&self, limit: Duration) -> Result<Session> {
        let (client, connection) = timeout(limit, self.config.connect(NoTls))
            .await
            .map_err(|_| anyhow!("no session at {} within {limit:?}", self.address))?
            .with_context(|| format!("no session at {}", self.address))?;
        // It ends with an error when the server goes away; whoever waits for an answer is told of it.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok(Session { client, task })
    }

    /// Runs statements in a session of their own; the rows as `psql -XAt` prints them.
    ///
    /// # Errors
    /// When there is no answer in a minute, or the server refuses.
    pub async fn ask(&self, sql: &str) -> Result<String> {
        let session = self.open().await?;
        timeout(ANSWER, session.ask(sql))
            .await
            .map_err(|_| anyhow!("{} did not answer within {ANSWER:?}: {sql}", self.address))?
            .with_context(|| format!("at {}", self.address))
    }
}

async fn found(kubectl: &Kubectl, kind: &str, name: &str) -> Result<Value> {
    kubectl.get(kind, name).await?.with_context(|| format!("there is no {kind} {name}"))
}

/// An open session. Dropping it cuts the connection, whatever is going on in it.
pub struct Session {
    client: Client,
    task: JoinHandle<()>,
}

impl Session {
    /// For statements with parameters.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Runs statements; the rows as `psql -XAt` prints them.
    ///
    /// # Errors
    /// When the server refuses or goes away.
    pub async fn ask(&self, sql: &str) -> Result<String> {
        let messages = self.client.simple_query(sql).await.with_context(|| sql.to_owned())?;
        let rows: Vec<String> = messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .map(|row| {
                let fields: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or_default()).collect();
                fields.join("|")
            })
            .collect();
        Ok(rows.join("\n"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}
