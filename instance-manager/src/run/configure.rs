//! Writes the server's configuration from the Cluster, after PostgreSQL itself has looked at it.

use std::collections::BTreeMap;

use howdah_api::Cluster;
use howdah_engine::ControlData;

use super::role::Running;
use super::shared::Shared;
use crate::bootstrap::join::conninfo;
use crate::bootstrap::private::os_user;
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::config::conf::{self, ConfInput, ConfRole};
use crate::config::recovery::RecoverySettings;
use crate::config::{hba, parameters};
use crate::environment::Environment;
use crate::error::{Error, IoContext, Result};
use crate::install::write_atomically;
use crate::pg::files::ServerFiles;
use crate::pg::probe;

/// Renders the files for `running`.
///
/// # Errors
/// When a parameter cannot be used, or the control file cannot be read.
pub fn render(
    env: &Environment,
    cluster: &Cluster,
    major: u32,
    tls: bool,
    running: Running,
    control: &BTreeMap<String, i64>,
    recovery: Option<&RecoveryFile>,
) -> Result<ServerFiles> {
    let postgresql = &cluster.spec.postgresql;
    parameters::validate(&postgresql.parameters).map_err(|e| Error::permanent(e.to_string()))?;
    let role = match running {
        Running::Primary => ConfRole::Primary,
        Running::Standby => ConfRole::Standby { conninfo: conninfo(env) },
        Running::Recovery if recovery.is_some_and(|r| r.following) => ConfRole::Following,
        Running::Recovery => {
            let target = recovery.and_then(|r| r.target.as_ref());
            let mut settings = RecoverySettings::of(target).map_err(|e| Error::permanent(e.to_string()))?;
            // What the archive's histories say goes before what PostgreSQL would find out by itself.
            if let Some(timeline) = recovery.and_then(|r| r.timeline.clone()) {
                settings.timeline = timeline;
            }
            ConfRole::Recovery(settings)
        }
    };
    let (run, certificates, manager) = (env.paths.run(), env.paths.certificates(), env.paths.manager());
    let listen = env.listen_ip().map_or_else(|| "*".to_owned(), |ip| ip.to_string());
    Ok(ServerFiles {
        conf: conf::render(&ConfInput {
            instance: &env.pod,
            user: &postgresql.parameters,
            major,
            control,
            listen: &listen,
            port: super::shared::cluster_port(),
            socket_dir: &run,
            certificates: tls.then_some(certificates.as_path()),
            manager: &manager,
            role: &role,
            synchronous: synchronous(env, cluster, running),
        }),
        hba: hba::render(&postgresql.pg_hba, tls).or_else(|_| former_hba(env, tls))?,
        ident: hba::render_ident(&os_user(&env.paths)?),
    })
}

/// Lines that PostgreSQL would not take change nothing: to leave out one of them could let somebody in, and all other settings
/// must go on following the Cluster. What was written before stays, and without that nobody but the operator's own rules.
fn former_hba(env: &Environment, tls: bool) -> Result<String> {
    let former = std::fs::read_to_string(env.paths.pgdata.join("pg_hba.conf")).unwrap_or_default();
    if former.starts_with(conf::HEADER) {
        return Ok(former);
    }
    hba::render(&[], tls).map_err(|e| Error::permanent(e.to_string()))
}

/// What is wrong with `spec.postgresql.pg_hba`; the former lines are in force then.
#[must_use]
pub fn refused_hba(cluster: &Cluster) -> Option<Error> {
    let fault = hba::render(&cluster.spec.postgresql.pg_hba, true).err()?;
    Some(Error::permanent(format!("{fault}; until then the former lines of pg_hba are in force")))
}

/// What the server sets as `synchronous_standby_names`.
///
/// A primary has what the status says for as long as it runs, even when another instance shall be the primary: to take the
/// value away would acknowledge the commits that wait, and nobody else may have those. A replica that shall be the primary
/// has it before it is promoted, so that no commit slips through before the next change of the configuration.
fn synchronous<'a>(env: &Environment, cluster: &'a Cluster, running: Running) -> &'a str {
    let Some(status) = &cluster.status else { return "" };
    let names = status.synchronous_standby_names.as_deref().unwrap_or_default();
    match running {
        Running::Primary => names,
        Running::Standby if status.target_primary.as_deref() == Some(env.pod.as_str()) => names,
        Running::Standby | Running::Recovery => "",
    }
}

/// The five settings of the control file, by name. A primary may lower them; replicas and recoveries must not.
///
/// # Errors
/// When the control file is damaged.
pub fn control_settings(shared: &Shared, running: Running) -> Result<BTreeMap<String, i64>> {
    if running == Running::Primary {
        return Ok(BTreeMap::new());
    }
    let five = ControlData::read(&shared.env.paths.pgdata)?.must_not_shrink;
    Ok([
        ("max_connections", five.max_connections),
        ("max_worker_processes", five.max_worker_processes),
        ("max_wal_senders", five.max_wal_senders),
        ("max_prepared_transactions", five.max_prepared_transactions),
        ("max_locks_per_transaction", five.max_locks_per_transaction),
    ]
    .map(|(name, value)| (name.to_owned(), i64::from(value)))
    .into())
}

