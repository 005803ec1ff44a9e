//! Times in `backup.info`: Python's `str(datetime)`, read in the variants that Barman and others have written.

use chrono::{DateTime, FixedOffset, NaiveDateTime, SubsecRound, TimeZone, Utc};

const ZONED: [&str; 5] = [
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%a %b %e %H:%M:%S %Y %z",
];
const NAIVE: [&str; 3] = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%a %b %e %H:%M:%S %Y"];

/// Reads a time, as exact as Python keeps it: to the microsecond. One without a zone is taken as UTC; Barman takes its
/// host's zone, which the bucket does not know.
pub(super) fn parse(text: &str) -> Option<DateTime<FixedOffset>> {
    exactly(text).map(|time| time.trunc_subsecs(6))
}

fn exactly(text: &str) -> Option<DateTime<FixedOffset>> {
    let (body, utc) = match text.strip_suffix('Z').or_else(|| text.strip_suffix(" UTC")) {
        Some(body) => (body, true),
        None => (text, false),
    };
    if !utc && let Some(time) = ZONED.iter().find_map(|format| DateTime::parse_from_str(body, format).ok()) {
        return Some(time);
    }
    let naive = NAIVE.iter().find_map(|format| NaiveDateTime::parse_from_str(body, format).ok())?;
    Some(Utc.from_utc_datetime(&naive).fixed_offset())
}

/// Writes a time as Python does: microseconds, left out when they are 0.
pub(super) fn render(time: &DateTime<FixedOffset>) -> String {
    let format =
        if time.timestamp_subsec_micros() == 0 { "%Y-%m-%d %H:%M:%S%:z" } else { "%Y-%m-%d %H:%M:%S%.6f%:z" };
    time.format(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("2026-11-21 01:23:41.687275+00:00", "2026-11-21 01:23:41.687275+00:00")]
    #[case("2026-11-21 01:23:41+00:00", "2026-11-21 01:23:41+00:00")]
    #[case("2026-11-21T01:23:41.5+05:30", "2026-11-21 01:23:41.500000+05:30")]
    #[case("2026-11-21 01:23:41.000000+02", "2026-11-21 01:23:41+02:00")]
    #[case("2026-11-21 01:23:41-0330", "2026-11-21 01:23:41-03:30")]
    #[case("2026-11-21T01:23:41Z", "2026-11-21 01:23:41+00:00")]
    #[case("2026-11-21 01:23:41", "2026-11-21 01:23:41+00:00")]
    #[case("Sat Nov 21 01:23:41 2026", "2026-11-21 01:23:41+00:00")]
    #[case("2026-11-21 01:23:41.1844674000+00:00", "2026-11-21 01:23:41.184467+00:00")]
    #[case("2026-11-21 01:23:41.0000001+00:00", "2026-11-21 01:23:41+00:00")]
    fn reads_and_writes(#[case] text: &str, #[case] written: &str) {
        let time = parse(text).expect("a time");
        assert_eq!(render(&time), written);
        assert_eq!(parse(written), Some(time), "what was written is the same time");
    }

    #[rstest]
    #[case("")]
    #[case("yesterday")]
    #[case("2026-13-01 00:00:00")]
    #[case("2026-11-21")]
    #[case("2026-11-21 01:23:41+")]
    fn refuses(#[case] text: &str) {
        assert!(parse(text).is_none());
    }
}
