//! Base backups, and the restores of what they stored.

use crate::context::{Context, remove};
use crate::dataset;
use crate::pairs::{Side, Subject};
use crate::postgres::{Postgres, succeed};
use crate::report::{Comparison, Sample};
use crate::service::Service;
use crate::tools::Tool;
use crate::tools::barman::Barman;
use crate::tools::howdah::{Howdah, PREFIX};
use crate::tools::pgbackrest::PgBackRest;
use crate::tools::walrus::Walrus;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Codec, rival, and whether its restore is compared too.
const WALRUS: [&str; 3] = ["lz4", "zstd", "gzip"];
const PGBACKREST: [&str; 2] = ["lz4", "zstd"];
const BARMAN: [&str; 1] = ["gzip"];

/// All comparisons that are wanted.
///
/// # Errors
/// When a run fails.
pub async fn run(context: &Context) -> Result<Vec<Comparison>> {
    let (size, small) = (context.options.size(), context.options.barman_size());
    let mut found = on_size(context, size, &[(&Walrus, &WALRUS), (&PgBackRest, &PGBACKREST)]).await?;
    found.extend(on_size(context, small, &[(&Barman, &BARMAN)]).await?);
    Ok(found)
}

async fn on_size(context: &Context, size: f64, rivals: &[(&dyn Tool, &[&str])]) -> Result<Vec<Comparison>> {
    let mut found = Vec::new();
    let mut server = None;
    let mut verified = BTreeSet::new();
    for (rival, codecs) in rivals {
        for codec in *codecs {
            let subject = |operation| Subject { operation, codec, rival: *rival, size, units: 1 };
            let (backup, restore) = (subject("backup"), subject("restore"));
            let (wants_backup, wants_restore) =
                (context.options.wants(&backup.name()), context.options.wants(&restore.name()));
            if !wants_backup && !wants_restore {
                continue;
            }
            if server.is_none() {
                server = Some(dataset::open(context, size)?);
            }
            let server = server.as_ref().context("a server")?;
            // Howdah's backups wait for their WAL, so somebody must archive it; as in a pod, a resident service does.
            let service = Service::start(context, &server.data, PREFIX, "lz4", context.options.jobs)?;
            server.archive_by(&service.archive_command(context))?;
            if wants_backup {
                found.push(backup.compare(context, async |side| one_backup(context, server, &backup, side).await).await?);
            } else {
                for side in [Side::Rival, Side::Howdah] {
                    one_backup(context, server, &backup, side).await?;
                }
            }
            if wants_restore {
                let runs = restore.compare(context, async |side| one_restore(context, &restore, side, &mut verified).await);
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

fn tool<'a>(subject: &'a Subject<'_>, side: Side) -> &'a dyn Tool {
    match side {
        Side::Howdah => &Howdah,
        Side::Rival => subject.rival,
    }
}

async fn one_backup(context: &Context, server: &Postgres, subject: &Subject<'_>, side: Side) -> Result<Sample> {
    let tool = tool(subject, side);
    tool.reset(context, Some(server), &server.data).await?;
    server.sql(&["CHECKPOINT"])?;
    let used = tool.backup(context, server, subject.codec).run(context)?;
    let stored = tool.s3(context).stored(tool.backups()).await?;
    Ok(Sample { wall: used.wall, cpu: used.cpu, memory: used.peak_kib / 1024.0, stored: stored as f64 })
}

async fn one_restore(
    context: &Context,
    subject: &Subject<'_>,
    side: Side,
    verified: &mut BTreeSet<String>,
) -> Result<Sample> {
    let tool = tool(subject, side);
    let target = context.scratch.join("restored");
    remove(&target)?;
    context.user.make_dir(&target)?;
    let used = tool.restore(context, &target, subject.codec).await?.run(context)?;
    if side == Side::Howdah && verified.insert(subject.codec.to_owned()) {
        verify(context, &target)?;
    }
    remove(&target)?;
    Ok(Sample { wall: used.wall, cpu: used.cpu, memory: used.peak_kib / 1024.0, stored: 0.0 })
}

/// PostgreSQL's own judgement of what Howdah restored.
fn verify(context: &Context, target: &Path) -> Result<()> {
    succeed(Command::new(context.postgres("pg_verifybackup")).arg("-n").arg("-e").arg(target)).map(|_| ())
}
