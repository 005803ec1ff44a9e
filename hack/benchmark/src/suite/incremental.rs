//! Incremental backups after one block in a hundred has changed, against full ones of the same data: what they store
//! and how long they take, with and without WAL summaries.

use crate::context::{Context, remove};
use crate::dataset::Bed;
use crate::postgres::Postgres;
use crate::report::{Figure, Sample};
use crate::service::Service;
use crate::stats::median_ratio;
use crate::target::Verdict;
use crate::tools::Tool;
use crate::tools::howdah::{Howdah, INCREMENTS, PREFIX};
use anyhow::Result;

const CODECS: [&str; 2] = ["lz4", "zstd"];
/// Bounds of an incremental's stored bytes and time, as parts of those of a full one.
const STORED: f64 = 0.03;
const WALL: f64 = 0.25;
const WALL_SUMMARIES: f64 = 0.10;

/// All of it; each ratio is the median of as many pairs as are asked for.
///
/// # Errors
/// When a run fails.
pub async fn run(context: &Context) -> Result<(Vec<Figure>, Vec<Verdict>)> {
    let (mut figures, mut verdicts) = (Vec::new(), Vec::new());
    let server = Bed::new(context, context.options.size()).open(context)?;
    for (way, setting, most) in [("pages", "off", WALL), ("summaries", "on", WALL_SUMMARIES)] {
        let change = format!("ALTER SYSTEM SET summarize_wal = {setting}");
        server.sql(&[&change, "SELECT pg_reload_conf()"])?;
        for codec in CODECS {
            let service = Service::start(context, &server.data, "lz4", context.options.jobs, None)?;
            server.archive_by(&service.archive_command(context))?;
            let mut pairs = Vec::new();
            for number in 0..context.options.pairs {
                pairs.push(pair(context, &server, codec, number).await?);
            }
            let target = context.fresh("restored")?;
            let restore = Howdah.restore(context, &target, codec).await?.run(context)?.sample();
            super::backup::verify(&server, &target)?;
            remove(&target)?;
            server.archive_by("/bin/true")?;
            drop(service);
            context.s3.clear(&format!("{PREFIX}/")).await?;
            let name = |what: &str| format!("{what}, {codec}, {way}");
            for (full, increment) in &pairs {
                figures.push(Figure { name: name("full"), sample: *full });
                figures.push(Figure { name: name("incremental"), sample: *increment });
            }
            figures.push(Figure { name: name("restore of both"), sample: restore });
            let ratio = |value: fn(&Sample) -> f64| {
                median_ratio(&pairs.iter().map(|(full, inc)| (value(inc), value(full))).collect::<Vec<_>>())
            };
            let judged = [("stored", ratio(|s| s.stored), STORED), ("wall", ratio(|s| s.wall), most)];
            for (metric, ratio, limit) in judged {
                verdicts.push(Verdict::at_most(&name("incremental"), "full", metric, ratio, limit));
            }
        }
    }
    server.sql(&["ALTER SYSTEM RESET summarize_wal", "SELECT pg_reload_conf()"])?;
    Ok((figures, verdicts))
}

/// A full backup, changes in one block of a hundred, an incremental backup.
async fn pair(context: &Context, server: &Postgres, codec: &str, number: usize) -> Result<(Sample, Sample)> {
    Howdah.reset(context, Some(server), &server.data).await?;
    server.sql(&["CHECKPOINT"])?;
    let mut full = Howdah.backup(context, server, codec).run(context)?.sample();
    full.stored = context.s3.stored(Howdah.backups()).await? as f64;
    for table in ["pgbench_accounts", "hex", "noise"] {
        server.sql(&[&change(table, number)])?;
    }
    server.sql(&["CHECKPOINT"])?;
    let mut increment = Howdah.incremental(context, server, codec).run(context)?.sample();
    increment.stored = context.s3.stored(INCREMENTS).await? as f64;
    eprintln!("{codec} {}: {:.2} s and {:.2} s", number + 1, full.wall, increment.wall);
    Ok((full, increment))
}

/// Changes one row in every hundredth block, in its place and without touching an index: by a lock, which is in WAL.
fn change(table: &str, number: usize) -> String {
    format!(
        "SELECT count(*) FROM (SELECT FROM {table} WHERE ctid = ANY (ARRAY(SELECT format('(%s,1)', block)::tid FROM \
         generate_series({}, pg_relation_size('{table}') / 8192 - 1, 100) block)) FOR UPDATE) locked",
        number % 100
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_changes_other_blocks() {
        assert_ne!(change("hex", 0), change("hex", 1));
        assert!(change("hex", 3).contains("generate_series(3, pg_relation_size('hex')"));
    }
}
