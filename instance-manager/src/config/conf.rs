//! `postgresql.conf`: one file, wholly written by the manager.
//!
//! What a restored or joined data directory brought along is replaced, so that nothing of another
//! installation (file locations, another archiver) survives in it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::parameters::{DEFAULTS, quote, raised};
use super::recovery::RecoverySettings;

/// Everything that the file depends on.
#[derive(Clone, Debug)]
pub struct ConfInput<'a> {
    /// Name of the instance; becomes `cluster_name`.
    pub instance: &'a str,
    /// `spec.postgresql.parameters`.
    pub user: &'a BTreeMap<String, String>,
    /// Major version of the server.
    pub major: u32,
    /// The five settings of the control file; empty before the first start.
    pub control: &'a BTreeMap<String, i64>,
    /// Value of `listen_addresses`.
    pub listen: &'a str,
    /// Port.
    pub port: u16,
    /// Directory of the Unix socket.
    pub socket_dir: &'a Path,
    /// Directory of certificates, when the server can do TLS and has them.
    pub certificates: Option<&'a Path>,
    /// The manager's program.
    pub manager: &'a Path,
    /// What the server is.
    pub role: &'a ConfRole,
    /// Value of `synchronous_standby_names`; a recovery has none.
    pub synchronous: &'a str,
}

/// What the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfRole {
    /// Takes writes.
    Primary,
    /// Follows the primary.
    Standby {
        /// `primary_conninfo`.
        conninfo: String,
    },
    /// Replays an archive up to a target, then becomes the primary.
    Recovery(RecoverySettings),
    /// Replays the archive of another cluster without end.
    Following,
}

/// How often a new file is asked for while another cluster's archive is followed: it comes every few minutes, and each
/// question is a request to a store that may be far away.
const FOLLOWING_RETRY: &str = "5s";

/// The line that names the file's owner.
pub const HEADER: &str = "# Written by the instance manager at every start and change: edits are lost.\n# Set parameters in spec.postgresql.parameters of the Cluster.\n";

/// Renders `postgresql.conf`.
#[must_use]
pub fn render(input: &ConfInput<'_>) -> String {
    let mut settings: BTreeMap<String, String> =
        DEFAULTS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    if *input.role == ConfRole::Following {
        settings.insert("wal_retrieve_retry_interval".to_owned(), FOLLOWING_RETRY.to_owned());
    }
    for (name, value) in input.user {
        settings.retain(|k, _| !k.eq_ignore_ascii_case(name));
        settings.insert(name.clone(), value.clone());
    }
    settings.extend(raised(input.user, input.control));

    let mut set = |name: &str, value: &str| {
        settings.insert(name.to_owned(), value.to_owned());
    };
    let manager = shell_word(input.manager);
    let restore = format!("{manager} wal-restore %f %p");
    set("archive_mode", "on");
    set("archive_command", &format!("{manager} wal-archive %p"));
    set("cluster_name", input.instance);
    set("full_page_writes", "on");
    set("hot_standby", "on");
    set("listen_addresses", input.listen);
    set("log_destination", "stderr");
    set("logging_collector", "off");
    set("port", &input.port.to_string());
    set("synchronous_standby_names", input.synchronous);
    set("unix_socket_directories", &input.socket_dir.to_string_lossy());
    if input.major >= 17 {
        set("allow_alter_system", "off");
    }
    match input.certificates {
        Some(dir) => {
            let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
            set("ssl", "on");
            set("ssl_ca_file", &file(CLIENT_CA));
            set("ssl_cert_file", &file(SERVER_CERT));
            set("ssl_key_file", &file(SERVER_KEY));
        }
        None => set("ssl", "off"),
    }
    match input.role {
        ConfRole::Primary => {
            // Without a use here. But what only a restart can change would ask for one when a replica that has it is
            // promoted, even though the default is the same.
            set("recovery_target_timeline", "latest");
            if input.major < 14 {
                set("restore_command", &restore);
            }
        }
        ConfRole::Standby { conninfo } => {
            set("primary_conninfo", conninfo);
            set("recovery_target_timeline", "latest");
            set("restore_command", &restore);
        }
        ConfRole::Following => {
            set("recovery_target_timeline", "latest");
            set("restore_command", &restore);
            set("synchronous_standby_names", "");
        }
        ConfRole::Recovery(recovery) => {
            set("restore_command", &restore);
            set("synchronous_standby_names", "");
            for (name, value) in recovery.parameters() {
                set(name, &value);
            }
        }
    }

    let mut text = String::from(HEADER);
    for (name, value) in &settings {
        let _ = writeln!(text, "{name} = {}", quote(value));
    }
    text
}

