//! Recovery targets: from `bootstrap.fullRecovery.recoveryTarget` to PostgreSQL's parameters.

use howdah_api::bootstrap::RecoveryTarget;
use serde::{Deserialize, Serialize};

/// Parameters of an archive recovery, besides `restore_command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverySettings {
    /// `recovery_target…` and its value; `None` replays to the end of the archive.
    pub target: Option<(&'static str, String)>,
    /// `recovery_target_inclusive`.
    pub inclusive: bool,
    /// `recovery_target_timeline`.
    pub timeline: String,
}

/// A target that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("bootstrap.fullRecovery.recoveryTarget.{field} {value:?} {what}")]
pub struct TargetError {
    field: &'static str,
    value: String,
    what: &'static str,
}

/// A moment that replay shall reach, for the check before any download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moment {
    /// The end of the archive.
    Latest,
    /// As soon as the data is consistent.
    Immediate,
    /// Commits up to this time.
    Time(chrono::DateTime<chrono::Utc>),
    /// This position.
    Lsn(u64),
    /// This transaction.
    Xid(String),
    /// This restore point.
    Name(String),
}

/// What the target asks for.
///
/// # Errors
/// When more than one target is given or one is malformed (the CRD refuses both; a Cluster that was stored
/// before a rule existed still gets a clear answer).
pub fn moment(target: Option<&RecoveryTarget>) -> Result<Moment, TargetError> {
    let Some(t) = target else { return Ok(Moment::Latest) };
    let immediate = t.target_immediate.unwrap_or(false);
    let given = [
        t.target_time.is_some(),
        t.target_lsn.is_some(),
        t.target_xid.is_some(),
        t.target_name.is_some(),
        immediate,
    ];
    if given.iter().filter(|g| **g).count() > 1 {
        return Err(TargetError {
            field: "target*",
            value: String::new(),
            what: "is given more than once: keep one of targetXID, targetName, targetLSN, targetTime and targetImmediate",
        });
    }
    if let Some(text) = &t.target_time {
        return parse_time(text).map(Moment::Time).ok_or_else(|| TargetError {
            field: "targetTime",
            value: text.clone(),
            what: "is not a time: write it as 2026-11-21T10:00:00Z",
        });
    }
    if let Some(text) = &t.target_lsn {
        return parse_lsn(text).map(Moment::Lsn).ok_or_else(|| TargetError {
            field: "targetLSN",
            value: text.clone(),
            what: "is not a position: write it as 0/3000060",
        });
    }
    if let Some(xid) = &t.target_xid {
        if xid.parse::<u64>().is_err() {
            return Err(TargetError {
                field: "targetXID",
                value: xid.clone(),
                what: "is not a decimal transaction id",
            });
        }
        return Ok(Moment::Xid(xid.clone()));
    }
    if let Some(name) = &t.target_name {
        return Ok(Moment::Name(name.clone()));
    }
    Ok(if immediate { Moment::Immediate } else { Moment::Latest })
}

impl RecoverySettings {
    /// Settings for `target`.
    ///
    /// # Errors
    /// As [`moment`].
    pub fn of(target: Option<&RecoveryTarget>) -> Result<Self, TargetError> {
        let parameter = match moment(target)? {
            Moment::Latest => None,
            Moment::Immediate => Some(("recovery_target", "immediate".to_owned())),
            Moment::Time(time) => {
                Some(("recovery_target_time", time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string()))
            }
            Moment::Lsn(lsn) => {
                Some(("recovery_target_lsn", format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF)))
            }
            Moment::Xid(xid) => Some(("recovery_target_xid", xid)),
            Moment::Name(name) => Some(("recovery_target_name", name)),
        };
        Ok(Self {
            target: parameter,
            inclusive: !target.and_then(|t| t.exclusive).unwrap_or(false),
            timeline: target.and_then(|t| t.target_tli.clone()).unwrap_or_else(|| "latest".to_owned()),
        })
    }

    /// Names and values for `postgresql.conf`.
    #[must_use]
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("recovery_target_timeline", self.timeline.clone())];
        if let Some((name, value)) = &self.target {
            all.push((name, value.clone()));
            all.push(("recovery_target_action", "promote".to_owned()));
            all.push(("recovery_target_inclusive", if self.inclusive { "on" } else { "off" }.to_owned()));
        }
        all
    }
}

