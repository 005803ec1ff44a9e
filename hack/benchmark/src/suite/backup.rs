//! Base backups, and the restores of what they stored.

use crate::context::{Context, remove};
use crate::dataset::Bed;
use crate::pairs::{Side, Subject};
use crate::postgres::{Postgres, succeed};
use crate::report::{Comparison, Sample};
use crate::service::Service;
use crate::tools::Tool;
use crate::tools::barman::Barman;
use crate::tools::howdah::PREFIX;
use crate::tools::pgbackrest::PgBackRest;
use crate::tools::walrus::Walrus;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Rivals and codecs.
const RIVALS: [(&dyn Tool, &[&str]); 3] =
    [(&Walrus, &["lz4", "zstd", "gzip"]), (&PgBackRest, &["lz4", "zstd", "gzip"]), (&Barman, &["gzip"])];

/// All comparisons that are wanted. With `--quick`, only those that a target needs, unless named by `--only`.
///
/// # Errors
/// When a run fails.
pub async fn run(context: &Context) -> Result<Vec<Comparison>> {
    let mut found = Vec::new();
    // Of a sink nothing comes back.
    let restores = context.options.store != crate::options::StoreKind::Sink;
    for (rival, codecs) in RIVALS {
        let bed = Bed::of(context, rival);
        let mut server = None;
        let mut verified = BTreeSet::new();
        for codec in codecs {
            let subject = |operation| Subject { operation, codec, rival, size: bed.size, units: 1 };
            let (backup, restore) = (subject("backup"), subject("restore"));
            let (wants_backup, wants_restore) = (backup.wanted(context), restores && restore.wanted(context));
            if !wants_backup && !wants_restore {
                continue;
            }
            if server.is_none() {
                server = Some(bed.open(context)?);
            }
            let server = server.as_ref().context("a server")?;
            // Howdah's backups wait for their WAL, so somebody must archive it; as in a pod, a resident service does.
            let service = Service::start(context, &server.data, "lz4", context.options.jobs, None)?;
            server.archive_by(&service.archive_command(context))?;
            if wants_backup {
                let runs =
                    backup.compare(context, async |side| one_backup(context, server, &backup, side).await);
                found.push(runs.await?);
            } else {
                for side in [Side::Rival, Side::Howdah] {
                    one_backup(context, server, &backup, side).await?;
                }
            }
            if wants_restore {
                let runs = restore.compare(context, async |side| {
                    one_restore(context, server, &restore, side, &mut verified).await
                });
                found.push(runs.await?);
            }
            server.archive_by("/bin/true")?;
            drop(service);
            rival.reset(context, Some(server), &server.data).await?;
            context.s3.clear(&format!("{PREFIX}/")).await?;
        }
    }
    Ok(found)
}

async fn one_backup(
    context: &Context,
    server: &Postgres,
    subject: &Subject<'_>,
    side: Side,
) -> Result<Sample> {
    let tool = subject.tool(side);
    tool.reset(context, Some(server), &server.data).await?;
    server.sql(&["CHECKPOINT"])?;
    let used = tool.backup(context, server, subject.codec).run(context)?;
    let stored = tool.s3(context).stored(tool.backups()).await?;
    Ok(Sample { stored: stored as f64, ..used.sample() })
}

async fn one_restore(
    context: &Context,
    server: &Postgres,
    subject: &Subject<'_>,
    side: Side,
    verified: &mut BTreeSet<String>,
) -> Result<Sample> {
    let tool = subject.tool(side);
    let target = context.fresh("restored")?;
    let used = tool.restore(context, &target, subject.codec).await?.run(context)?;
    if side == Side::Howdah && verified.insert(subject.codec.to_owned()) {
        verify(server, &target)?;
    }
    remove(&target)?;
    Ok(used.sample())
}

/// PostgreSQL's own judgement of what Howdah restored.
pub fn verify(server: &Postgres, target: &Path) -> Result<()> {
    succeed(Command::new(server.bin.join("pg_verifybackup")).arg("-n").arg("-e").arg(target)).map(|_| ())
}
