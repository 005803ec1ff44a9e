//! How each program is called for each operation.

pub mod barman;
pub mod howdah;
pub mod pgbackrest;
pub mod walrus;

use crate::context::Context;
use crate::invocation::Invocation;
use crate::postgres::Postgres;
use crate::s3::S3;
use crate::wal_set::Layout;
use anyhow::{Result, bail};
use async_trait::async_trait;
use std::path::Path;

/// A rival, or Howdah.
#[async_trait(?Send)]
pub trait Tool {
    /// Its name in results.
    fn name(&self) -> &'static str;

    /// Where its backups are in the bucket.
    fn backups(&self) -> &'static str;

    /// Where its WAL is in the bucket.
    fn wals(&self) -> &'static str;

    /// The S3 server it uses.
    fn s3<'a>(&self, context: &'a Context) -> &'a S3 {
        &context.s3
    }

    /// Program and argument that print its version.
    fn version(&self, context: &Context) -> (std::path::PathBuf, &'static str);

    /// Removes what it stored and makes what it must find there. `server` runs on `data`, when there is one.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn reset(&self, context: &Context, _server: Option<&Postgres>, _data: &Path) -> Result<()> {
        for prefix in [self.backups(), self.wals()] {
            self.s3(context).clear(prefix).await?;
        }
        Ok(())
    }

    /// A base backup of a server.
    fn backup(&self, context: &Context, server: &Postgres, codec: &str) -> Invocation;

    /// A restore of the newest backup into `target`, an empty directory.
    ///
    /// # Errors
    /// When there is no backup.
    async fn restore(&self, context: &Context, target: &Path, codec: &str) -> Result<Invocation>;

    /// Archives the WAL of a directory, one call for each segment.
    fn archive(&self, context: &Context, layout: &Layout, codec: &str) -> Invocation;

    /// The command for PostgreSQL's `archive_command`, when it can run as PostgreSQL's user.
    fn archive_command(&self, _context: &Context, _data: &Path, _codec: &str) -> Option<String> {
        None
    }

    /// Fetches WAL into a directory, one call for each segment.
    ///
    /// # Errors
    /// When the program is not measured at this.
    fn wal_restore(&self, _context: &Context, _layout: &Layout, _codec: &str) -> Result<Invocation> {
        bail!("{} is not measured at WAL restore", self.name())
    }
}
