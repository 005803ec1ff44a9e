//! Ids of backups: the start time, `YYYYMMDDThhmmss`, exactly 15 characters.
//!
//! Barman uses the host's local zone; ids written here are in UTC so that they ascend with time. A zone letter at
//! the end would be listed by Barman but could not be named on its command line.

use crate::error::Error;
use chrono::{DateTime, Duration, NaiveDateTime, Utc};
use std::fmt;
use std::str::FromStr;

const FORMAT: &str = "%Y%m%dT%H%M%S";

/// Id of a backup. Text order is time order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(String);

impl BackupId {
    /// The id for a backup that starts now, in UTC.
    pub fn at(time: DateTime<Utc>) -> Self {
        Self(time.format(FORMAT).to_string())
    }

    /// The first free id from `time` on: one second is added for each id that `taken` knows, because ids have
    /// the resolution of a second and nothing else keeps two backups apart.
    pub fn first_free(time: DateTime<Utc>, taken: impl Fn(&Self) -> bool) -> Self {
        let mut time = time;
        loop {
            let id = Self::at(time);
            if !taken(&id) {
                return id;
            }
            time += Duration::seconds(1);
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The time in the id, in whatever zone its writer used; `None` when the digits are no calendar time.
    pub fn time(&self) -> Option<NaiveDateTime> {
        NaiveDateTime::parse_from_str(&self.0, FORMAT).ok()
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for BackupId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for BackupId {
    type Err = Error;

    /// Eight digits, `T`, six digits, as Barman accepts them; the digits need not be a calendar time.
    fn from_str(text: &str) -> Result<Self, Error> {
        let valid = text.len() == 15
            && text.bytes().enumerate().all(|(i, b)| if i == 8 { b == b'T' } else { b.is_ascii_digit() });
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("{text:?} is not a backup id (YYYYMMDDThhmmss)")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use rstest::rstest;

    #[rstest]
    #[case("20261121T012341", true)]
    #[case("20261121T012341Z", false)]
    #[case("20261121t012341", false)]
    #[case("20261121T01234", false)]
    #[case("2026112١T012341", false)]
    #[case("", false)]
    fn shape(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<BackupId>().is_ok(), valid);
    }

    #[test]
    fn a_taken_second_moves_to_the_next() {
        let time = Utc.with_ymd_and_hms(2026, 12, 31, 23, 59, 59).single().expect("a time");
        let first = BackupId::at(time);
        let second = BackupId::first_free(time, |id| *id == first);
        assert_eq!((first.as_str(), second.as_str()), ("20261231T235959", "20270101T000000"));
        assert!(first < second);
        assert_eq!(second.time(), Utc.with_ymd_and_hms(2027, 1, 1, 0, 0, 0).single().map(|t| t.naive_utc()));
    }
}
