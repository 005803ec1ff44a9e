//! pgBackRest: settings by environment, since its S3 wants TLS and its keys must be on no command line.

use super::Tool;
use crate::context::{BUCKET, Context};
use crate::invocation::Invocation;
use crate::postgres::{Postgres, succeed};
use crate::s3::{KEY, S3, SECRET};
use crate::wal_set::Layout;
use anyhow::Result;
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::process::Command;

/// pgBackRest.
pub struct PgBackRest;

const PREFIX: &str = "pgbackrest";
const PROGRAM: &str = "/usr/bin/pgbackrest";

impl PgBackRest {
    fn settings(context: &Context, data: &Path, socket: Option<&Path>, codec: &str) -> Vec<(String, String)> {
        let codec = match codec {
            "gzip" => "gz",
            "zstd" => "zst",
            other => other,
        };
        let scratch = |name: &str| context.scratch.join(name).display().to_string();
        let mut settings = vec![
            ("STANZA", "bench".to_owned()),
            ("CONFIG", "/dev/null".to_owned()),
            ("REPO1_TYPE", "s3".to_owned()),
            ("REPO1_PATH", format!("/{PREFIX}")),
            ("REPO1_BUNDLE", "y".to_owned()),
            ("REPO1_S3_BUCKET", BUCKET.to_owned()),
            ("REPO1_S3_ENDPOINT", "127.0.0.1".to_owned()),
            ("REPO1_S3_REGION", "us-east-1".to_owned()),
            ("REPO1_S3_URI_STYLE", "path".to_owned()),
            ("REPO1_S3_KEY", KEY.to_owned()),
            ("REPO1_S3_KEY_SECRET", SECRET.to_owned()),
            ("REPO1_STORAGE_PORT", context.s3_tls.port().to_owned()),
            ("REPO1_STORAGE_VERIFY_TLS", "n".to_owned()),
            ("PG1_PATH", data.display().to_string()),
            ("PG1_USER", "postgres".to_owned()),
            ("PROCESS_MAX", context.options.jobs.to_string()),
            ("COMPRESS_TYPE", codec.to_owned()),
            ("ARCHIVE_CHECK", "n".to_owned()),
            ("START_FAST", "y".to_owned()),
            ("LOCK_PATH", scratch("pgbackrest-lock")),
            ("SPOOL_PATH", scratch("pgbackrest-spool")),
            ("LOG_LEVEL_CONSOLE", "warn".to_owned()),
            ("LOG_LEVEL_FILE", "off".to_owned()),
        ];
        if let Some(socket) = socket {
            settings.push(("PG1_SOCKET_PATH", socket.display().to_string()));
        }
        settings.into_iter().map(|(name, value)| (format!("PGBACKREST_{name}"), value)).collect()
    }

    fn call(context: &Context, data: &Path, socket: Option<&Path>, codec: &str, args: &[&str]) -> Invocation {
        let mut run = Invocation::new(PROGRAM, args);
        run.env = Self::settings(context, data, socket, codec);
        run
    }
}

#[async_trait(?Send)]
impl Tool for PgBackRest {
    fn name(&self) -> &'static str {
        "pgBackRest"
    }

    fn backups(&self) -> &'static str {
        "pgbackrest/backup/"
    }

    fn wals(&self) -> &'static str {
        "pgbackrest/archive/"
    }

    fn s3<'a>(&self, context: &'a Context) -> &'a S3 {
        &context.s3_tls
    }

    fn version(&self, _context: &Context) -> (PathBuf, &'static str) {
        (PROGRAM.into(), "version")
    }

    async fn reset(&self, context: &Context, server: Option<&Postgres>, data: &Path) -> Result<()> {
        self.s3(context).clear(&format!("{PREFIX}/")).await?;
        let socket = server.map(|server| server.socket.as_path());
        let mut create = Command::new(PROGRAM);
        create.arg("stanza-create").envs(Self::settings(context, data, socket, "none"));
        if socket.is_none() {
            create.arg("--no-online");
        }
        succeed(&mut create).map(|_| ())
    }

    fn backup(&self, context: &Context, server: &Postgres, codec: &str) -> Invocation {
        Self::call(context, &server.data, Some(&server.socket), codec, &["backup", "--type=full"])
    }

    async fn restore(&self, context: &Context, target: &Path, codec: &str) -> Result<Invocation> {
        Ok(Self::call(context, target, None, codec, &["restore", "--type=none"]))
    }

    fn archive(&self, context: &Context, layout: &Layout, codec: &str) -> Invocation {
        let path = format!("{}/pg_wal/{{}}", layout.data.display());
        let mut run = Self::call(context, &layout.data, None, codec, &["archive-push", &path]);
        run.each = Some(layout.names.clone());
        run.status = Some(layout.status());
        run
    }
}
