//! The one SQL session of a backup: PostgreSQL ends backup mode by itself when it goes away.

use super::request::{ServerAccess, TablespaceInfo};
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::Lsn;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

/// Oldest server whose non-exclusive backups this engine knows.
const OLDEST: u32 = 130_000;
/// From here on the functions are called `pg_backup_start` and `pg_backup_stop`.
const RENAMED: u32 = 150_000;

/// A session in which a backup can run.
pub struct Session {
    pub(super) client: Client,
    connection: JoinHandle<()>,
    /// Cancelled when the connection ends, however it ends.
    lost: CancellationToken,
    version: u32,
}

/// What the server says about itself.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// `server_version_num`.
    pub version: u32,
    /// System identifier.
    pub system_id: u64,
    /// Whether it replays WAL rather than taking writes.
    pub in_recovery: bool,
    /// `data_directory`.
    pub data_directory: PathBuf,
    /// `config_file`.
    pub config_file: PathBuf,
    /// `hba_file`.
    pub hba_file: PathBuf,
    /// `ident_file`.
    pub ident_file: PathBuf,
    /// Other files that settings come from.
    pub included_files: Vec<PathBuf>,
    /// `summarize_wal`, from PostgreSQL 17 on.
    pub summarize_wal: Option<String>,
    /// Tablespaces with a location of their own, outside of `pg_tblspc`.
    pub tablespaces: Vec<TablespaceInfo>,
    /// Databases by oid, each with the transaction that wrote its row.
    pub databases: BTreeMap<u32, String>,
}

/// A started backup.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// Start position.
    pub lsn: Lsn,
    /// Timeline of the checkpoint that it starts from.
    pub timeline: u32,
    /// By the server's clock, just before the start was asked for.
    pub time: DateTime<Utc>,
}

/// A stopped backup.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// End position.
    pub lsn: Lsn,
    /// Content of `backup_label`.
    pub label: String,
    /// By the server's clock, just after the stop.
    pub time: DateTime<Utc>,
}