/// File of the authority that clients are verified with.
pub const CLIENT_CA: &str = "ca.crt";
/// File of the authority that the primary is verified with.
pub const SERVER_CA: &str = "server-ca.crt";
/// File of the server certificate.
pub const SERVER_CERT: &str = "server.crt";
/// File of its key.
pub const SERVER_KEY: &str = "server.key";
/// File of the certificate with which replicas connect.
pub const REPLICATION_CERT: &str = "streaming_replica.crt";
/// File of its key.
pub const REPLICATION_KEY: &str = "streaming_replica.key";

/// A path as one word for the shell and for PostgreSQL's `%` escapes.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy().replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// How libpq reaches the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryConnection<'a> {
    /// Host name: the service of the primary.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// User.
    pub user: &'a str,
    /// `application_name`: the instance.
    pub instance: &'a str,
    /// Directory of certificates.
    pub certificates: PathBuf,
}

impl PrimaryConnection<'_> {
    /// A libpq connection string; `database` is needed by programs that log in to one.
    #[must_use]
    pub fn conninfo(&self) -> String {
        let file = |name: &str| self.certificates.join(name).to_string_lossy().into_owned();
        let pairs = [
            ("host", self.host.to_owned()),
            ("port", self.port.to_string()),
            ("user", self.user.to_owned()),
            ("application_name", self.instance.to_owned()),
            ("sslmode", "verify-ca".to_owned()),
            ("sslrootcert", file(SERVER_CA)),
            ("sslcert", file(REPLICATION_CERT)),
            ("sslkey", file(REPLICATION_KEY)),
            ("connect_timeout", "10".to_owned()),
        ];
        let quoted = |v: &str| format!("'{}'", v.replace('\\', "\\\\").replace('\'', "\\'"));
        pairs.map(|(k, v)| format!("{k}={}", quoted(&v))).join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(role: &ConfRole, certificates: Option<&Path>, major: u32) -> String {
        let user = [("shared_buffers", "256MB"), ("Archive_Timeout", "60s"), ("max_connections", "50")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let control = [("max_connections".to_owned(), 120)].into();
        render(&ConfInput {
            instance: "pg-1",
            user: &user,
            major,
            control: &control,
            listen: "*",
            port: 5432,
            socket_dir: Path::new("/controller/run"),
            certificates,
            manager: Path::new("/controller/instance-manager"),
            role,
            synchronous: "ANY 1 (\"pg-2\",\"pg-3\")",
        })
    }

    #[test]
    fn primary_with_tls() {
        insta::assert_snapshot!(conf(
            &ConfRole::Primary,
            Some(Path::new("/controller/run/certificates")),
            17
        ));
    }

    #[test]
    fn standby() {
        let connection = PrimaryConnection {
            host: "pg-rw",
            port: 5432,
            user: "streaming_replica",
            instance: "pg-2",
            certificates: "/controller/run/certificates".into(),
        };
        insta::assert_snapshot!(conf(&ConfRole::Standby { conninfo: connection.conninfo() }, None, 15));
    }

    #[test]
    fn recovery() {
        let settings = RecoverySettings {
            target: Some(("recovery_target_time", "2026-11-21 10:00:00.000000+00".to_owned())),
            inclusive: false,
            timeline: "latest".to_owned(),
        };
        insta::assert_snapshot!(conf(&ConfRole::Recovery(settings), None, 13));
    }

    #[test]
    fn following_asks_less_often_and_has_no_end() {
        let text = conf(&ConfRole::Following, None, 17);
        let line = |name: &str| text.lines().find(|l| l.starts_with(name)).map(str::to_owned);
        assert_eq!(line("wal_retrieve_retry_interval").unwrap(), "wal_retrieve_retry_interval = '5s'");
        assert_eq!(line("recovery_target_timeline").unwrap(), "recovery_target_timeline = 'latest'");
        assert_eq!(line("synchronous_standby_names").unwrap(), "synchronous_standby_names = ''");
        assert!(line("restore_command").unwrap().contains("wal-restore"));
        assert_eq!((line("primary_conninfo"), line("recovery_target_time ")), (None, None));
    }

    #[test]
    fn odd_paths_stay_one_word() {
        assert_eq!(shell_word(Path::new("/a b/100%")), "'/a b/100%%'");
    }
}
