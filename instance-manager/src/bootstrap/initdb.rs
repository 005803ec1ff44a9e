//! `bootstrap initdb`: an empty database cluster with its roles and the application's database.

use howdah_api::bootstrap::InitDb;
use howdah_api::naming;
use tokio::process::Command;

use super::plan::{Application, application, initdb_arguments, replication_role};
use super::{Context, marker};
use crate::error::{Error, IoContext, Result};
use crate::pg::relayed::run_program;
use crate::pg::sql::{LocalServer, MAINTENANCE_DB};
use crate::run::passwords::{Login, superuser_statement, verifier};

/// Word in the marks.
const KIND: &str = "initdb";

/// Makes the data directory unless it is finished.
///
/// # Errors
/// When a Secret is missing, `initdb` refuses, or SQL fails; the next try begins anew.
pub async fn run(context: &Context) -> Result<()> {
    let paths = &context.env.paths;
    if marker::is_settled(paths)? {
        return Ok(());
    }
    let spec = &context.cluster.spec;
    let initdb = spec.bootstrap.as_ref().and_then(|b| b.initdb.clone()).unwrap_or_default();
    let app = Application::of(&initdb);
    let superuser = Login::superuser_name(&context.env.cluster, spec);
    let app_secret =
        initdb.secret.as_ref().map_or_else(|| naming::app_secret(&context.env.cluster), |s| s.name.clone());
    let names = superuser.iter().map(String::as_str).chain([app_secret.as_str()]);
    let secrets = context.kube.read_secrets(names).await?;
    let app_login = Login::read(&secrets, &app_secret, Some(&app.owner))?;
    let super_login = match &superuser {
        Some(name) => Some(Login::read(&secrets, name, Some("postgres"))?),
        None => None,
    };

    marker::begin(paths, KIND)?;
    marker::clean(paths, context.wal_dir().as_deref())?;
    initialise(context, &initdb).await?;
    let (server, local) = context.start_private().await?;
    let filled = fill(&local, &initdb, &app, &app_login, super_login.as_ref()).await;
    let stopped = context.stop_private(server).await;
    filled?;
    stopped?;
    marker::finish(paths, KIND)?;
    tracing::info!(database = app.database, owner = app.owner, "the data directory is finished");
    Ok(())
}

async fn initialise(context: &Context, initdb: &InitDb) -> Result<()> {
    let program = context.programs.program("initdb")?;
    let major = context.programs.major_version(&context.children).await?;
    let mut command = Command::new(&program);
    command.arg("-D").arg(&context.env.paths.pgdata).args(initdb_arguments(initdb, major));
    if let Some(wal) = context.wal_dir() {
        std::fs::create_dir_all(&wal).at("cannot make", &wal)?;
        command.arg("-X").arg(wal);
    }
    run_program(&context.children, command, "initdb", "see bootstrap.initdb of the Cluster").await
}

async fn fill(
    local: &LocalServer,
    initdb: &InitDb,
    app: &Application,
    app_login: &Login,
    superuser: Option<&Login>,
) -> Result<()> {
    let sql = local.connect(MAINTENANCE_DB).await?;
    let mut statements = replication_role();
    statements.push(superuser_statement(superuser));
    statements.extend(application(app, &verifier(app_login)));
    for statement in &statements {
        sql.batch_execute(statement).await?;
    }
    for (index, statement) in initdb.post_init_sql.iter().enumerate() {
        sql.batch_execute(statement).await.map_err(|e| post_init(e, "postInitSQL", index))?;
    }
    if !initdb.post_init_application_sql.is_empty() {
        let sql = local.connect(&app.database).await?;
        for (index, statement) in initdb.post_init_application_sql.iter().enumerate() {
            sql.batch_execute(statement).await.map_err(|e| post_init(e, "postInitApplicationSQL", index))?;
        }
    }
    Ok(())
}

fn post_init(error: tokio_postgres::Error, field: &str, index: usize) -> Error {
    let said = Error::from(error);
    Error::permanent(format!(
        "bootstrap.initdb.{field}[{index}] failed; correct it in a new Cluster: {}",
        said.report()
    ))
}
