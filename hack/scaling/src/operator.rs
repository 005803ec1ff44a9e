//! The operator's program, and what it takes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::world::{OPERATOR, SYSTEM, World};

/// Kernel ticks in a second, on every Linux of today.
const TICKS: f64 = 100.0;
/// Where it tells its metrics.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 18_080);

/// A running operator; it ends with this.
pub struct Operator {
    child: Child,
    pid: u32,
    _directory: tempfile::TempDir,
}

/// Its memory in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident.
    pub resident: u64,
    /// Of that, what is no file.
    pub anonymous: u64,
    /// Highest ever resident.
    pub peak: u64,
}

/// What its Cluster controller has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reconciles {
    /// Number of looks.
    pub count: f64,
    /// Seconds that they took.
    pub seconds: f64,
}

impl Operator {
    /// Starts it for all namespaces.
    pub fn start(program: &Path, world: &World) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let kubeconfig = directory.path().join("kubeconfig");
        // Its rights are tested elsewhere; here every request would be held up by looking at the roles of all clusters.
        std::fs::write(&kubeconfig, world.server.client_kubeconfig(OPERATOR, &["system:masters"])?)?;
        let child = Command::new(program)
            .env_clear()
            .env("KUBECONFIG", &kubeconfig)
            .env("OPERATOR_NAMESPACE", SYSTEM)
            .env("POD_NAME", "operator")
            .env("METRICS_ADDRESS", METRICS.to_string())
            .env("HEALTH_ADDRESS", "127.0.0.1:18081")
            .env("LOG_LEVEL", "warn")
            .env("LOG_FORMAT", "text")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id().context("the operator has ended at once")?;
        Ok(Self { child, pid, _directory: directory })
    }

    /// Ends it.
    pub async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end the operator")
    }

    /// Its memory now.
    pub fn memory(&self) -> Result<Memory> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid))
            .context("the operator has ended")?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        };
        let get = |name: &str| field(name).with_context(|| format!("/proc does not tell {name}"));
        Ok(Memory { resident: get("VmRSS")?, anonymous: get("RssAnon")?, peak: get("VmHWM")? })
    }

    /// Processor seconds so far.
    pub fn processor(&self) -> Result<f64> {
        let text =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("the operator has ended")?;
        // Behind the name, which may hold anything: state is the third field of all, user and system time the 14th and 15th.
        let (_, rest) = text.rsplit_once(')').context("/proc/stat is not understood")?;
        let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
        Ok(ticks.sum::<f64>() / TICKS)
    }

    /// What its Cluster controller has done so far.
    pub async fn reconciles(&self) -> Result<Reconciles> {
        let text = tokio::time::timeout(Duration::from_secs(30), metrics()).await??;
        let value = |name: &str| {
            let wanted =
                format!("howdah_operator_reconcile_duration_seconds_{name}{{controller=\"cluster\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or(0.0)
        };
        Ok(Reconciles { count: value("count"), seconds: value("sum") })
    }
}

async fn metrics() -> Result<String> {
    let mut stream = TcpStream::connect(METRICS).await.context("the operator tells no metrics")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
