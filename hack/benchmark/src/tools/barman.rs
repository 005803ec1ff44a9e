//! barman-cloud.

use super::Tool;
use crate::context::{BUCKET, Context};
use crate::invocation::Invocation;
use crate::postgres::Postgres;
use crate::s3::S3;
use crate::wal_set::Layout;
use anyhow::{Context as _, Result};
use async_trait::async_trait;
use std::path::{Path, PathBuf};

/// barman-cloud.
pub struct Barman;

const PREFIX: &str = "barman";

impl Barman {
    fn call(context: &Context, program: &str, args: &[&str]) -> Invocation {
        let url = format!("s3://{BUCKET}/{PREFIX}");
        let mut all = vec!["--endpoint-url", &context.s3.endpoint];
        // Options come first: `--` in the list marks where the destination goes.
        for &arg in args {
            match arg {
                "--" => all.extend([url.as_str(), "pg"]),
                _ => all.push(arg),
            }
        }
        let mut run = Invocation::new(context.options.barman.join(program), &all);
        run.env = S3::keys().to_vec();
        run
    }
}

#[async_trait(?Send)]
impl Tool for Barman {
    fn name(&self) -> &'static str {
        "barman-cloud"
    }

    fn backups(&self) -> &'static str {
        "barman/pg/base/"
    }

    fn wals(&self) -> &'static str {
        "barman/pg/wals/"
    }

    fn version(&self, context: &Context) -> (PathBuf, &'static str) {
        (context.options.barman.join("barman-cloud-backup"), "--version")
    }

    fn backup(&self, context: &Context, server: &Postgres, codec: &str) -> Invocation {
        let (codec, socket) = (format!("--{codec}"), server.socket.display().to_string());
        let jobs = context.options.jobs.to_string();
        let args = [&codec, "--immediate-checkpoint", "-J", &jobs, "-h", &socket, "-U", "postgres", "--"];
        Self::call(context, "barman-cloud-backup", &args)
    }

    async fn restore(&self, context: &Context, target: &Path, _codec: &str) -> Result<Invocation> {
        let base = format!("{PREFIX}/pg/base/");
        let keys = context.s3.list(&base).await?;
        let ids = keys.iter().filter_map(|key| key.strip_prefix(&base)?.split('/').next());
        let newest = ids.max().context("barman-cloud has no backup to restore")?;
        Ok(Self::call(context, "barman-cloud-restore", &["--", newest, &target.display().to_string()]))
    }

    fn archive(&self, context: &Context, layout: &Layout, codec: &str) -> Invocation {
        let (codec, path) = (format!("--{codec}"), format!("{}/pg_wal/{{}}", layout.data.display()));
        let mut run = Self::call(context, "barman-cloud-wal-archive", &[&codec, "--", &path]);
        run.each = Some(layout.names.clone());
        run.status = Some(layout.status());
        run
    }

    fn wal_restore(&self, context: &Context, layout: &Layout, _codec: &str) -> Result<Invocation> {
        let target = format!("{}/pg_wal/RECOVERYXLOG", layout.data.display());
        let mut run = Self::call(context, "barman-cloud-wal-restore", &["--", "{}", &target]);
        run.each = Some(layout.names.clone());
        Ok(run)
    }
}