/// Renders, lets PostgreSQL check, and writes; returns whether anything changed. When PostgreSQL does not accept
/// the settings, the files stay as they were.
///
/// # Errors
/// With PostgreSQL's own words.
pub async fn apply(shared: &Shared, running: Running) -> Result<bool> {
    let cluster = shared.cluster();
    let paths = &shared.env.paths;
    let control = control_settings(shared, running)?;
    let recovery = RecoveryFile::read(paths)?;
    let files =
        render(&shared.env, &cluster, shared.major, shared.tls, running, &control, recovery.as_ref())?;
    let current = std::fs::read_to_string(paths.pgdata.join("postgresql.conf")).unwrap_or_default();
    if current != files.conf {
        let candidate = paths.run().join("candidate.conf");
        write_atomically(&candidate, files.conf.as_bytes(), 0o600).at("cannot write", &candidate)?;
        let asked =
            probe::ask(&shared.children, &shared.programs, &paths.pgdata, &candidate, "data_directory").await;
        asked.map_err(|e| {
            Error::permanent(format!(
                "PostgreSQL does not accept spec.postgresql.parameters; correct them: {}",
                e.report()
            ))
        })?;
    }
    files.write(&paths.pgdata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Paths;

    fn env(ip: &str) -> Environment {
        Environment {
            cluster: "pg".into(),
            namespace: "default".into(),
            pod: "pg-1".into(),
            pod_uid: String::new(),
            pod_ip: Some(ip.parse().unwrap()),
            paths: Paths { controller: "/controller".into(), pgdata: "/d".into(), wal_mount: "/w".into() },
        }
    }

    fn conf(ip: &str, cluster: &Cluster, running: Running) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mut env = env(ip);
        env.paths.controller = dir.path().into();
        let own = crate::install::passwd(crate::install::Ids::or_own(None, None));
        std::fs::write(dir.path().join("passwd"), own).unwrap();
        render(&env, cluster, 15, false, running, &BTreeMap::new(), None).unwrap().conf
    }

    #[test]
    fn a_line_that_is_not_taken_changes_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut env = env("10.0.0.3");
        env.paths.controller = dir.path().into();
        env.paths.pgdata = dir.path().into();
        let own = crate::install::passwd(crate::install::Ids::or_own(None, None));
        std::fs::write(dir.path().join("passwd"), own).unwrap();
        let mut cluster = Cluster::default();
        let mut hba = |line: &str| {
            cluster.spec.postgresql.pg_hba = vec![line.to_owned()];
            let told = refused_hba(&cluster).map(|error| error.to_string());
            let files = render(&env, &cluster, 15, true, Running::Primary, &BTreeMap::new(), None).unwrap();
            std::fs::write(env.paths.pgdata.join("pg_hba.conf"), &files.hba).unwrap();
            (files.hba, told)
        };
        std::fs::write(dir.path().join("pg_hba.conf"), "host all all all trust\n").unwrap();
        let (text, told) = hba("host app app all rejct");
        assert!(told.unwrap().contains("pg_hba[0] is not complete"));
        assert!(!text.contains("trust") && text.contains("hostssl replication"), "not another's: {text}");
        let (good, told) = hba("host app app all reject");
        assert!(told.is_none() && good.contains("host app app all reject\n"), "{good}");
        assert_eq!(hba("host app app all rejct").0, good);
    }

    fn line(conf: &str, name: &str) -> String {
        conf.lines().find(|l| l.starts_with(name)).unwrap().to_owned()
    }

    fn listen(ip: &str) -> String {
        line(&conf(ip, &Cluster::default(), Running::Primary), "listen_addresses")
    }

    #[test]
    fn a_pod_that_shares_its_network_keeps_to_its_own_address() {
        assert_eq!(listen("127.1.2.3"), "listen_addresses = '127.1.2.3'");
        assert_eq!(listen("10.0.0.3"), "listen_addresses = '*'");
    }

    #[rstest::rstest]
    #[case::primary(Running::Primary, "pg-1", true)]
    #[case::a_primary_on_its_way_out(Running::Primary, "pg-2", true)]
    #[case::a_replica_about_to_be_promoted(Running::Standby, "pg-1", true)]
    #[case::a_replica(Running::Standby, "pg-2", false)]
    #[case::a_recovery(Running::Recovery, "pg-1", false)]
    fn who_waits_for_replicas(#[case] running: Running, #[case] target: &str, #[case] waits: bool) {
        let status = howdah_api::ClusterStatus {
            target_primary: Some(target.into()),
            synchronous_standby_names: Some("ANY 1 (\"pg-2\")".into()),
            ..Default::default()
        };
        let cluster = Cluster { status: Some(status), ..Cluster::default() };
        let value = if waits { "ANY 1 (\"pg-2\")" } else { "" };
        assert_eq!(
            line(&conf("10.0.0.3", &cluster, running), "synchronous_standby_names"),
            format!("synchronous_standby_names = '{value}'")
        );
    }
}
