//! Parameters of `postgresql.conf`: which ones belong to the manager, and how a value is written.

use std::collections::BTreeMap;

/// Parameters that only the manager sets. The CRD refuses them; this list is the second line of defence and
/// what is removed from a `postgresql.auto.conf` that came with restored data.
pub const MANAGED: [&str; 37] = [
    "allow_alter_system",
    "archive_cleanup_command",
    "archive_command",
    "archive_library",
    "archive_mode",
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "full_page_writes",
    "hba_file",
    "hot_standby",
    "ident_file",
    "listen_addresses",
    "log_destination",
    "logging_collector",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_end_command",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
    "ssl",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_file",
    "ssl_key_file",
    "synchronous_standby_names",
    "unix_socket_directories",
    "unix_socket_permissions",
];

/// The five settings that must not be lower on a server that replays WAL than where it was written
/// (PostgreSQL documentation, "Administrator's Overview" of hot standby), with PostgreSQL's own defaults.
pub const MUST_NOT_SHRINK: [(&str, i64); 5] = [
    ("max_connections", 100),
    ("max_locks_per_transaction", 64),
    ("max_prepared_transactions", 0),
    ("max_wal_senders", 10),
    ("max_worker_processes", 8),
];

/// Defaults that a user may override.
pub const DEFAULTS: [(&str, &str); 13] = [
    ("archive_timeout", "5min"),
    ("dynamic_shared_memory_type", "posix"),
    ("log_line_prefix", "%m [%p] %q[user=%u,db=%d,app=%a] "),
    ("max_replication_slots", "32"),
    ("max_wal_senders", "10"),
    ("max_worker_processes", "32"),
    ("password_encryption", "scram-sha-256"),
    ("ssl_min_protocol_version", "TLSv1.2"),
    ("wal_keep_size", "512MB"),
    ("wal_level", "logical"),
    ("wal_log_hints", "on"),
    ("wal_receiver_timeout", "30s"),
    // A replica that must confirm commits is with a new primary sooner; asking the archive costs little.
    ("wal_retrieve_retry_interval", "1s"),
];

/// A parameter that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("spec.postgresql.parameters[{name}] {what}")]
pub struct ParameterError {
    /// The parameter.
    pub name: String,
    /// What is wrong, and the remedy.
    pub what: String,
}

/// Checks the parameters that the user gave; PostgreSQL itself checks their values.
///
/// # Errors
/// Names the first parameter that is managed, malformed, or would make the archive or replication useless.
pub fn validate(parameters: &BTreeMap<String, String>) -> Result<(), ParameterError> {
    for (name, value) in parameters {
        let error = |what: &str| ParameterError { name: name.clone(), what: what.to_owned() };
        let mut chars = name.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')) {
            return Err(error("is not the name of a PostgreSQL parameter: correct or remove it"));
        }
        if MANAGED.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(error("is managed by the operator: remove it"));
        }
        if value.contains(['\n', '\r', '\0']) {
            return Err(error("must be a single line: remove the line break"));
        }
        if name.eq_ignore_ascii_case("wal_level") && !matches!(value.as_str(), "replica" | "logical") {
            return Err(error("must be replica or logical: backups need WAL of that level"));
        }
    }
    Ok(())
}

/// A value as a quoted string of `postgresql.conf`.
#[must_use]
pub fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The five settings: what the user or the default says, raised to what `control` (the data directory's
/// control file) asks for.
#[must_use]
pub fn raised(user: &BTreeMap<String, String>, control: &BTreeMap<String, i64>) -> BTreeMap<String, String> {
    MUST_NOT_SHRINK
        .iter()
        .filter_map(|(name, builtin)| {
            let wanted = user
                .get(*name)
                .map(String::as_str)
                .or_else(|| DEFAULTS.iter().find(|(n, _)| n == name).map(|(_, v)| *v))
                .and_then(|v| v.trim().parse::<i64>().ok())
                .unwrap_or(*builtin);
            let needed = *control.get(*name)?;
            (needed > wanted).then(|| ((*name).to_owned(), needed.to_string()))
        })
        .collect()
}

/// A `postgresql.auto.conf` without lines that set a managed parameter; `None` when nothing is to be removed.
#[must_use]
pub fn without_managed(auto_conf: &str) -> Option<String> {
    let managed = |line: &&str| {
        let name: String =
            line.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        MANAGED.contains(&name.to_ascii_lowercase().as_str())
    };
    if !auto_conf.lines().any(|l| managed(&l)) {
        return None;
    }
    Some(auto_conf.lines().filter(|l| !managed(l)).flat_map(|l| [l, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn managed_malformed_and_multi_line_parameters_are_refused() {
        assert_eq!(validate(&map(&[("shared_buffers", "256MB"), ("pg_stat_statements.max", "10")])), Ok(()));
        for (name, value, want) in [
            ("archive_mode", "off", "is managed by the operator"),
            ("Archive_Command", "x", "is managed by the operator"),
            ("a b", "1", "is not the name"),
            ("", "1", "is not the name"),
            ("work_mem", "1\narchive_mode = off", "must be a single line"),
            ("wal_level", "minimal", "must be replica or logical"),
        ] {
            let text = validate(&map(&[(name, value)])).unwrap_err().to_string();
            assert!(text.contains(want), "{name}: {text}");
        }
    }

    #[test]
    fn values_cannot_leave_their_quotes() {
        assert_eq!(quote("it's \\n"), "'it''s \\\\n'");
    }

    #[test]
    fn only_what_would_shrink_is_raised() {
        let control = [("max_connections", 200), ("max_worker_processes", 8), ("max_wal_senders", 20)]
            .map(|(k, v)| (k.to_owned(), v))
            .into();
        let raised = raised(&map(&[("max_connections", "50")]), &control);
        assert_eq!(raised, map(&[("max_connections", "200"), ("max_wal_senders", "20")]));
    }

    #[test]
    fn settings_that_came_with_the_data_cannot_override_managed_ones() {
        let auto = "# written by ALTER SYSTEM\nwork_mem = '8MB'\nprimary_conninfo = 'x'\n ARCHIVE_MODE=off\n";
        assert_eq!(without_managed(auto).as_deref(), Some("# written by ALTER SYSTEM\nwork_mem = '8MB'\n"));
        assert_eq!(without_managed("work_mem = '8MB'\n"), None);
    }
}
