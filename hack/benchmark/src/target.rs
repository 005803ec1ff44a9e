//! The targets: how Howdah must stand against each rival, and whether it does.

use crate::report::{Comparison, Ratio};
use serde::Serialize;

/// A figure that is compared.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Elapsed time.
    Wall,
    /// Processor time.
    Cpu,
    /// Peak memory.
    Memory,
    /// Bytes in the store.
    Stored,
}

/// One line: the ratio Howdah/rival must not be above the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Operation.
    pub operation: &'static str,
    /// Codec.
    pub codec: &'static str,
    /// Rival.
    pub against: &'static str,
    /// Figure.
    pub metric: Metric,
    /// Highest ratio.
    pub limit: f64,
}

/// A line and how it came out.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Operation and codec, or what was measured.
    pub name: String,
    /// Rival, or what it is compared with.
    pub against: String,
    /// Figure.
    pub metric: String,
    /// Ratio found; `None` when it was not measured.
    pub ratio: Option<f64>,
    /// Bound.
    pub limit: f64,
    /// Which side of the bound is good: `at most` or `at least`.
    pub bound: &'static str,
    /// Whether the ratio is within the bound. What was not measured did not pass.
    pub pass: bool,
}

impl Verdict {
    /// A line that passes up to its limit.
    #[must_use]
    pub fn at_most(name: &str, against: &str, metric: &str, ratio: Option<f64>, limit: f64) -> Self {
        Self::new(name, against, metric, ratio, limit, "at most", |ratio| ratio <= limit)
    }

    /// A line that passes from its limit on.
    #[must_use]
    pub fn at_least(name: &str, against: &str, metric: &str, ratio: Option<f64>, limit: f64) -> Self {
        Self::new(name, against, metric, ratio, limit, "at least", |ratio| ratio >= limit)
    }

    fn new(
        name: &str,
        against: &str,
        metric: &str,
        ratio: Option<f64>,
        limit: f64,
        bound: &'static str,
        good: impl Fn(f64) -> bool,
    ) -> Self {
        let (name, against, metric) = (name.to_owned(), against.to_owned(), metric.to_owned());
        Self { name, against, metric, ratio, limit, bound, pass: ratio.is_some_and(good) }
    }
}

const BACKUP_WALRUS: [(Metric, f64); 4] =
    [(Metric::Wall, 0.90), (Metric::Cpu, 1.00), (Metric::Memory, 0.45), (Metric::Stored, 1.05)];
const BACKUP_PGBACKREST: [(Metric, f64); 4] =
    [(Metric::Wall, 0.40), (Metric::Cpu, 0.50), (Metric::Memory, 1.0), (Metric::Stored, 1.05)];
const BACKUP_BARMAN: [(Metric, f64); 4] =
    [(Metric::Wall, 0.10), (Metric::Cpu, 0.20), (Metric::Memory, 1.0), (Metric::Stored, 1.10)];
const RESTORE_WALRUS: [(Metric, f64); 2] = [(Metric::Wall, 0.90), (Metric::Cpu, 1.10)];
const ARCHIVE_WALRUS: [(Metric, f64); 3] =
    [(Metric::Wall, 0.30), (Metric::Cpu, 0.50), (Metric::Stored, 1.05)];
const ARCHIVE_BARMAN: [(Metric, f64); 3] =
    [(Metric::Wall, 0.04), (Metric::Cpu, 0.05), (Metric::Stored, 1.10)];
const WAL_RESTORE_BARMAN: [(Metric, f64); 2] = [(Metric::Wall, 0.03), (Metric::Cpu, 0.05)];

