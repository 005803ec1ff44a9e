//! WAL: archived and fetched one segment for each call, as PostgreSQL does it.

use crate::context::Context;
use crate::dataset::Bed;
use crate::pairs::{Side, Subject};
use crate::report::{Comparison, Sample};
use crate::service::Service;
use crate::tools::Tool;
use crate::tools::barman::Barman;
use crate::tools::howdah::PREFIX;
use crate::tools::pgbackrest::PgBackRest;
use crate::tools::walrus::Walrus;
use crate::wal_set::{Layout, WalSet};
use anyhow::{Result, ensure};

/// Rivals, codecs, and whether fetching is compared too.
const RIVALS: [(&dyn Tool, &[&str], bool); 3] = [
    (&Walrus, &["lz4", "zstd", "gzip"], true),
    (&PgBackRest, &["lz4", "zstd"], false),
    (&Barman, &["gzip", "lz4", "zstd"], true),
];

/// All comparisons that are wanted.
///
/// # Errors
/// When a run fails.
pub async fn run(context: &Context) -> Result<Vec<Comparison>> {
    let mut found = Vec::new();
    for (rival, codecs, fetches) in RIVALS {
        let units = context.options.segments(rival.name() == Barman.name());
        // WAL is the same at any size; the small data set serves.
        let bed = Bed { size: context.options.barman_size(), ..Bed::of(context, rival) };
        let mut set = None;
        for codec in codecs {
            let subject = |operation| Subject { operation, codec, rival, size: bed.size, units };
            let (archive, fetch) = (subject("archive"), subject("wal-restore"));
            let fetches = fetches && context.options.store != crate::options::StoreKind::Sink;
            let (wants_archive, wants_fetch) = (archive.wanted(context), fetches && fetch.wanted(context));
            if !wants_archive && !wants_fetch {
                continue;
            }
            if set.is_none() {
                set = Some(WalSet::open(context, &bed.open(context)?, units)?);
            }
            let Some(set) = &set else { continue };
            if wants_archive {
                let runs =
                    archive.compare(context, async |side| one_archive(context, set, &archive, side).await);
                found.push(runs.await?);
            } else {
                for side in [Side::Rival, Side::Howdah] {
                    one_archive(context, set, &archive, side).await?;
                }
            }
            if wants_fetch {
                let runs = fetch.compare(context, async |side| one_fetch(context, set, &fetch, side).await);
                found.push(runs.await?);
            }
            rival.s3(context).clear(rival.wals()).await?;
            context.s3.clear(&format!("{PREFIX}/")).await?;
        }
    }
    Ok(found)
}

/// A service for Howdah's side of a run.
fn service(context: &Context, layout: &Layout, codec: &str, side: Side) -> Result<Option<Service>> {
    match side {
        Side::Howdah => Service::start(context, &layout.data, codec, context.options.jobs, None).map(Some),
        Side::Rival => Ok(None),
    }
}

async fn one_archive(context: &Context, set: &WalSet, subject: &Subject<'_>, side: Side) -> Result<Sample> {
    let tool = subject.tool(side);
    let layout = set.lay_out(context, "wal")?;
    tool.reset(context, None, &layout.data).await?;
    let service = service(context, &layout, subject.codec, side)?;
    let before = service.as_ref().map(Service::cpu).transpose()?;
    let mut sample = tool.archive(context, &layout, subject.codec).run(context)?.sample();
    add_service(&mut sample, service.as_ref(), before)?;
    sample.stored = tool.s3(context).stored(tool.wals()).await? as f64;
    Ok(sample)
}

async fn one_fetch(context: &Context, set: &WalSet, subject: &Subject<'_>, side: Side) -> Result<Sample> {
    let tool = subject.tool(side);
    let layout = set.lay_out_empty(context, "fetched")?;
    let service = service(context, &layout, subject.codec, side)?;
    let before = service.as_ref().map(Service::cpu).transpose()?;
    let mut sample = tool.wal_restore(context, &layout, subject.codec)?.run(context)?.sample();
    add_service(&mut sample, service.as_ref(), before)?;
    if let Some(last) = set.names.last() {
        let fetched = std::fs::read(layout.data.join("pg_wal/RECOVERYXLOG"))?;
        ensure!(fetched == set.read(last)?, "{} did not restore {last} as it was archived", tool.name());
    }
    Ok(sample)
}

/// The resident service works for the calls.
pub fn add_service(sample: &mut Sample, service: Option<&Service>, before: Option<f64>) -> Result<()> {
    if let Some(service) = service {
        sample.cpu += service.cpu()? - before.unwrap_or_default();
        sample.memory = sample.memory.max(service.memory()?);
    }
    Ok(())
}
