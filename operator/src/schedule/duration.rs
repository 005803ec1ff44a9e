//! Durations of `@every`, in Go's form: `90m`, `1h30m`, `1.5h`.

use chrono::Duration;

/// Parses a duration of at least one second; fractions of a second are cut off.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no duration; write for example 90m or 1h30m");
    let mut rest = text;
    let mut millis: f64 = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        millis += number
            * match unit {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1_000.0,
                "ms" => 1.0,
                _ => return Err(wrong()),
            };
        rest = tail;
    }
    // A hundred years: beyond that nothing is meant seriously, and sums stay in range.
    if millis > 3.2e12 {
        return Err(format!("\"{text}\" is longer than a hundred years"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked to be small, and whole seconds are wanted")]
    let seconds = (millis / 1000.0) as i64;
    if seconds < 1 {
        return Err(format!("\"{text}\" is shorter than a second"));
    }
    Ok(Duration::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    #[rstest]
    #[case("90m", Some(5400))]
    #[case("1h30m", Some(5400))]
    #[case("1.5h", Some(5400))]
    #[case("1h0m10s", Some(3610))]
    #[case("2500ms", Some(2))]
    #[case("500ms", None)]
    #[case("", None)]
    #[case("90", None)]
    #[case("1d", None)]
    #[case("-1h", None)]
    #[case("99999999999h", None)]
    fn durations(#[case] text: &str, #[case] seconds: Option<i64>) {
        assert_eq!(super::parse(text).ok().map(|d| d.num_seconds()), seconds);
    }
}
