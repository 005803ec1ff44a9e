//! The list of requirements, as it stands in its file.

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::number::Number;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Heading of its table.
    pub title: String,
    pub requirements: Vec<Requirement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    pub number: Number,
    /// What is required, in one line.
    pub text: String,
    /// Why nothing of it is there yet.
    pub later: Option<String>,
    /// What of it is not there yet.
    pub without: Option<String>,
}

impl List {
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.groups.iter().flat_map(|group| &group.requirements)
    }

    pub fn has(&self, number: Number) -> bool {
        self.requirements().any(|requirement| requirement.number == number)
    }
}

/// Reads the list.
///
/// # Errors
/// When it is no list, or when a number is out of order: each group counts from 1 without a gap.
pub fn read(text: &str) -> Result<List> {
    let list: List = serde_saphyr::from_str(text)?;
    for group in &list.groups {
        let first = group.requirements.first().map_or(0, |requirement| requirement.number.group);
        for (requirement, place) in group.requirements.iter().zip(1..) {
            let expected = Number { group: first, place };
            ensure!(
                requirement.number == expected,
                "{} stands where {expected} should: numbers of a group follow each other",
                requirement.number
            );
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_gap_is_named() {
        let text = "groups: [{title: t, requirements: [{number: S1.1, text: a}, {number: S1.3, text: b}]}]";
        let error = super::read(text).expect_err("a gap").to_string();
        assert!(error.contains("S1.3 stands where S1.2 should"), "{error}");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for number in ["S0", "0.1", "S0.01", "s0.1"] {
            let text = format!("groups: [{{title: t, requirements: [{{number: '{number}', text: a}}]}}]");
            assert!(super::read(&text).is_err(), "{number}");
        }
    }
}
