//! Stock `kubectl`, as a user has it. Nothing here needs more than version 1.20.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::wait;

/// `kubectl` with a kubeconfig and a namespace.
#[derive(Clone, Debug)]
pub struct Kubectl {
    /// File given as `--kubeconfig`.
    pub kubeconfig: PathBuf,
    /// Namespace given as `--namespace`.
    pub namespace: String,
}

/// What a call printed.
#[derive(Debug)]
pub struct Output {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Kubectl {
    /// The same server, another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// Runs `kubectl` and returns what it printed, whatever the exit code.
    ///
    /// # Errors
    /// When there is no `kubectl`.
    pub async fn output(&self, args: &[&str], stdin: Option<&str>) -> Result<Output> {
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--namespace")
            .arg(&self.namespace)
            .args(args)
            .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("kubectl cannot be run: install it (Debian: apt-get install kubernetes-client)")?;
        if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
            pipe.write_all(text.as_bytes()).await.context("kubectl does not read its input")?;
        }
        let out = child.wait_with_output().await?;
        Ok(Output {
            ok: out.status.success(),
            code: out.status.code(),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }

    /// Runs `kubectl`; its standard output.
    ///
    /// # Errors
    /// When it exits with another code than 0, with what it printed.
    pub async fn run(&self, args: &[&str]) -> Result<String> {
        let out = self.output(args, None).await?;
        if !out.ok {
            bail!("kubectl {}: {}{}", args.join(" "), out.stderr, out.stdout);
        }
        Ok(out.stdout)
    }

    /// `kubectl apply -f -`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn apply(&self, manifest: &str) -> Result<String> {
        let out = self.output(&["apply", "-f", "-"], Some(manifest)).await?;
        if !out.ok {
            bail!("kubectl apply: {}{}\n{manifest}", out.stderr, out.stdout);
        }
        Ok(out.stdout)
    }

    /// `kubectl apply -f -` that must be refused; what it said.
    ///
    /// # Errors
    /// When the server accepts.
    pub async fn apply_refused(&self, manifest: &str) -> Result<String> {
        let out = self.output(&["apply", "-f", "-"], Some(manifest)).await?;
        if out.ok {
            bail!("the server accepted what it should refuse:\n{manifest}\n{}", out.stdout);
        }
        Ok(out.stderr)
    }

    /// `kubectl get KIND NAME -o json`, `None` when there is none.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn get(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        let out = self.run(&["get", kind, name, "-o", "json", "--ignore-not-found"]).await?;
        if out.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&out)
            .map(Some)
            .with_context(|| format!("kubectl get {kind} {name} printed no JSON"))
    }

    /// Items of `kubectl get KIND -l SELECTOR -o json`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn list(&self, kind: &str, selector: &str) -> Result<Vec<Value>> {
        let out = self.run(&["get", kind, "-l", selector, "-o", "json"]).await?;
        let list: Value = serde_json::from_str(&out).context("kubectl get printed no JSON")?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until `holds` of the object; the object.
    ///
    /// # Errors
    /// After `limit`, with the object's status and its events.
    pub async fn wait_for(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let waited = wait::until(&format!("{kind}/{name}: {what}"), limit, || async {
            Ok(self.get(kind, name).await?.filter(|object| holds(object)))
        })
        .await;
        match waited {
            Ok(object) => Ok(object),
            Err(error) => {
                let described = self.output(&["describe", kind, name], None).await?;
                let pods = self.output(&["get", "pods", "-o", "wide"], None).await?;
                Err(anyhow!("{error:#}\n{}{}\n{}", described.stdout, described.stderr, pods.stdout))
            }
        }
    }

    /// Makes a Secret, as a user does.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create_secret(&self, name: &str, literals: &[(&str, &str)]) -> Result<()> {
        let pairs: Vec<String> = literals.iter().map(|(k, v)| format!("--from-literal={k}={v}")).collect();
        let mut args = vec!["create", "secret", "generic", name];
        args.extend(pairs.iter().map(String::as_str));
        self.run(&args).await.map(drop)
    }

    /// `kubectl logs POD -c CONTAINER`.
    ///
    /// # Errors
    /// When there are none.
    pub async fn logs(&self, pod: &str, container: &str) -> Result<String> {
        self.run(&["logs", pod, "-c", container]).await
    }
}
