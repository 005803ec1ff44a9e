//! Howdah: base backups by `engine-cli`, WAL by the shipped client of the resident service.

use super::Tool;
use crate::context::{BUCKET, Context};
use crate::invocation::Invocation;
use crate::postgres::Postgres;
use crate::s3::S3;
use crate::wal_set::Layout;
use anyhow::Result;
use async_trait::async_trait;
use std::path::{Path, PathBuf};

/// Howdah.
pub struct Howdah;

/// Prefix of Howdah's in the bucket.
pub const PREFIX: &str = "howdah";

/// Where backups that are not full are in the bucket.
pub const INCREMENTS: &str = "howdah/pg/howdah/incremental/";

impl Howdah {
    /// An incremental backup of a server.
    pub fn incremental(&self, context: &Context, server: &Postgres, codec: &str) -> Invocation {
        let socket = server.socket.display().to_string();
        self.engine(context, &server.data, codec, &["backup", "--socket", &socket, "--incremental"])
    }

    fn engine(&self, context: &Context, pgdata: &Path, codec: &str, command: &[&str]) -> Invocation {
        let (destination, jobs) = (format!("s3://{BUCKET}/{PREFIX}"), context.options.jobs.to_string());
        let pgdata = pgdata.display().to_string();
        let mut args =
            vec!["--endpoint", &context.s3.endpoint, "--destination", &destination, "--server", "pg"];
        args.extend(["--compression", codec, "--jobs", &jobs, "--pgdata", &pgdata]);
        args.extend(["--cipher", context.cipher.get()]);
        args.extend(command);
        let mut run = Invocation::new(context.program("engine-cli"), &args);
        run.env = S3::keys().to_vec();
        run
    }

    fn client(&self, context: &Context, layout: &Layout, args: &[&str]) -> Invocation {
        let controller = context.scratch.join("controller");
        let mut run = Invocation::new(context.program("instance-manager"), args)
            .env("CONTROLLER_DIR", controller.display().to_string());
        run.dir = layout.data.clone();
        run.each = Some(layout.names.clone());
        run
    }
}

#[async_trait(?Send)]
impl Tool for Howdah {
    fn name(&self) -> &'static str {
        "Howdah"
    }

    fn backups(&self) -> &'static str {
        "howdah/pg/base/"
    }

    fn wals(&self) -> &'static str {
        "howdah/pg/wals/"
    }

    fn version(&self, context: &Context) -> (PathBuf, &'static str) {
        (context.program("instance-manager"), "version")
    }

    fn backup(&self, context: &Context, server: &Postgres, codec: &str) -> Invocation {
        let socket = server.socket.display().to_string();
        self.engine(context, &server.data, codec, &["backup", "--socket", &socket])
    }

    async fn restore(&self, context: &Context, target: &Path, codec: &str) -> Result<Invocation> {
        Ok(self.engine(context, target, codec, &["restore"]))
    }

    fn archive(&self, context: &Context, layout: &Layout, _codec: &str) -> Invocation {
        let mut run = self.client(context, layout, &["wal-archive", "pg_wal/{}"]);
        run.status = Some(layout.status());
        run
    }

    fn wal_restore(&self, context: &Context, layout: &Layout, _codec: &str) -> Result<Invocation> {
        Ok(self.client(context, layout, &["wal-restore", "{}", "pg_wal/RECOVERYXLOG"]))
    }

    /// The claim on the archive stays: the resident service made it once.
    async fn reset(&self, context: &Context, _server: Option<&Postgres>, _data: &Path) -> Result<()> {
        for folder in [self.backups(), INCREMENTS, self.wals(), "howdah/pg/howdah/manifests/"] {
            context.s3.clear(folder).await?;
        }
        Ok(())
    }
}
