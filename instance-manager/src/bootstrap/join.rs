//! `bootstrap join`: a replica's data directory, from the newest backup where that is cheaper ([`join_backup`]), else copied
//! from the primary by PostgreSQL's own `pg_basebackup`.

use std::path::Path;
use std::time::Duration;

use howdah_api::naming;
use tokio::process::Command;
use tokio::time::sleep;

use super::{Context, join_backup, marker};
use crate::config::conf::PrimaryConnection;
use crate::environment::Environment;
use crate::error::{IoContext, Result};
use crate::pg::children::Children;
use crate::pg::files::{STANDBY_SIGNAL, set_signal};
use crate::pg::programs::Programs;
use crate::pg::relayed::run_program;
use crate::pg::sql::MAINTENANCE_DB;
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

/// The same, for programs that log in to a database: the one that the role of replicas may use.
#[must_use]
pub fn conninfo_with_database(env: &Environment) -> String {
    format!("{} dbname='{MAINTENANCE_DB}'", conninfo(env))
}

/// Makes the data directory of a replica unless it is finished.
///
/// # Errors
/// When certificates are missing or the primary does not answer; the next try begins anew.
pub async fn run(context: &Context) -> Result<()> {
    let paths = &context.env.paths;
    if marker::is_settled(paths)? {
        return Ok(());
    }
    let names = certificates::secret_names(&context.cluster, &context.env.cluster);
    let secrets = context.kube.read_secrets(names.iter().map(String::as_str)).await?;
    certificates::write(&secrets, &context.cluster, &context.env.cluster, &paths.certificates())?;

    marker::begin(paths, KIND)?;
    if !join_backup::restored(context).await? {
        copy_primary(context).await?;
    }
    set_signal(paths, Some(STANDBY_SIGNAL))?;
    marker::finish(paths, KIND)?;
    tracing::info!("the data directory is finished");
    Ok(())
}

async fn copy_primary(context: &Context) -> Result<()> {
    let paths = &context.env.paths;
    let mut pause = Duration::from_secs(1);
    for attempt in 1.. {
        marker::clean(paths, context.wal_dir().as_deref())?;
        let wal_dir = context.wal_dir();
        match copy(&context.programs, &context.children, &context.env, wal_dir.as_deref()).await {
            Ok(()) => return Ok(()),
            Err(error) if attempt == TRIES || error.is_permanent() => return Err(error),
            Err(error) => tracing::warn!(attempt, "{}; trying again", error.report()),
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(15));
    }
    Ok(())
}

/// Copies the primary into an empty PGDATA, and its WAL into `wal_dir` when that is given. PostgreSQL syncs the files.
///
/// # Errors
/// When the program is missing, or the primary does not answer or goes away: what was copied so far is of no use then.
pub async fn copy(
    programs: &Programs,
    children: &Children,
    env: &Environment,
    wal_dir: Option<&Path>,
) -> Result<()> {
    let mut command = Command::new(programs.program("pg_basebackup")?);
    command.arg("-D").arg(&env.paths.pgdata);
    command.args(["--wal-method=stream", "--checkpoint=fast", "--no-password"]);
    command.arg(format!("--dbname={}", conninfo(env)));
    if let Some(wal) = wal_dir {
        std::fs::create_dir_all(wal).at("cannot make", wal)?;
        command.arg("--waldir").arg(wal);
    }
    let remedy = "the primary must be ready and reachable through its service";
    run_program(children, command, "pg_basebackup", remedy).await
}