/// RFC 3339 or PostgreSQL's own form; without a zone it is UTC, without a time it is midnight.
#[must_use]
pub fn parse_time(text: &str) -> Option<chrono::DateTime<chrono::Utc>> {
    use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
    let text = text.trim();
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(date.and_time(NaiveTime::MIN).and_utc());
    }
    // The separator of RFC 3339 is at a fixed place; `UTC` has a T too.
    let plain = match text.as_bytes().get(10) {
        Some(b'T') => format!("{} {}", text.get(..10)?, text.get(11..)?),
        _ => text.to_owned(),
    };
    let plain = plain.strip_suffix("UTC").or_else(|| plain.strip_suffix('Z')).unwrap_or(&plain).trim_end();
    for form in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(plain, form) {
            return Some(time.and_utc());
        }
    }
    // With a numeric zone: +hh, +hhmm or +hh:mm, perhaps after a space.
    let at = plain.rfind(['+', '-']).filter(|at| *at > 10)?;
    let (stamp, zone) = (plain[..at].trim_end(), &plain[at..]);
    let zone = if zone.len() == 3 { format!("{zone}00") } else { zone.replace(':', "") };
    for form in ["%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z"] {
        if let Ok(time) = DateTime::parse_from_str(&format!("{stamp}{zone}"), form) {
            return Some(time.to_utc());
        }
    }
    None
}

/// A position such as `1/4000028` as a number.
#[must_use]
pub fn parse_lsn(text: &str) -> Option<u64> {
    text.parse::<barman_cloud::Lsn>().ok().map(|lsn| lsn.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("2026-11-21T10:00:00Z", "2026-11-21T10:00:00+00:00")]
    #[case("2026-11-21 10:00:00+01", "2026-11-21T09:00:00+00:00")]
    #[case("2026-11-21 10:00:00.25 -0530", "2026-11-21T15:30:00.250+00:00")]
    #[case("2026-11-21T10:00:00+02:00", "2026-11-21T08:00:00+00:00")]
    #[case("2026-11-21 10:00", "2026-11-21T10:00:00+00:00")]
    #[case("2026-11-21 10:00:00 UTC", "2026-11-21T10:00:00+00:00")]
    #[case("2026-11-21", "2026-11-21T00:00:00+00:00")]
    fn times(#[case] text: &str, #[case] want: &str) {
        assert_eq!(parse_time(text).map(|t| t.to_rfc3339()).as_deref(), Some(want));
    }

    #[rstest::rstest]
    #[case("yesterday")]
    #[case("2026-13-21T10:00:00Z")]
    #[case("2026-11-21T25:00:00Z")]
    #[case("")]
    fn no_times(#[case] text: &str) {
        assert_eq!(parse_time(text), None);
        let target = RecoveryTarget { target_time: Some(text.to_owned()), ..RecoveryTarget::default() };
        let error = RecoverySettings::of(Some(&target)).unwrap_err().to_string();
        assert!(error.contains("targetTime") && error.contains("2026-11-21T10:00:00Z"), "{error}");
    }

    #[test]
    fn every_kind_of_target() {
        let base = RecoveryTarget::default;
        let cases = [
            None,
            Some(RecoveryTarget { target_immediate: Some(true), ..base() }),
            Some(RecoveryTarget { target_lsn: Some("0/3000060".into()), exclusive: Some(true), ..base() }),
            Some(RecoveryTarget { target_xid: Some("741".into()), target_tli: Some("2".into()), ..base() }),
            Some(RecoveryTarget { target_name: Some("before".into()), ..base() }),
            Some(RecoveryTarget { target_time: Some("2026-11-21 10:00:00+01".into()), ..base() }),
        ];
        let rendered: Vec<_> =
            cases.iter().map(|c| RecoverySettings::of(c.as_ref()).unwrap().parameters()).collect();
        insta::assert_debug_snapshot!(rendered);
    }

    #[test]
    fn two_targets_are_one_too_many() {
        let target = RecoveryTarget {
            target_name: Some("a".into()),
            target_xid: Some("1".into()),
            ..RecoveryTarget::default()
        };
        assert!(moment(Some(&target)).unwrap_err().to_string().contains("more than once"));
    }
}