impl Session {
    /// Connects. No time limit of the server's may end this session while a backup runs.
    pub async fn connect(server: &ServerAccess) -> Result<Self> {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&server.socket_dir)
            .port(server.port)
            .user(&server.user)
            .dbname(&server.database)
            .application_name("howdah-backup")
            .options("-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c DateStyle=ISO");
        let (client, connection) = config.connect(NoTls).await.map_err(|error| {
            let socket = server.socket_dir.join(format!(".s.PGSQL.{}", server.port));
            Error::new(ErrorKind::Postgres, format!("cannot connect to PostgreSQL at {}", socket.display()))
                .with_source(error)
                .with_remedy("wait until PostgreSQL accepts connections")
        })?;
        let lost = CancellationToken::new();
        let guard = lost.clone().drop_guard();
        let connection = tokio::spawn(async move {
            let _guard = guard;
            if let Err(error) = connection.await {
                tracing::warn!(%error, "the backup's connection to PostgreSQL ended");
            }
        });
        let mut session = Self { client, connection, lost, version: 0 };
        session.version = session.number("SELECT current_setting('server_version_num')").await?;
        if session.version < OLDEST {
            return Err(Error::new(
                ErrorKind::Precondition,
                format!("PostgreSQL {} is too old", session.version / 10_000),
            )
            .with_remedy("use PostgreSQL 13 to 18"));
        }
        if session.version >= 140_000 {
            session.client.batch_execute("SET idle_session_timeout = 0").await?;
        }
        Ok(session)
    }

    /// Cancelled when the connection ended.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    async fn text(&self, query: &str) -> Result<String> {
        let row = self.client.query_one(query, &[]).await?;
        row.try_get::<_, Option<String>>(0)?.ok_or_else(|| {
            Error::new(ErrorKind::Postgres, format!("PostgreSQL answered nothing to: {query}"))
        })
    }

    async fn number<T: std::str::FromStr>(&self, query: &str) -> Result<T> {
        let text = self.text(query).await?;
        text.parse().map_err(|_| {
            Error::new(
                ErrorKind::Postgres,
                format!("PostgreSQL answered {text:?} instead of a number to: {query}"),
            )
        })
    }

    async fn setting(&self, name: &str) -> Result<String> {
        self.text(&format!("SELECT current_setting('{name}')")).await
    }

    /// Settings and tablespaces; refuses a server whose backup could not be restored.
    pub async fn facts(&self) -> Result<ServerFacts> {
        let in_recovery = self.text("SELECT pg_is_in_recovery()::text").await? == "true";
        check_archiving(&self.setting("wal_level").await?, &self.setting("archive_mode").await?)?;
        let path = |text: String| PathBuf::from(text);
        let summarize_wal =
            if self.version >= 170_000 { Some(self.setting("summarize_wal").await?) } else { None };
        Ok(ServerFacts {
            version: self.version,
            system_id: self.number("SELECT system_identifier::text FROM pg_control_system()").await?,
            in_recovery,
            data_directory: path(self.setting("data_directory").await?),
            config_file: path(self.setting("config_file").await?),
            hba_file: path(self.setting("hba_file").await?),
            ident_file: path(self.setting("ident_file").await?),
            included_files: self.included_files().await?,
            summarize_wal,
            tablespaces: self.tablespaces().await?,
            databases: self.databases().await?,
        })
    }

    async fn included_files(&self) -> Result<Vec<PathBuf>> {
        let query = "SELECT DISTINCT sourcefile FROM pg_settings \
                     WHERE sourcefile IS NOT NULL AND sourcefile <> current_setting('config_file') ORDER BY 1";
        let rows = self.client.query(query, &[]).await?;
        rows.iter().map(|row| Ok(PathBuf::from(row.try_get::<_, String>(0)?))).collect()
    }

    /// In-place tablespaces have a relative location and travel with the data directory.
    async fn tablespaces(&self) -> Result<Vec<TablespaceInfo>> {
        let query = "SELECT spcname::text, oid, pg_tablespace_location(oid) FROM pg_tablespace \
                     WHERE pg_tablespace_location(oid) LIKE '/%' ORDER BY oid";
        let rows = self.client.query(query, &[]).await?;
        rows.iter()
            .map(|row| {
                let location: String = row.try_get(2)?;
                Ok(TablespaceInfo { name: row.try_get(0)?, oid: row.try_get(1)?, location: location.into() })
            })
            .collect()
    }

    /// Databases by oid, each with the transaction that wrote its row: another database of the same number has another.
    pub async fn databases(&self) -> Result<BTreeMap<u32, String>> {
        let rows = self.client.query("SELECT oid, xmin::text FROM pg_database", &[]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// How far a standby has replayed.
    pub async fn replayed(&self) -> Result<Lsn> {
        Ok(self.text("SELECT pg_last_wal_replay_lsn()::text").await?.parse()?)
    }

    /// Starts the backup: PostgreSQL makes a checkpoint, spread over time unless `fast`.
    pub async fn start(&self, label: &str, fast: bool) -> Result<Started> {
        let time = self.clock().await?;
        let query = if self.version >= RENAMED {
            "SELECT pg_backup_start($1, $2)::text"
        } else {
            "SELECT pg_start_backup($1, $2, false)::text"
        };
        let row = self.client.query_one(query, &[&label, &fast]).await?;
        let lsn = row.try_get::<_, String>(0)?.parse()?;
        let timeline = self.number("SELECT timeline_id::text FROM pg_control_checkpoint()").await?;
        Ok(Started { lsn, timeline, time })
    }

    /// Ends the backup without waiting for the archive; that is waited for where it can be cancelled.
    pub async fn stop(&self) -> Result<Stopped> {
        let query = if self.version >= RENAMED {
            "SELECT lsn::text, labelfile FROM pg_backup_stop(wait_for_archive => false)"
        } else {
            "SELECT lsn::text, labelfile FROM pg_stop_backup(exclusive => false, wait_for_archive => false)"
        };
        let row = self.client.query_one(query, &[]).await?;
        let lsn = row.try_get::<_, String>(0)?.parse()?;
        let label = row.try_get(1)?;
        Ok(Stopped { lsn, label, time: self.clock().await? })
    }

    async fn clock(&self) -> Result<DateTime<Utc>> {
        let text = self
            .text("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
            .await?;
        text.parse().map_err(|error: chrono::ParseError| {
            Error::new(ErrorKind::Postgres, format!("PostgreSQL's clock says {text:?}")).with_source(error)
        })
    }

    /// Closes the connection and waits for it.
    pub async fn close(self) {
        drop(self.client);
        // The task ends with the connection; its outcome was logged by itself.
        let _ = self.connection.await;
    }
}

/// A backup without archived WAL cannot be restored.
fn check_archiving(wal_level: &str, archive_mode: &str) -> Result<()> {
    if wal_level == "minimal" {
        return Err(Error::new(
            ErrorKind::Precondition,
            "wal_level is minimal, which does not allow backups",
        )
        .with_remedy("set wal_level to replica and restart PostgreSQL"));
    }
    if archive_mode == "off" {
        return Err(Error::new(
            ErrorKind::Precondition,
            "archive_mode is off, so the backup's WAL would be lost",
        )
        .with_remedy("set archive_mode to on, set archive_command, and restart PostgreSQL"));
    }
    Ok(())
}

/// Values of a backup label that must agree with what was seen at the start.
pub fn label_value<'a>(label: &'a str, key: &str) -> Option<&'a str> {
    label.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("replica", "on", true)]
    #[case("logical", "always", true)]
    #[case("minimal", "on", false)]
    #[case("replica", "off", false)]
    fn archiving_is_a_precondition(#[case] wal_level: &str, #[case] archive_mode: &str, #[case] fine: bool) {
        let checked = check_archiving(wal_level, archive_mode);
        assert_eq!(checked.is_ok(), fine);
        if let Err(error) = checked {
            assert_eq!(error.kind(), ErrorKind::Precondition);
            assert!(error.remedy().contains("restart"), "{}", error.remedy());
        }
    }

    #[test]
    fn label_lines_are_found_by_key() {
        let label = "START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nSTART TIMELINE: 3\n";
        assert_eq!(label_value(label, "START TIMELINE"), Some("3"));
        assert_eq!(label_value(label, "STOP TIMELINE"), None);
    }
}
