//! The string formats that custom resource schemas may ask for.

use base64::Engine as _;
use std::net::IpAddr;

/// Whether a text has the format; formats the API does not know are accepted.
pub fn matches(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        "date" => chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok(),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "ipv4" => matches!(text.parse(), Ok(IpAddr::V4(_))),
        "ipv6" => matches!(text.parse(), Ok(IpAddr::V6(_))),
        "cidr" => text.split_once('/').is_some_and(|(ip, bits)| {
            ip.parse::<IpAddr>().is_ok() && bits.parse::<u8>().is_ok_and(|b| b <= 128)
        }),
        "uuid" | "uuid4" => uuid::Uuid::parse_str(text).is_ok(),
        "uri" | "url" => url::Url::parse(text).is_ok(),
        "hostname" => {
            !text.is_empty()
                && text.len() <= 253
                && text.split('.').all(|l| {
                    !l.is_empty() && l.len() <= 63 && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                })
        }
        "email" => text.split_once('@').is_some_and(|(a, b)| !a.is_empty() && b.contains('.')),
        "duration" => duration(text),
        _ => true,
    }
}

/// A Go duration: `1h30m`, `-1.5s`, `0`.
fn duration(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    if text == "0" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(0);
        if digits == 0 {
            return false;
        }
        rest = &rest[digits..];
        let Some(unit) = ["ns", "us", "µs", "ms", "s", "m", "h"].iter().find(|u| {
            rest.strip_prefix(**u)
                .is_some_and(|r| r.is_empty() || r.starts_with(|c: char| c.is_ascii_digit()))
        }) else {
            return false;
        };
        rest = &rest[unit.len()..];
    }
    !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_formats() {
        assert!(matches("date-time", "2026-01-02T03:04:05Z"));
        assert!(!matches("date-time", "yesterday"));
        assert!(matches("duration", "1h30m"));
        assert!(!matches("duration", "1x"));
        assert!(!matches("duration", ""));
        assert!(matches("anything-else", "x"));
    }
}
