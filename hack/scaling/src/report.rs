//! Results as text.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use crate::measure::Outcome;

/// Writes of each primary's instance manager to its lease, which the simulation lacks: one in three seconds.
const LEASES_PER_HOUR: f64 = 1200.0;

impl Outcome {
    /// Requests for each cluster in an hour at rest.
    fn hourly(&self, count: u64) -> f64 {
        count as f64 * 3600.0 / self.window.as_secs_f64() / self.clusters as f64
    }

    /// Requests but for those that keep the operator the leader, which do not depend on the number of clusters.
    fn total(&self) -> u64 {
        self.calls.iter().filter(|((_, what), _)| what != "leases").map(|(_, count)| count).sum()
    }

    /// Requests for leases: at rest those of the leader alone.
    fn leading(&self) -> u64 {
        self.calls.iter().filter(|((_, what), _)| what == "leases").map(|(_, count)| count).sum()
    }

    fn lists(&self) -> u64 {
        self.calls.iter().filter(|((verb, _), _)| *verb == "list").map(|(_, count)| count).sum()
    }

    fn writes(&self) -> u64 {
        let writes = |verb: &str, what: &str| what != "leases" && !matches!(verb, "get" | "list" | "watch");
        self.calls.iter().filter(|((verb, what), _)| writes(verb, what)).map(|(_, count)| count).sum()
    }

    fn quantile(&self, part: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * part).round() as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

type Row<'a> = (&'a str, &'a dyn Fn(&Outcome) -> String);

/// One column for each size; requests by verb and resource below.
pub fn table(results: &[Outcome]) -> String {
    let millis = |d: Duration| format!("{:.0} ms", d.as_secs_f64() * 1000.0);
    let rows: [Row<'_>; 16] = [
        ("clusters", &|r| r.clusters.to_string()),
        ("time until all are ready", &|r| format!("{:.0} s", r.ready.as_secs_f64())),
        ("API calls until then, each cluster", &|r| format!("{:.0}", r.making as f64 / r.clusters as f64)),
        ("resident memory at rest", &|r| format!("{:.1} MiB", mib(r.memory.resident))),
        ("anonymous memory at rest", &|r| format!("{:.1} MiB", mib(r.memory.anonymous))),
        ("peak resident memory", &|r| format!("{:.1} MiB", mib(r.memory.peak))),
        ("processor time in a minute at rest", &|r| format!("{:.2} s", r.processor)),
        ("looks at rest, each cluster and hour", &|r| format!("{:.0}", r.hourly(r.looks.count as u64))),
        ("mean duration of a look", &|r| {
            millis(Duration::from_secs_f64(r.looks.seconds / r.looks.count.max(1.0)))
        }),
        ("change answered in the status, p50", &|r| millis(r.quantile(0.5))),
        ("change answered in the status, p99", &|r| millis(r.quantile(0.99))),
        ("API calls at rest, each cluster and hour", &|r| format!("{:.1}", r.hourly(r.total()))),
        ("  of these writes", &|r| format!("{:.1}", r.hourly(r.writes()))),
        ("leader's own lease, each hour", &|r| {
            format!("{:.0}", r.leading() as f64 * 3600.0 / r.window.as_secs_f64())
        }),
        ("LIST calls at rest, all clusters", &|r| r.lists().to_string()),
        ("time at rest", &|r| format!("{:.0} s", r.window.as_secs_f64())),
    ];
    let mut text = String::new();
    // Writing to a String does not fail.
    let mut line = |name: &str, cell: &dyn Fn(&Outcome) -> String| {
        let _ = write!(text, "{name:<44}");
        for result in results {
            let _ = write!(text, "  {:>12}", cell(result));
        }
        text.push('\n');
    };
    for (name, cell) in rows {
        line(name, cell);
    }
    let kinds = results.iter().flat_map(|r| r.calls.keys()).filter(|(_, what)| what != "leases");
    let kinds: BTreeSet<&(&str, String)> = kinds.collect();
    for kind in kinds {
        let cell = |r: &Outcome| format!("{:.2}", r.hourly(r.calls.get(kind).copied().unwrap_or(0)));
        line(&format!("  {} {}", kind.0, kind.1), &cell);
    }
    text
}

/// How the figures grow from the smallest to the largest size; growth of the number of clusters itself is linear.
pub fn growth(results: &[Outcome]) -> String {
    let mut text = format!(
        "Not in it: the managers' own renewals of the primary's lease, {LEASES_PER_HOUR:.0} writes for each cluster and hour.\n"
    );
    if let [first, .., last] = results {
        let of = |name: &str, value: &dyn Fn(&Outcome) -> f64| {
            format!("  {name} ×{:.1}\n", value(last) / value(first).max(f64::MIN_POSITIVE))
        };
        let _ = writeln!(text, "Growth from {} to {} clusters:", first.clusters, last.clusters);
        text += &of("clusters", &|r| r.clusters as f64);
        text += &of("anonymous memory", &|r| r.memory.anonymous as f64);
        text += &of("processor time at rest", &|r| r.processor);
        text += &of("API calls at rest", &|r| r.total() as f64 / r.window.as_secs_f64());
        text += &of("API calls until all are ready", &|r| r.making as f64);
        text += &of("time until all are ready", &|r| r.ready.as_secs_f64());
        text += &of("latency of a change, p50", &|r| r.quantile(0.5).as_secs_f64());
    }
    text
}
