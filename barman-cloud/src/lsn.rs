//! Log sequence numbers: a byte position in the write-ahead log.

use crate::error::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A byte position in the write-ahead log, written `XXXXXXXX/XXXXXXXX` in hexadecimal without leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position that PostgreSQL uses for "none".
    pub const INVALID: Self = Self(0);

    /// The position `bytes` later, or `None` past the end of the log.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// Bytes from `earlier` to this position, 0 when `earlier` is later.
    pub fn distance_from(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let half = |part: &str| {
            let hex = (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if hex { u32::from_str_radix(part, 16).ok() } else { None }
        };
        text.split_once('/')
            .and_then(|(high, low)| Some((half(high)?, half(low)?)))
            .map(|(high, low)| Self(u64::from(high) << 32 | u64::from(low)))
            .ok_or_else(|| {
                Error::invalid(format!("{text:?} is not an LSN (two hexadecimal numbers, as 1/4000028)"))
            })
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("0/0", 0)]
    #[case("0/4000028", 0x400_0028)]
    #[case("16/B374D848", 0x16_B374_D848)]
    #[case("ffffffff/FFFFFFFF", u64::MAX)]
    fn reads(#[case] text: &str, #[case] value: u64) {
        assert_eq!(text.parse::<Lsn>().expect("valid"), Lsn(value));
    }

    #[rstest]
    #[case("")]
    #[case("1")]
    #[case("/1")]
    #[case("1/")]
    #[case("1/2/3")]
    #[case("123456789/0")]
    #[case("+1/0")]
    #[case(" 1/0")]
    #[case("g/0")]
    fn refuses(#[case] text: &str) {
        assert!(text.parse::<Lsn>().is_err());
    }

    proptest! {
        #[test]
        fn round_trip(value: u64) {
            prop_assert_eq!(Lsn(value).to_string().parse::<Lsn>().expect("own text"), Lsn(value));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,24}") {
            let _ = text.parse::<Lsn>();
        }
    }
}
