//! The role of replicas in a database that was not made here: one that was restored from a backup of something else has
//! no such role, or one that may not do what `pg_rewind` does.

use howdah_api::naming::REPLICATION_USER;
use tokio_postgres::Client;

use crate::bootstrap::plan::{REPLICATION_FUNCTIONS, grant, replication_role};
use crate::error::Result;
use crate::pg::sql::ident;

/// What is known about the role.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// There is none.
    Absent,
    /// There is one.
    Present {
        /// It may log in and replicate.
        replicates: bool,
        /// Functions that it may not call.
        lacks: Vec<&'static str>,
    },
}

/// Statements that are missing; none when everything is as it should be.
fn statements(known: &Known) -> Vec<String> {
    let Known::Present { replicates, lacks } = known else { return replication_role() };
    let alter = (!replicates).then(|| format!("ALTER ROLE {} LOGIN REPLICATION", ident(REPLICATION_USER)));
    alter.into_iter().chain(lacks.iter().map(|function| grant(function))).collect()
}

/// Sees to it on the primary, in the database `postgres`, as the superuser. Returns whether anything was to be done.
///
/// # Errors
/// When SQL fails.
pub async fn ensure(sql: &Client) -> Result<bool> {
    let row = sql
        .query_opt(
            "SELECT rolcanlogin AND rolreplication FROM pg_catalog.pg_roles WHERE rolname = $1",
            &[&REPLICATION_USER],
        )
        .await?;
    let known = match row {
        None => Known::Absent,
        Some(row) => {
            let mut lacks = Vec::new();
            for function in REPLICATION_FUNCTIONS {
                let may = "SELECT pg_catalog.has_function_privilege($1::name, $2::text, 'EXECUTE')";
                let may = sql.query_one(may, &[&REPLICATION_USER, &function]).await?;
                if !may.try_get::<_, bool>(0)? {
                    lacks.push(function);
                }
            }
            Known::Present { replicates: row.try_get(0)?, lacks }
        }
    };
    let statements = statements(&known);
    for statement in &statements {
        sql.batch_execute(statement).await?;
    }
    Ok(!statements.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing() {
        assert_eq!(statements(&Known::Absent), replication_role());
        assert!(statements(&Known::Present { replicates: true, lacks: Vec::new() }).is_empty());
        let known = Known::Present { replicates: false, lacks: vec![REPLICATION_FUNCTIONS[2]] };
        assert_eq!(
            statements(&known),
            [
                "ALTER ROLE \"streaming_replica\" LOGIN REPLICATION",
                "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO \"streaming_replica\"",
            ]
        );
    }
}
