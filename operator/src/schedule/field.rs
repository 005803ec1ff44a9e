//! One field of a cron expression as the set of its values.

use std::collections::BTreeSet;

/// What a field may hold.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Name in messages.
    pub name: &'static str,
    /// Smallest value.
    pub min: u32,
    /// Largest value.
    pub max: u32,
    /// Names of the values, from the smallest on.
    pub names: &'static [&'static str],
}

/// Seconds.
pub const SECOND: Kind = Kind { name: "second", min: 0, max: 59, names: &[] };
/// Minutes.
pub const MINUTE: Kind = Kind { name: "minute", min: 0, max: 59, names: &[] };
/// Hours.
pub const HOUR: Kind = Kind { name: "hour", min: 0, max: 23, names: &[] };
/// Days of a month.
pub const DAY: Kind = Kind { name: "day of month", min: 1, max: 31, names: &[] };
/// Months.
pub const MONTH: Kind = Kind {
    name: "month",
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// Days of a week, Sunday first; 7 is Sunday too.
pub const WEEKDAY: Kind =
    Kind { name: "day of week", min: 0, max: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// The values of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The values.
    pub values: BTreeSet<u32>,
    /// The field begins with `*` or `?`: it does not restrict by itself (a step behind it included).
    pub open: bool,
}

impl Field {
    /// The values as a list for the `cron` crate, each moved by `shift`.
    #[must_use]
    pub fn list(&self, shift: u32) -> String {
        self.values.iter().map(|v| (v + shift).to_string()).collect::<Vec<_>>().join(",")
    }
}

/// Parses one field.
pub fn parse(text: &str, kind: Kind) -> Result<Field, String> {
    let mut values = BTreeSet::new();
    let mut open = false;
    for part in text.split(',') {
        let (range, is_open) = part_range(part, kind)?;
        open |= is_open;
        values.extend(range);
    }
    if kind.max == WEEKDAY.max && kind.names.len() == WEEKDAY.names.len() {
        values = values.into_iter().map(|v| v % 7).collect();
    }
    Ok(Field { values, open })
}

fn part_range(part: &str, kind: Kind) -> Result<(impl Iterator<Item = u32>, bool), String> {
    let wrong = |what: &str| format!("\"{part}\" in the field {}: {what}", kind.name);
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => {
            let step: u32 = step.parse().map_err(|_| wrong("the step is no number"))?;
            if step == 0 {
                return Err(wrong("the step is 0"));
            }
            (range, Some(step))
        }
        None => (part, None),
    };
    let open = range == "*" || range == "?";
    // Seven is another name of Sunday; `*` means each day once.
    let top = if kind.names.len() == 7 { 6 } else { kind.max };
    let (low, high) = if open {
        (kind.min, top)
    } else if let Some((low, high)) = range.split_once('-') {
        (value(low, kind).map_err(|m| wrong(&m))?, value(high, kind).map_err(|m| wrong(&m))?)
    } else {
        let single = value(range, kind).map_err(|m| wrong(&m))?;
        // `N/step` is short for `N-max/step`.
        (single, if step.is_some() { top.max(single) } else { single })
    };
    if low > high {
        return Err(wrong("the range begins behind its end"));
    }
    Ok(((low..=high).step_by(step.unwrap_or(1) as usize), open))
}

fn value(text: &str, kind: Kind) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(index) = kind.names.iter().position(|n| *n == lower) {
        return Ok(kind.min + u32::try_from(index).unwrap_or(0));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("\"{text}\" is no value"));
    }
    let number: u32 = text.parse().map_err(|_| format!("\"{text}\" is too large"))?;
    if number < kind.min || number > kind.max {
        return Err(format!("{number} is not within {} to {}", kind.min, kind.max));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("*/20", MINUTE, &[0, 20, 40])]
    #[case("5/20", MINUTE, &[5, 25, 45])]
    #[case("1-3,7", HOUR, &[1, 2, 3, 7])]
    #[case("10-20/5", HOUR, &[10, 15, 20])]
    #[case("JAN,mar-may", MONTH, &[1, 3, 4, 5])]
    #[case("0", WEEKDAY, &[0])]
    #[case("7", WEEKDAY, &[0])]
    #[case("5-7", WEEKDAY, &[0, 5, 6])]
    #[case("mon-FRI", WEEKDAY, &[1, 2, 3, 4, 5])]
    #[case("?", WEEKDAY, &[0, 1, 2, 3, 4, 5, 6])]
    #[case("*/2", WEEKDAY, &[0, 2, 4, 6])]
    fn values(#[case] text: &str, #[case] kind: Kind, #[case] expected: &[u32]) {
        let field = parse(text, kind).unwrap();
        assert_eq!(field.values.into_iter().collect::<Vec<_>>(), expected);
    }

    #[rstest]
    #[case("60", MINUTE, "\"60\" in the field minute: 60 is not within 0 to 59")]
    #[case("0", DAY, "\"0\" in the field day of month: 0 is not within 1 to 31")]
    #[case("*/0", HOUR, "\"*/0\" in the field hour: the step is 0")]
    #[case("5-1", HOUR, "\"5-1\" in the field hour: the range begins behind its end")]
    #[case("1,,2", HOUR, "\"\" in the field hour: \"\" is no value")]
    #[case("fri", HOUR, "\"fri\" in the field hour: \"fri\" is no value")]
    #[case("*-3", HOUR, "\"*-3\" in the field hour: \"*\" is no value")]
    #[case("L", DAY, "\"L\" in the field day of month: \"L\" is no value")]
    fn what_is_wrong(#[case] text: &str, #[case] kind: Kind, #[case] message: &str) {
        assert_eq!(parse(text, kind).unwrap_err(), message);
    }
}
