//! Sizes for people.

const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];

/// A size as pgBackRest prints it: powers of 1024, one decimal unless it is a whole number of the unit.
pub fn human(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut unit = 1024;
    let mut name = UNITS[0];
    for larger in &UNITS[1..] {
        if bytes / unit < 1024 {
            break;
        }
        unit *= 1024;
        name = larger;
    }
    match bytes.is_multiple_of(unit) {
        true => format!("{}{name}", bytes / unit),
        // Precision is lost only where no digit of it is shown.
        false => format!("{:.1}{name}", bytes as f64 / unit as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::human;
    use rstest::rstest;

    /// The first four are what pgBackRest 2.45 prints for these sizes.
    #[rstest]
    #[case(432, "432B")]
    #[case(8458, "8.3KB")]
    #[case(3_043_454, "2.9MB")]
    #[case(22_992_549, "21.9MB")]
    #[case(1024, "1KB")]
    #[case(1536, "1.5KB")]
    #[case(5 << 30, "5GB")]
    #[case((7 << 40) + (1 << 39), "7.5TB")]
    #[case(u64::MAX, "16777216.0TB")]
    fn sizes(#[case] bytes: u64, #[case] text: &str) {
        assert_eq!(human(bytes), text);
    }
}
