//! Checks a recovery target beyond what its pattern says: whether the time exists, the timeline and the
//! transaction id fit. Pure.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use howdah_api::bootstrap::RecoveryTarget;

/// What is wrong with `target`, and the remedy.
pub fn check(target: &RecoveryTarget) -> Result<(), String> {
    if let Some(time) = &target.target_time
        && !is_time(time)
    {
        return Err(format!(
            "recoveryTarget.targetTime \"{time}\" is no point in time; write it like 2026-11-21T10:00:00Z in a new \
             Cluster"
        ));
    }
    if let Some(xid) = &target.target_xid
        && xid.parse::<u64>().is_err()
    {
        return Err(format!(
            "recoveryTarget.targetXID \"{xid}\" is no transaction id: it must fit into 64 bits"
        ));
    }
    if let Some(tli) = &target.target_tli
        && !matches!(tli.as_str(), "latest" | "current")
        && tli.parse::<u32>().is_err()
    {
        return Err(format!("recoveryTarget.targetTLI \"{tli}\" is no timeline: it must fit into 32 bits"));
    }
    if let Some(name) = &target.target_name
        && name.chars().any(char::is_control)
    {
        return Err(
            "recoveryTarget.targetName holds control characters; give the restore point's own name".into()
        );
    }
    Ok(())
}

/// RFC 3339 or PostgreSQL's own form, with or without a zone, or a date alone.
fn is_time(text: &str) -> bool {
    let text = text.trim();
    let text = text.strip_suffix("UTC").map_or_else(|| text.to_owned(), |t| format!("{}+00", t.trim_end()));
    let text = text.strip_suffix('Z').map_or(text.clone(), |t| format!("{}+00", t.trim_end()));
    let zoned =
        ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z", "%Y-%m-%d %H:%M%#z"];
    let spaced = text.replace(" +", "+").replace(" -", "-");
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];
    zoned.iter().any(|f| DateTime::parse_from_str(&spaced, f).is_ok())
        || local.iter().any(|f| NaiveDateTime::parse_from_str(&text, f).is_ok())
        || NaiveDate::parse_from_str(&text, "%Y-%m-%d").is_ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("2026-11-21T10:00:00Z", true)]
    #[case("2026-11-21 10:00:00+01", true)]
    #[case("2026-11-21 10:00:00.123456 +01:00", true)]
    #[case("2026-11-21 10:00:00 UTC", true)]
    #[case("2026-11-21 10:00", true)]
    #[case("2026-11-21T10:00Z", true)]
    #[case("2026-11-21", true)]
    #[case("2026-13-21T10:00:00Z", false)]
    #[case("2026-02-30", false)]
    #[case("2026-11-21 25:00:00", false)]
    #[case("yesterday", false)]
    fn times(#[case] text: &str, #[case] good: bool) {
        let target = RecoveryTarget { target_time: Some(text.into()), ..RecoveryTarget::default() };
        assert_eq!(check(&target).is_ok(), good, "{text}");
    }

    #[rstest]
    #[case(Some("18446744073709551615"), None, true)]
    #[case(Some("18446744073709551616"), None, false)]
    #[case(None, Some("4294967295"), true)]
    #[case(None, Some("4294967296"), false)]
    #[case(None, Some("latest"), true)]
    fn numbers(#[case] xid: Option<&str>, #[case] tli: Option<&str>, #[case] good: bool) {
        let target = RecoveryTarget {
            target_xid: xid.map(str::to_owned),
            target_tli: tli.map(str::to_owned),
            ..RecoveryTarget::default()
        };
        assert_eq!(check(&target).is_ok(), good);
    }
}
