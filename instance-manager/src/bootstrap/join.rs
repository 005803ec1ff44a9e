//! `bootstrap join`: a replica's data directory, copied from the primary by PostgreSQL's own `pg_basebackup`.

use std::time::Duration;

use howdah_api::naming;
use tokio::process::Command;
use tokio::time::sleep;

use super::initdb::run_program;
use super::{Context, marker};
use crate::config::conf::PrimaryConnection;
use crate::environment::Environment;
use crate::error::{IoContext, Result};
use crate::pg::files::{STANDBY_SIGNAL, set_signal};
use crate::run::certificates;

/// Word in the marks.
const KIND: &str = "join";
/// Tries before the container ends and Kubernetes takes over with its own pauses.
const TRIES: u32 = 6;

/// How this instance reaches the primary.
#[must_use]
pub fn conninfo(env: &Environment) -> String {
    PrimaryConnection {
        host: &naming::service_rw(&env.cluster),
        port: u16::try_from(naming::POSTGRES_PORT).unwrap_or(5432),
        user: naming::REPLICATION_USER,
        instance: &env.pod,
        certificates: env.paths.certificates(),
    }
    .conninfo()
}

/// Copies the primary unless the data directory is finished.
///
/// # Errors
/// When certificates are missing or the primary does not answer; the next try begins anew.
pub async fn run(context: &Context) -> Result<()> {
    let paths = &context.env.paths;
    if marker::look(paths)? == marker::Found::Done {
        tracing::info!("the data directory is finished already");
        return Ok(());
    }
    let secrets = context
        .kube
        .read_secrets(certificates::secret_names(&context.env.cluster).iter().map(String::as_str))
        .await?;
    certificates::write(&secrets, &context.env.cluster, &paths.certificates())?;

    marker::begin(paths, KIND)?;
    let mut pause = Duration::from_secs(1);
    for attempt in 1.. {
        marker::clean(paths, context.wal_dir().as_deref())?;
        match copy(context).await {
            Ok(()) => break,
            Err(error) if attempt == TRIES || error.is_permanent() => return Err(error),
            Err(error) => tracing::warn!(attempt, "{}; trying again", error.report()),
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(15));
    }
    set_signal(paths, Some(STANDBY_SIGNAL))?;
    marker::finish(paths, KIND)?;
    tracing::info!("the data directory is finished");
    Ok(())
}

async fn copy(context: &Context) -> Result<()> {
    let mut command = Command::new(context.programs.program("pg_basebackup")?);
    command.arg("-D").arg(&context.env.paths.pgdata);
    command.args(["--wal-method=stream", "--checkpoint=fast", "--no-password"]);
    command.arg(format!("--dbname={}", conninfo(&context.env)));
    if let Some(wal) = context.wal_dir() {
        std::fs::create_dir_all(&wal).at("cannot make", &wal)?;
        command.arg("--waldir").arg(wal);
    }
    run_program(
        context,
        command,
        "pg_basebackup",
        "the primary must be ready and reachable through its service",
    )
    .await
}
