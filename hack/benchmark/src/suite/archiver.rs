//! PostgreSQL's own archiver under load: `pgbench` writes, a burst beside it fills the archiver's queue, and the time is
//! taken until all of it is archived.

use crate::context::Context;
use crate::dataset::Bed;
use crate::pairs::{Side, Subject};
use crate::postgres::Postgres;
use crate::report::{Comparison, Sample};
use crate::service::{Service, child_ticks, seconds};
use crate::tools::Tool;
use crate::tools::howdah::PREFIX;
use crate::tools::walrus::Walrus;
use anyhow::{Context as _, Result};
use std::process::Stdio;
use std::time::{Duration, Instant};

const RIVAL: &dyn Tool = &Walrus;
const CODECS: [&str; 2] = ["lz4", "zstd"];

/// All comparisons that are wanted. pgBackRest and barman-cloud are left to the comparisons call by call: the load
/// would wait for them.
///
/// # Errors
/// When a run fails.
pub async fn run(context: &Context) -> Result<Vec<Comparison>> {
    let mut found = Vec::new();
    let bed = Bed::new(context, context.options.barman_size());
    for codec in CODECS {
        let subject = Subject { operation: "archiver", codec, rival: RIVAL, size: bed.size, units: 1 };
        if !subject.wanted(context) {
            continue;
        }
        let server = bed.open(context)?;
        let mut segments = 0;
        let comparison = subject.compare(context, async |side| {
            let (sample, count) = one_load(context, &server, &subject, side).await?;
            segments = count;
            Ok(sample)
        });
        let mut comparison = comparison.await?;
        comparison.units = segments;
        found.push(comparison);
        RIVAL.s3(context).clear(RIVAL.wals()).await?;
        context.s3.clear(&format!("{PREFIX}/")).await?;
    }
    Ok(found)
}

/// The load and the rest of the queue; gives the number of segments too.
async fn one_load(
    context: &Context,
    server: &Postgres,
    subject: &Subject<'_>,
    side: Side,
) -> Result<(Sample, usize)> {
    let tool = subject.tool(side);
    tool.reset(context, None, &server.data).await?;
    let service = match side {
        Side::Howdah => {
            Some(Service::start(context, &server.data, subject.codec, context.options.jobs, None)?)
        }
        Side::Rival => None,
    };
    let command = match &service {
        Some(service) => Some(service.archive_command(context)),
        None => tool.archive_command(context, &server.data, subject.codec),
    };
    server.archive_by(&command.with_context(|| format!("{} cannot be an archive_command", tool.name()))?)?;
    // After a checkpoint, the first change of a page logs all of it: much WAL.
    server.sql(&["SELECT pg_switch_wal()", "CHECKPOINT", "SELECT pg_stat_reset_shared('archiver')"])?;
    let archiver = archiver(server)?;
    let (before, resident) = (child_ticks(archiver)?, service.as_ref().map(Service::cpu).transpose()?);
    let begun = Instant::now();
    let mut load = server.client("pgbench");
    let transactions = if context.options.quick { "500" } else { "2500" };
    load.args(["-n", "-N", "-c", "2", "-t", transactions, "postgres"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut load = load.spawn().context("pgbench does not start")?;
    for _ in 0..passes(context.options.segments(false), subject.size) {
        server.sql(&BURST)?;
    }
    anyhow::ensure!(load.wait()?.success(), "pgbench failed");
    let last = server.sql(&["SELECT pg_walfile_name(pg_switch_wal())"])?;
    let drained = format!("SELECT coalesce(last_archived_wal >= '{last}', false) FROM pg_stat_archiver");
    while server.sql(&[&drained])? != "t" {
        anyhow::ensure!(
            begun.elapsed() < Duration::from_secs(600),
            "the queue of the archiver is not drained"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let wall = begun.elapsed().as_secs_f64();
    let count: usize = server.sql(&["SELECT archived_count FROM pg_stat_archiver"])?.parse()?;
    let mut sample = Sample { wall, cpu: seconds(child_ticks(archiver)? - before), ..Sample::default() };
    super::wal::add_service(&mut sample, service.as_ref(), resident)?;
    sample.stored = tool.s3(context).stored(tool.wals()).await? as f64;
    server.archive_by("/bin/true")?;
    Ok((sample, count))
}

/// Writes the data set into WAL and nowhere else, so that it stays as it is.
const BURST: [&str; 2] = [
    "SELECT count(pg_logical_emit_message(false, 'bench', bytes)) FROM noise",
    "SELECT count(pg_logical_emit_message(false, 'bench', text)) FROM hex",
];
/// Bytes of WAL of one burst at size 1.
const BURST_BYTES: f64 = 600e6;

/// Bursts that fill about so many segments.
fn passes(segments: usize, size: f64) -> usize {
    (segments as f64 * 16e6 / (BURST_BYTES * size)).ceil() as usize
}

/// Process id of PostgreSQL's archiver.
fn archiver(server: &Postgres) -> Result<u32> {
    let pid = server.sql(&["SELECT pid FROM pg_stat_activity WHERE backend_type = 'archiver'"])?;
    pid.parse().context("PostgreSQL has no archiver")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_data_set_is_written_more_often() {
        assert_eq!(passes(48, 1.0), 2);
        assert_eq!(passes(16, 0.05), 9);
    }
}
