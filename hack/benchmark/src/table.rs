//! Results as text.

use crate::report::{Comparison, Figure, Limit, Sample};
use crate::target::Verdict;
use std::fmt::Write;

/// Columns, the first to the left and the others to the right, under a heading.
#[must_use]
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for (column, (width, cell)) in widths.iter().zip(row).enumerate() {
            // Writing to a String does not fail.
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The comparisons: medians as `wall / CPU / memory` and ratios. WAL times are those of one segment.
#[must_use]
pub fn comparisons(results: &[Comparison]) -> String {
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|result| {
            vec![
                format!("{}, {}, {}", result.operation, result.codec, result.against),
                result.pairs.len().to_string(),
                took(&result.rival, result.units),
                took(&result.howdah, result.units),
                ratio(result.ratio.wall),
                ratio(result.ratio.cpu),
                ratio(result.ratio.memory),
                ratio(result.ratio.stored),
            ]
        })
        .collect();
    table(&["comparison", "pairs", "rival", "howdah", "wall", "CPU", "memory", "stored"], &rows)
}

/// The targets.
#[must_use]
pub fn targets(lines: &[Verdict]) -> String {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            vec![
                format!("{}, {}", line.name, line.against),
                line.metric.clone(),
                ratio(line.ratio),
                format!("{} {:.2}", line.bound, line.limit),
                if line.pass { "pass" } else { "FAIL" }.to_owned(),
            ]
        })
        .collect();
    table(&["target", "metric", "ratio", "bound", ""], &rows)
}

/// Other figures.
#[must_use]
pub fn figures(runs: &[Figure]) -> String {
    let rows: Vec<Vec<String>> =
        runs.iter().map(|run| vec![run.name.clone(), took(&run.sample, 1)]).collect();
    table(&["run", "took"], &rows)
}

/// The limits.
#[must_use]
pub fn limits(limits: &[Limit]) -> String {
    let rows: Vec<Vec<String>> = limits
        .iter()
        .map(|limit| {
            vec![limit.name.clone(), format!("{:.0} MB/s", limit.megabytes_per_second), limit.how.clone()]
        })
        .collect();
    table(&["alone", "throughput", "how"], &rows)
}

/// One run or one segment: seconds or milliseconds, then MiB, then bytes stored when there are any.
fn took(sample: &Sample, units: usize) -> String {
    let per = units.max(1) as f64;
    let time = |seconds: f64| match units {
        0 | 1 => format!("{seconds:.2} s"),
        _ => format!("{:.1} ms", seconds * 1000.0 / per),
    };
    let mut text = format!("{} / {} / {:.0} MiB", time(sample.wall), time(sample.cpu), sample.memory);
    if sample.stored > 0.0 {
        let _ = write!(text, " / {:.1} MB", sample.stored / 1e6);
    }
    text
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Pair;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows = vec![
            vec!["a".to_owned(), "10".to_owned(), String::new()],
            vec!["long".into(), "7".into(), "x".into()],
        ];
        assert_eq!(table(&["n", "v", ""], &rows), "n      v\na     10\nlong   7  x\n");
    }

    #[test]
    fn wal_is_shown_by_segment_and_backups_whole() {
        let sample = Sample { wall: 2.0, cpu: 1.0, memory: 10.4, stored: 3e6 };
        assert_eq!(took(&sample, 1), "2.00 s / 1.00 s / 10 MiB / 3.0 MB");
        assert_eq!(took(&Sample { stored: 0.0, ..sample }, 20), "100.0 ms / 50.0 ms / 10 MiB");
    }

    #[test]
    fn a_missing_figure_is_a_dash_and_a_failed_target_is_loud() {
        let pair = Pair {
            howdah: Sample { wall: 1.0, ..Sample::default() },
            rival: Sample { wall: 2.0, ..Sample::default() },
        };
        let text = comparisons(&[Comparison::new("backup", "lz4", "wal-rus", 1.0, 1, vec![pair])]);
        assert!(text.contains("0.500") && text.contains('–'), "{text}");
        let line = |limit| [Verdict::at_most("backup, lz4", "wal-rus", "wall", Some(0.95), limit)];
        assert!(targets(&line(0.9)).contains("0.950  at most 0.90  FAIL"), "{}", targets(&line(0.9)));
        assert!(targets(&line(1.0)).contains("pass"));
    }
}
