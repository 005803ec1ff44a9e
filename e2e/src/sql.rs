//! SQL from a pod of the cluster's own network, so that it works on every ground: `psql` runs in a pod and its
//! answer is read from the log.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use crate::kubectl::Kubectl;
use crate::wait;

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Who asks whom.
#[derive(Clone, Debug)]
pub struct Session {
    /// The server.
    pub kubectl: Kubectl,
    /// Image with `psql`.
    pub image: String,
    /// Host: a service or a pod's address.
    pub host: String,
    /// Secret with `username` and `password`.
    pub secret: String,
    /// Database.
    pub database: String,
}

impl Session {
    /// As the superuser of `cluster`, through its service for writes.
    #[must_use]
    pub fn superuser(kubectl: &Kubectl, image: &str, cluster: &str) -> Self {
        Self {
            kubectl: kubectl.clone(),
            image: image.to_owned(),
            host: howdah_api::naming::service_rw(cluster),
            secret: howdah_api::naming::superuser_secret(cluster),
            database: "app".to_owned(),
        }
    }

    /// The same, another host.
    #[must_use]
    pub fn at(&self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self.clone() }
    }

    /// The same, another database.
    #[must_use]
    pub fn database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// Runs statements; the rows, unaligned, without headers.
    ///
    /// # Errors
    /// When `psql` fails, with what it said.
    pub async fn run(&self, sql: &str) -> Result<String> {
        let name = format!("sql-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let env_from = |variable: &str, key: &str| json!({"name": variable, "valueFrom": {"secretKeyRef": {"name": self.secret, "key": key}}});
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "sql"}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 26, "runAsGroup": 26, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "psql",
                    "image": self.image,
                    "command": ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql],
                    "env": [
                        {"name": "PGHOST", "value": self.host},
                        {"name": "PGDATABASE", "value": self.database},
                        {"name": "PGCONNECT_TIMEOUT", "value": "20"},
                        {"name": "HOME", "value": "/tmp"},
                        env_from("PGUSER", "username"),
                        env_from("PGPASSWORD", "password"),
                    ],
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        });
        self.kubectl.apply(&pod.to_string()).await?;
        let phase = wait::until(&format!("the end of {name}"), wait::minutes(5), || async {
            let pod = self.kubectl.get("pod", &name).await?;
            Ok(pod.and_then(|p| {
                p["status"]["phase"]
                    .as_str()
                    .filter(|p| ["Succeeded", "Failed"].contains(p))
                    .map(str::to_owned)
            }))
        })
        .await?;
        let log = self.kubectl.logs(&name, "psql").await?;
        self.kubectl.run(&["delete", "pod", &name, "--wait=false"]).await?;
        if phase != "Succeeded" {
            bail!("psql on {} ({}): {log}", self.host, self.database);
        }
        Ok(log.trim_end().to_owned())
    }

    /// Runs statements again until they succeed: for a server that is about to come up.
    ///
    /// # Errors
    /// After `limit`.
    pub async fn run_when_up(&self, sql: &str, limit: Duration) -> Result<String> {
        wait::until(&format!("SQL on {}", self.host), limit, || async { self.run(sql).await.map(Some) }).await
    }
}
