//! wal-rus, a port of WAL-G.

use super::Tool;
use crate::context::{BUCKET, Context};
use crate::invocation::Invocation;
use crate::postgres::Postgres;
use crate::s3::S3;
use crate::wal_set::Layout;
use anyhow::Result;
use async_trait::async_trait;
use std::path::{Path, PathBuf};

/// wal-rus.
pub struct Walrus;

const PREFIX: &str = "wal-rus";

impl Walrus {
    fn program(context: &Context) -> PathBuf {
        context.options.rivals.join("walrus")
    }

    fn settings(context: &Context, codec: &str) -> Vec<(String, String)> {
        let jobs = context.options.jobs.to_string();
        let own = [
            ("WALG_S3_PREFIX", format!("s3://{BUCKET}/{PREFIX}")),
            ("AWS_ENDPOINT", context.s3.endpoint.clone()),
            ("AWS_S3_FORCE_PATH_STYLE", "true".to_owned()),
            ("WALG_COMPRESSION_METHOD", codec.to_owned()),
            ("WALG_UPLOAD_CONCURRENCY", jobs.clone()),
            ("WALG_DOWNLOAD_CONCURRENCY", jobs),
        ];
        S3::keys().into_iter().chain(own.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    fn call(context: &Context, codec: &str, args: &[&str]) -> Invocation {
        let mut run = Invocation::new(Self::program(context), args);
        run.env = Self::settings(context, codec);
        run
    }
}

#[async_trait(?Send)]
impl Tool for Walrus {
    fn name(&self) -> &'static str {
        "wal-rus"
    }

    fn backups(&self) -> &'static str {
        "wal-rus/basebackups_005/"
    }

    fn wals(&self) -> &'static str {
        "wal-rus/wal_005/"
    }

    fn version(&self, context: &Context) -> (PathBuf, &'static str) {
        (Self::program(context), "--version")
    }

    fn backup(&self, context: &Context, server: &Postgres, codec: &str) -> Invocation {
        let data = server.data.display().to_string();
        Self::call(context, codec, &["backup-push", "--full", "--fast", &data])
            .env("PGHOST", server.socket.display().to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
    }

    async fn restore(&self, context: &Context, target: &Path, codec: &str) -> Result<Invocation> {
        Ok(Self::call(context, codec, &["backup-fetch", &target.display().to_string(), "LATEST"]))
    }

    fn archive(&self, context: &Context, layout: &Layout, codec: &str) -> Invocation {
        let mut run =
            Self::call(context, codec, &["wal-push", &format!("{}/pg_wal/{{}}", layout.data.display())]);
        run.each = Some(layout.names.clone());
        run.status = Some(layout.status());
        run
    }

    fn archive_command(&self, context: &Context, data: &Path, codec: &str) -> Option<String> {
        let settings = Self::settings(context, codec);
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some(format!(
            "{} {} wal-push {}/%p",
            settings.join(" "),
            Self::program(context).display(),
            data.display()
        ))
    }

    fn wal_restore(&self, context: &Context, layout: &Layout, codec: &str) -> Result<Invocation> {
        let target = format!("{}/pg_wal/RECOVERYXLOG", layout.data.display());
        let mut run = Self::call(context, codec, &["wal-fetch", "{}", &target]);
        run.each = Some(layout.names.clone());
        Ok(run)
    }
}
