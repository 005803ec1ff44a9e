//! What a run of the benchmark found, as it is written to JSON.

use crate::stats::{median, median_ratio};
use crate::target::Verdict;
use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Serialize, Debug)]
pub struct Report {
    /// The machine.
    pub machine: crate::machine::Machine,
    /// When, UTC.
    pub date: String,
    /// Commit of the working tree, with `-dirty` when it differs.
    pub commit: String,
    /// Size of the data set; 1 is 2.07 GB.
    pub size: f64,
    /// What the S3 server did with what it got.
    pub store: String,
    /// Versions of the programs.
    pub versions: std::collections::BTreeMap<String, String>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
    /// One for each comparison.
    pub results: Vec<Comparison>,
    /// Stages and limits measured alone.
    pub limits: Vec<Limit>,
    /// Other measurements, one line each.
    pub runs: Vec<Figure>,
    /// Every line of the target table.
    pub targets: Vec<Verdict>,
}

/// What one run took.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Elapsed seconds.
    pub wall: f64,
    /// Processor seconds of the client and all its children, and of its resident service.
    pub cpu: f64,
    /// Peak resident memory of its largest process, MiB.
    pub memory: f64,
    /// Bytes in the store afterwards; 0 for reads.
    pub stored: f64,
}

/// One pair.
#[derive(Serialize, Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Howdah's run.
    pub howdah: Sample,
    /// The rival's.
    pub rival: Sample,
}

/// Howdah against one rival, one operation, one codec.
#[derive(Serialize, Clone, Debug)]
pub struct Comparison {
    /// `backup`, `restore`, `archive`, `archiver` or `wal-restore`.
    pub operation: String,
    /// Codec.
    pub codec: String,
    /// Rival.
    pub against: String,
    /// Size of the data set; 1 is 2.07 GB.
    pub size: f64,
    /// WAL segments of one run; 1 for base backups.
    pub units: usize,
    /// The runs.
    pub pairs: Vec<Pair>,
    /// Medians of Howdah's runs.
    pub howdah: Sample,
    /// Medians of the rival's.
    pub rival: Sample,
    /// Medians of the ratios of pairs; absent where there is nothing to compare.
    pub ratio: Ratio,
}

/// Ratios Howdah/rival.
#[derive(Serialize, Clone, Copy, Debug, Default, PartialEq)]
pub struct Ratio {
    /// Of elapsed time.
    pub wall: Option<f64>,
    /// Of processor time.
    pub cpu: Option<f64>,
    /// Of peak memory.
    pub memory: Option<f64>,
    /// Of bytes in the store.
    pub stored: Option<f64>,
}

/// A stage or a limit measured alone.
#[derive(Serialize, Clone, Debug)]
pub struct Limit {
    /// What.
    pub name: String,
    /// Uncompressed megabytes (10^6) in a second.
    pub megabytes_per_second: f64,
    /// How it was measured.
    pub how: String,
}

/// A figure of the scaling or memory run.
#[derive(Serialize, Clone, Debug)]
pub struct Figure {
    /// What ran.
    pub name: String,
    /// What it took.
    pub sample: Sample,
}

impl Comparison {
    /// Medians and ratios of `pairs`.
    #[must_use]
    pub fn new(
        operation: &str,
        codec: &str,
        against: &str,
        size: f64,
        units: usize,
        pairs: Vec<Pair>,
    ) -> Self {
        let side = |of: fn(&Pair) -> Sample| {
            let one = |value: fn(&Sample) -> f64| {
                median(&pairs.iter().map(|pair| value(&of(pair))).collect::<Vec<_>>()).unwrap_or_default()
            };
            Sample {
                wall: one(|s| s.wall),
                cpu: one(|s| s.cpu),
                memory: one(|s| s.memory),
                stored: one(|s| s.stored),
            }
        };
        let ratio = |value: fn(&Sample) -> f64| {
            median_ratio(&pairs.iter().map(|p| (value(&p.howdah), value(&p.rival))).collect::<Vec<_>>())
        };
        Self {
            howdah: side(|pair| pair.howdah),
            rival: side(|pair| pair.rival),
            ratio: Ratio {
                wall: ratio(|s| s.wall),
                cpu: ratio(|s| s.cpu),
                memory: ratio(|s| s.memory),
                stored: ratio(|s| s.stored),
            },
            operation: operation.to_owned(),
            codec: codec.to_owned(),
            against: against.to_owned(),
            size,
            units,
            pairs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_each_side_and_ratios_of_pairs() {
        let sample = |wall, stored| Sample { wall, stored, ..Sample::default() };
        let pairs = [(1.0, 4.0), (2.0, 4.0), (9.0, 10.0)];
        let pairs = pairs.map(|(h, r)| Pair { howdah: sample(h, 0.0), rival: sample(r, 0.0) }).to_vec();
        let found = Comparison::new("restore", "lz4", "wal-rus", 1.0, 1, pairs);
        assert_eq!((found.howdah.wall, found.rival.wall), (2.0, 4.0));
        assert_eq!(found.ratio.wall, Some(0.5));
        assert_eq!(found.ratio.stored, None);
    }
}
