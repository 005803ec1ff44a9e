//! Passwords of the superuser and of the application's owner, from Secrets into PostgreSQL.
//!
//! Only SCRAM verifiers are sent, so a password appears in no log even when the server logs every statement.

use std::fmt;

use howdah_api::{ClusterSpec, naming};

use super::replication_role;
use crate::error::{Error, Result};
use crate::kube::secrets::SecretValues;
use crate::pg::sql::{LocalServer, MAINTENANCE_DB, SUPERUSER, ident, literal};

/// A user with a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Role.
    pub username: String,
    password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Login {
    /// From Secret `secret`; its user must be `expected` when that is given.
    ///
    /// # Errors
    /// When the Secret or a key is missing, or the user is another one.
    pub fn read(secrets: &SecretValues, secret: &str, expected: Option<&str>) -> Result<Self> {
        let username = secrets.text(secret, "username")?.to_owned();
        if let Some(expected) = expected
            && expected != username
        {
            return Err(Error::permanent(format!(
                "Secret {secret} is for user {username:?}, but {expected:?} is needed: change its username, or name another Secret"
            )));
        }
        Ok(Self { username, password: secrets.text(secret, "password")?.to_owned() })
    }

    /// Secret of the superuser; `None` when it shall have no password.
    #[must_use]
    pub fn superuser_name(cluster: &str, spec: &ClusterSpec) -> Option<String> {
        spec.superuser_access().then(|| {
            spec.superuser_secret
                .as_ref()
                .map_or_else(|| naming::superuser_secret(cluster), |s| s.name.clone())
        })
    }

    /// Secret of the application's owner and that owner; `None` when the cluster was recovered and none was
    /// named.
    #[must_use]
    pub fn application_name(cluster: &str, spec: &ClusterSpec) -> Option<(String, String)> {
        let bootstrap = spec.bootstrap.clone().unwrap_or_default();
        let default = || naming::app_secret(cluster);
        if let Some(recovery) = bootstrap.recovery() {
            let owner = recovery.owner.clone().or_else(|| recovery.database.clone())?;
            return Some((recovery.secret.as_ref().map_or_else(default, |s| s.name.clone()), owner));
        }
        let initdb = bootstrap.initdb.unwrap_or_default();
        let secret = initdb.secret.as_ref().map_or_else(default, |s| s.name.clone());
        Some((secret, crate::bootstrap::plan::Application::of(&initdb).owner))
    }
}

/// What PostgreSQL stores instead of the password.
#[must_use]
pub fn verifier(login: &Login) -> String {
    postgres_protocol::password::scram_sha_256(login.password.as_bytes())
}

/// The statement for the superuser: a password, or none.
#[must_use]
pub fn superuser_statement(login: Option<&Login>) -> String {
    let password = login.map_or_else(|| "NULL".to_owned(), |l| literal(&verifier(l)));
    format!("ALTER ROLE {} PASSWORD {password}", ident(SUPERUSER))
}

/// What the passwords shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    superuser: Option<Login>,
    application: Option<Login>,
}

impl Wanted {
    /// Names of the Secrets that are needed.
    #[must_use]
    pub fn secret_names(cluster: &str, spec: &ClusterSpec) -> Vec<String> {
        let application = Login::application_name(cluster, spec).map(|(secret, _)| secret);
        Login::superuser_name(cluster, spec).into_iter().chain(application).collect()
    }

    /// Reads them.
    ///
    /// # Errors
    /// When a Secret is missing or is for another user.
    pub fn read(cluster: &str, spec: &ClusterSpec, secrets: &SecretValues) -> Result<Self> {
        let superuser = match Login::superuser_name(cluster, spec) {
            Some(name) => Some(Login::read(secrets, &name, Some(SUPERUSER))?),
            None => None,
        };
        let application = match Login::application_name(cluster, spec) {
            Some((secret, owner)) => Some(Login::read(secrets, &secret, Some(&owner))?),
            None => None,
        };
        Ok(Self { superuser, application })
    }

    /// Sets them on the primary.
    ///
    /// # Errors
    /// When PostgreSQL refuses, or the application's owner does not exist.
    pub async fn apply(&self, local: &LocalServer) -> Result<()> {
        let sql = local.connect(MAINTENANCE_DB).await?;
        // They are set again by whichever instance becomes the primary: nothing here is worth waiting for replicas that are
        // away, and what waits here keeps the manager from bringing help.
        sql.batch_execute("SET synchronous_commit = local").await?;
        sql.batch_execute("SET log_statement = none; SET log_min_duration_statement = -1; SET log_min_error_statement = panic")
            .await?;
        sql.batch_execute(&superuser_statement(self.superuser.as_ref())).await?;
        // Every primary comes by here once after its start: a restored database need not have the role of replicas.
        if replication_role::ensure(&sql).await? {
            tracing::info!("the role of replicas was made, or given what it lacked");
        }
        if let Some(login) = &self.application {
            let known = sql
                .query_opt("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = $1", &[&login.username])
                .await?;
            if known.is_none() {
                return Err(Error::permanent(format!(
                    "role {:?} does not exist in the database, so its password cannot be set: create it, or correct the owner in bootstrap",
                    login.username
                )));
            }
            let statement =
                format!("ALTER ROLE {} PASSWORD {}", ident(&login.username), literal(&verifier(login)));
            sql.batch_execute(&statement).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::bootstrap::{Bootstrap, InitDb, Recovery};

    fn secrets() -> SecretValues {
        let mut values = SecretValues::default();
        for (name, user) in [("pg-superuser", "postgres"), ("pg-app", "app")] {
            let data = [("username", user), ("password", "sesame\n")];
            values.insert(name, data.map(|(k, v)| (k.to_owned(), v.into())).into());
        }
        values
    }

    #[test]
    fn no_statement_and_no_debug_text_holds_a_password() {
        let login = Login::read(&secrets(), "pg-superuser", Some("postgres")).unwrap();
        let statement = superuser_statement(Some(&login));
        assert!(
            statement.starts_with("ALTER ROLE \"postgres\" PASSWORD 'SCRAM-SHA-256$4096:"),
            "{statement}"
        );
        assert!(!statement.contains("sesame") && !format!("{login:?}").contains("sesame"));
        assert_eq!(superuser_statement(None), "ALTER ROLE \"postgres\" PASSWORD NULL");
    }

    #[test]
    fn the_owner_must_be_the_one_of_the_secret() {
        let spec = ClusterSpec {
            bootstrap: Some(Bootstrap {
                initdb: Some(InitDb { owner: Some("boss".into()), ..InitDb::default() }),
                ..Bootstrap::default()
            }),
            ..ClusterSpec::default()
        };
        let error = Wanted::read("pg", &spec, &secrets()).unwrap_err().to_string();
        assert!(error.contains("pg-app is for user \"app\", but \"boss\" is needed"), "{error}");
    }

    #[test]
    fn after_a_recovery_only_what_was_named_is_touched() {
        let recovered = |recovery| ClusterSpec {
            bootstrap: Some(Bootstrap { full_recovery: Some(recovery), ..Bootstrap::default() }),
            enable_superuser_access: Some(false),
            ..ClusterSpec::default()
        };
        let spec = recovered(Recovery::default());
        assert_eq!(Wanted::secret_names("pg", &spec), Vec::<String>::new());
        assert_eq!(
            Wanted::read("pg", &spec, &SecretValues::default()).unwrap(),
            Wanted { superuser: None, application: None }
        );
        let spec = recovered(Recovery { database: Some("app".into()), ..Recovery::default() });
        assert_eq!(Wanted::secret_names("pg", &spec), ["pg-app"]);
    }
}
