//! Howdah alone at one, two and four times the size, with 1, 2 and 4 jobs.

use crate::context::{Context, remove};
use crate::dataset::Bed;
use crate::report::{Figure, Sample};
use crate::service::Service;
use crate::stats::median;
use crate::tools::Tool;
use crate::tools::howdah::{Howdah, PREFIX};
use anyhow::Result;

const FACTORS: [f64; 3] = [1.0, 2.0, 4.0];
const JOBS: [usize; 3] = [1, 2, 4];
const CODECS: [&str; 2] = ["lz4", "zstd"];
const REPEATS: usize = 3;

/// All of it; each figure is the median of three runs.
///
/// # Errors
/// When a run fails.
pub async fn run(context: &mut Context) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for factor in FACTORS {
        let size = context.options.size() * factor;
        let server = Bed::new(context, size).open(context)?;
        for jobs in JOBS {
            context.options.jobs = jobs;
            for codec in CODECS {
                let service = Service::start(context, &server.data, "lz4", jobs, None)?;
                server.archive_by(&service.archive_command(context))?;
                let (mut backups, mut restores) = (Vec::new(), Vec::new());
                for _ in 0..REPEATS {
                    Howdah.reset(context, Some(&server), &server.data).await?;
                    server.sql(&["CHECKPOINT"])?;
                    let mut backup = Howdah.backup(context, &server, codec).run(context)?.sample();
                    backup.stored = context.s3.stored(Howdah.backups()).await? as f64;
                    backups.push(backup);
                    let target = context.fresh("restored")?;
                    restores.push(Howdah.restore(context, &target, codec).await?.run(context)?.sample());
                    remove(&target)?;
                }
                for (operation, samples) in [("backup", backups), ("restore", restores)] {
                    let name = format!("{operation}, {codec}, size {size}, jobs {jobs}");
                    eprintln!("{name}");
                    figures.push(Figure { name, sample: medians(&samples) });
                }
                server.archive_by("/bin/true")?;
                drop(service);
                context.s3.clear(&format!("{PREFIX}/")).await?;
            }
        }
    }
    Ok(figures)
}

/// Median of each figure.
fn medians(samples: &[Sample]) -> Sample {
    let one = |value: fn(&Sample) -> f64| {
        median(&samples.iter().map(value).collect::<Vec<_>>()).unwrap_or_default()
    };
    Sample {
        wall: one(|s| s.wall),
        cpu: one(|s| s.cpu),
        memory: one(|s| s.memory),
        stored: one(|s| s.stored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_its_own_median() {
        let sample = |wall, cpu| Sample { wall, cpu, ..Sample::default() };
        let found = medians(&[sample(1.0, 9.0), sample(2.0, 7.0), sample(3.0, 8.0)]);
        assert_eq!((found.wall, found.cpu, found.memory), (2.0, 8.0, 0.0));
    }
}
