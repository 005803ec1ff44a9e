//! What a user asks of retention.

use super::period::Period;
use crate::error::{Error, Result};
use std::fmt;

/// What is kept of full backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullRule {
    /// The newest so many: pgBackRest's `repo-retention-full` of type `count`, Barman's `REDUNDANCY`.
    Count(u32),
    /// Those that are not older, and one that is, so that every moment of the time can be reached: type `time`.
    Age(Period),
}

/// Which backups are kept. Rules add up: a backup stays when any of them keeps it. A policy without a rule for full
/// backups keeps them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// By number or by age.
    pub full: Option<FullRule>,
    /// So many of the newest differential backups; all that build on a kept full one when it is not given.
    pub differential: Option<u32>,
    /// Every moment of this time must be reachable.
    pub recovery_window: Option<Period>,
    /// The newest full backup of each of the last so many days (UTC) that have one.
    pub daily: u32,
    /// The same of weeks, which begin on Monday.
    pub weekly: u32,
    /// The same of months.
    pub monthly: u32,
    /// Complete full backups are never made fewer than this.
    pub minimum_redundancy: u32,
}

impl Policy {
    /// Keeps the newest `count` full backups.
    pub fn full_count(count: u32) -> Self {
        Self { full: Some(FullRule::Count(count)), ..Self::default() }
    }

    /// Keeps what recovery to any moment of the window needs.
    pub fn window(window: Period) -> Self {
        Self { recovery_window: Some(window), ..Self::default() }
    }

    /// Refuses numbers that keep nothing; the error names the field.
    pub fn check(&self) -> Result<()> {
        let zero = |field: &str| {
            Err(Error::invalid(format!("{field} of the retention policy is 0"))
                .with_remedy("give a number of at least 1, or leave the field out"))
        };
        match self {
            Self { full: Some(FullRule::Count(0)), .. } => zero("full.count"),
            Self { differential: Some(0), .. } => zero("differential.count"),
            _ => Ok(()),
        }
    }

    /// Whether a rule speaks of full backups. Without one all of them stay.
    pub(super) fn judges_full(&self) -> bool {
        self.full.is_some() || self.recovery_window.is_some() || self.daily + self.weekly + self.monthly > 0
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        match self.full {
            Some(FullRule::Count(count)) => words.push(format!("{count} full")),
            Some(FullRule::Age(age)) => words.push(format!("full for {age}")),
            None => {}
        }
        words.extend(self.differential.map(|count| format!("{count} differential")));
        words.extend(self.recovery_window.map(|window| format!("recovery window {window}")));
        for (count, name) in [(self.daily, "daily"), (self.weekly, "weekly"), (self.monthly, "monthly")] {
            words.extend((count > 0).then(|| format!("{count} {name}")));
        }
        if self.minimum_redundancy > 0 {
            words.push(format!("at least {} full", self.minimum_redundancy));
        }
        match words.is_empty() {
            true => f.write_str("keep everything"),
            false => f.write_str(&words.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_what_it_is() {
        assert_eq!(Policy::default().to_string(), "keep everything");
        let all = Policy {
            full: Some(FullRule::Count(7)),
            differential: Some(3),
            recovery_window: "30d".parse().ok(),
            daily: 7,
            monthly: 12,
            minimum_redundancy: 2,
            weekly: 0,
        };
        assert_eq!(
            all.to_string(),
            "7 full, 3 differential, recovery window 30d, 7 daily, 12 monthly, at least 2 full"
        );
        assert!(all.check().is_ok() && all.judges_full());
        assert!(!Policy { differential: Some(1), minimum_redundancy: 1, ..Policy::default() }.judges_full());
    }

    #[test]
    fn numbers_that_keep_nothing_are_refused_by_name() {
        let report = Policy::full_count(0).check().expect_err("refused").report();
        assert!(report.contains("full.count") && report.contains("at least 1"), "{report}");
        let report =
            Policy { differential: Some(0), ..Policy::default() }.check().expect_err("refused").report();
        assert!(report.contains("differential.count"), "{report}");
    }
}
