//! Peak memory of Howdah's processes under a limit, at two sizes.

use crate::cgroup::Cgroup;
use crate::context::{Context, remove};
use crate::dataset::Bed;
use crate::report::{Figure, Sample};
use crate::service::Service;
use crate::target::Verdict;
use crate::tools::Tool;
use crate::tools::howdah::{Howdah, PREFIX};
use crate::wal_set::WalSet;
use anyhow::Result;

const LIMIT: u64 = 128 << 20;
const FACTORS: [f64; 2] = [1.0, 4.0];
const CODECS: [&str; 3] = ["lz4", "zstd", "gzip"];
/// Most that a backup, a restore and the WAL service may hold together, MiB.
pub const MOST: f64 = 100.0;

/// All of it. A process that needs more than the limit is killed and fails its run. What counts is the sum of the
/// resident service and of the backup or restore beside it; in a pod they are one process.
///
/// # Errors
/// When a run fails.
pub async fn run(context: &Context) -> Result<(Vec<Figure>, Vec<Verdict>)> {
    let group = Cgroup::limited(LIMIT)?;
    let (mut figures, mut verdicts) = (Vec::new(), Vec::new());
    for factor in FACTORS {
        let size = context.options.size() * factor;
        let server = Bed::new(context, size).open(context)?;
        for codec in CODECS {
            let mut most: f64 = 0.0;
            let mut add = |what: &str, sample: Sample, beside: f64| {
                let name = format!("{what}, {codec}, size {size}, {} MiB for all", LIMIT >> 20);
                most = most.max(sample.memory + beside);
                figures.push(Figure { name, sample });
            };
            let service =
                Service::start(context, &server.data, codec, context.options.jobs, Some(group.dir()))?;
            server.archive_by(&service.archive_command(context))?;
            let mut backup = Howdah.backup(context, &server, codec);
            backup.cgroup = Some(group.dir().to_owned());
            let sample = backup.run(context)?.sample();
            add("backup", sample, service.memory()?);
            let target = context.fresh("restored")?;
            let mut restore = Howdah.restore(context, &target, codec).await?;
            restore.cgroup = Some(group.dir().to_owned());
            let sample = restore.run(context)?.sample();
            add("restore", sample, service.memory()?);
            super::backup::verify(&server, &target)?;
            remove(&target)?;
            server.archive_by("/bin/true")?;
            drop(service);
            let sample = archive(context, &server, codec, &group).await?;
            add("archive", sample, 0.0);
            context.s3.clear(&format!("{PREFIX}/")).await?;
            let name = format!("memory, {codec}, size {size}");
            verdicts.push(Verdict::at_most(&name, "absolute", "MiB", Some(most), MOST));
        }
    }
    eprintln!("peak of everything charged to the cgroup, page cache included: {:.0} MiB", group.peak()?);
    Ok((figures, verdicts))
}

/// The service while it archives.
async fn archive(
    context: &Context,
    server: &crate::postgres::Postgres,
    codec: &str,
    group: &Cgroup,
) -> Result<Sample> {
    let set = WalSet::open(context, server, context.options.segments(true))?;
    let layout = set.lay_out(context, "wal")?;
    Howdah.reset(context, None, &layout.data).await?;
    let service = Service::start(context, &layout.data, codec, context.options.jobs, Some(group.dir()))?;
    let before = service.cpu()?;
    let mut sample = Howdah.archive(context, &layout, codec).run(context)?.sample();
    super::wal::add_service(&mut sample, Some(&service), Some(before))?;
    Ok(sample)
}
