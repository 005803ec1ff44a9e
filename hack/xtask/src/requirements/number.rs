//! `S0.12`: the number of a requirement.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// Group and place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Number {
    pub group: u8,
    pub place: u16,
}

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.strip_prefix('S').and_then(|rest| rest.split_once('.'));
        let number = parts
            .and_then(|(group, place)| Some(Self { group: group.parse().ok()?, place: place.parse().ok()? }));
        number
            .filter(|number| number.to_string() == text)
            .ok_or_else(|| format!("{text:?} is no number of a requirement: write it as S0.12"))
    }
}

impl TryFrom<String> for Number {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S{}.{}", self.group, self.place)
    }
}
