//! What `initdb` is called with and what SQL follows: pure.

use howdah_api::bootstrap::InitDb;
use howdah_api::naming::REPLICATION_USER;

use crate::pg::sql::{ident, literal};

/// Database and owner, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Database.
    pub database: String,
    /// Its owner.
    pub owner: String,
}

impl Application {
    /// From `bootstrap.initdb`.
    #[must_use]
    pub fn of(initdb: &InitDb) -> Self {
        let database = initdb.database.clone().unwrap_or_else(|| "app".to_owned());
        let owner = initdb.owner.clone().unwrap_or_else(|| database.clone());
        Self { database, owner }
    }
}

/// Arguments of `initdb`, without the data directory and the WAL directory.
#[must_use]
pub fn initdb_arguments(initdb: &InitDb, major: u32) -> Vec<String> {
    let or = |given: &Option<String>, default: &str| given.clone().unwrap_or_else(|| default.to_owned());
    let mut args = vec![
        "--username=postgres".to_owned(),
        "--auth-local=peer".to_owned(),
        "--auth-host=scram-sha-256".to_owned(),
        format!("--encoding={}", or(&initdb.encoding, "UTF8")),
        "--locale=C".to_owned(),
        format!("--lc-collate={}", or(&initdb.locale_collate, "C")),
        format!("--lc-ctype={}", or(&initdb.locale_ctype, "C")),
        format!("--wal-segsize={}", initdb.wal_segment_size.unwrap_or(16)),
    ];
    if initdb.data_checksums.unwrap_or(true) {
        args.push("--data-checksums".to_owned());
    } else if major >= 18 {
        args.push("--no-data-checksums".to_owned());
    }
    if major >= 14 {
        args.push("--no-instructions".to_owned());
    }
    args
}

/// What the role of replicas may call: what `pg_rewind` of PostgreSQL 13 to 18 reads the source with, and the switch of
/// a WAL segment.
pub const REPLICATION_FUNCTIONS: [&str; 5] = [
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
    "pg_catalog.pg_switch_wal()",
];

/// Statements in the database `postgres` that make the role of replicas. It has no password: it comes with a
/// certificate. It may read what `pg_rewind` reads and may close a WAL segment.
#[must_use]
pub fn replication_role() -> Vec<String> {
    let role = ident(REPLICATION_USER);
    let mut all = vec![format!("CREATE ROLE {role} LOGIN REPLICATION")];
    all.extend(REPLICATION_FUNCTIONS.iter().map(|function| grant(function)));
    all
}

/// Lets the role of replicas call a function.
#[must_use]
pub fn grant(function: &str) -> String {
    format!("GRANT EXECUTE ON FUNCTION {function} TO {}", ident(REPLICATION_USER))
}

/// Statements in `postgres` that make the application's role and database. `verifier` is a SCRAM verifier, never
/// the password itself.
#[must_use]
pub fn application(app: &Application, verifier: &str) -> Vec<String> {
    let owner = ident(&app.owner);
    let mut all = vec![format!("CREATE ROLE {owner} LOGIN PASSWORD {}", literal(verifier))];
    if app.database == "postgres" {
        all.push(format!("ALTER DATABASE postgres OWNER TO {owner}"));
    } else {
        all.push(format!("CREATE DATABASE {} OWNER {owner}", ident(&app.database)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_choices() {
        let plain = InitDb::default();
        insta::assert_debug_snapshot!(initdb_arguments(&plain, 13));
        let chosen = InitDb {
            data_checksums: Some(false),
            wal_segment_size: Some(64),
            encoding: Some("LATIN1".into()),
            locale_collate: Some("de_DE".into()),
            ..InitDb::default()
        };
        insta::assert_debug_snapshot!(initdb_arguments(&chosen, 18));
        assert_eq!(Application::of(&plain), Application { database: "app".into(), owner: "app".into() });
    }

    #[test]
    fn names_are_quoted() {
        let app = Application { database: "my\"db".into(), owner: "o'w".into() };
        insta::assert_debug_snapshot!(application(&app, "SCRAM-SHA-256$4096:x$y:z"));
    }
}