/// A row of the table: operation, codecs, rival, bounds.
type Row = (&'static str, &'static [&'static str], &'static str, &'static [(Metric, f64)]);

const ROWS: [Row; 7] = [
    ("backup", &["lz4", "zstd"], "wal-rus", &BACKUP_WALRUS),
    ("backup", &["lz4", "zstd"], "pgBackRest", &BACKUP_PGBACKREST),
    ("backup", &["gzip"], "barman-cloud", &BACKUP_BARMAN),
    ("restore", &["lz4", "zstd"], "wal-rus", &RESTORE_WALRUS),
    ("archive", &["lz4", "zstd"], "wal-rus", &ARCHIVE_WALRUS),
    ("archive", &["gzip"], "barman-cloud", &ARCHIVE_BARMAN),
    ("wal-restore", &["gzip"], "barman-cloud", &WAL_RESTORE_BARMAN),
];

/// All targets that are ratios to a rival.
pub fn all() -> impl Iterator<Item = Target> {
    ROWS.iter().flat_map(|(operation, codecs, against, bounds)| {
        codecs.iter().flat_map(move |codec| {
            bounds.iter().map(move |&(metric, limit)| Target { operation, codec, against, metric, limit })
        })
    })
}

/// Judges every wanted target by what was found; a comparison that did not run fails its lines. `wanted` is asked
/// with the name of the comparison, such as `backup, lz4, wal-rus`.
#[must_use]
pub fn judge(results: &[Comparison], wanted: impl Fn(&str) -> bool) -> Vec<Verdict> {
    let name = |target: &Target| format!("{}, {}, {}", target.operation, target.codec, target.against);
    all().filter(|target| wanted(&name(target))).map(|target| verdict(&target, results)).collect()
}

fn verdict(target: &Target, results: &[Comparison]) -> Verdict {
    let found = results.iter().find(|result| {
        (result.operation.as_str(), result.codec.as_str(), result.against.as_str())
            == (target.operation, target.codec, target.against)
    });
    let ratio = found.and_then(|result| value(&result.ratio, target.metric));
    let name = format!("{}, {}", target.operation, target.codec);
    let metric = format!("{:?}", target.metric).to_lowercase();
    Verdict::at_most(&name, target.against, &metric, ratio, target.limit)
}

fn value(ratio: &Ratio, metric: Metric) -> Option<f64> {
    match metric {
        Metric::Wall => ratio.wall,
        Metric::Cpu => ratio.cpu,
        Metric::Memory => ratio.memory,
        Metric::Stored => ratio.stored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Pair, Sample};

    fn comparison(howdah: f64, rival: f64) -> Comparison {
        let sample = |value| Sample { wall: value, cpu: 1.0, memory: 1.0, stored: 0.0 };
        let pair = Pair { howdah: sample(howdah), rival: sample(rival) };
        Comparison::new("restore", "lz4", "wal-rus", 1.0, 1, vec![pair])
    }

    #[test]
    fn every_line_of_the_table_is_there() {
        // backup: 2 codecs × 2 rivals × 4 and gzip × 4; restore 2 × 2; archive 2 × 3 and 3; WAL restore 2.
        assert_eq!(all().count(), 16 + 4 + 4 + 6 + 3 + 2);
        assert_eq!(judge(&[], |_| true).len(), all().count());
    }

    #[test]
    fn a_ratio_passes_up_to_its_limit() {
        for (howdah, pass) in [(0.90, true), (0.91, false)] {
            let lines = judge(&[comparison(howdah, 1.0)], |_| true);
            let line = lines.iter().find(|l| l.name == "restore, lz4" && l.metric == "wall").unwrap();
            assert_eq!((line.limit, line.pass), (0.90, pass));
        }
    }

    #[test]
    fn only_wanted_lines_are_judged() {
        let lines = judge(&[], |name| name == "restore, zstd, wal-rus");
        assert_eq!(lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>(), ["restore, zstd"; 2]);
    }

    #[test]
    fn what_was_not_measured_did_not_pass() {
        assert!(judge(&[], |_| true).iter().all(|line| !line.pass && line.ratio.is_none()));
        assert!(!Verdict::at_least("backup", "its stages", "throughput", None, 0.8).pass);
    }
}
