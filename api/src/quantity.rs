//! Kubernetes quantities of bytes.

/// A Kubernetes quantity in bytes, rounded up; `None` when it is none, or negative.
#[must_use]
pub fn bytes(text: &str) -> Option<u128> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let factor: u128 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "E" => 1_000_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        // Fractions of a byte: allowed by the grammar, used by nobody.
        "m" => return Some(whole.parse::<u128>().ok()?.div_ceil(1_000)),
        "u" => return Some(whole.parse::<u128>().ok()?.div_ceil(1_000_000)),
        "n" => return Some(whole.parse::<u128>().ok()?.div_ceil(1_000_000_000)),
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_u128.checked_pow(power)?
        }
    };
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(factor)?;
    if !fraction.is_empty() {
        let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        total = total.checked_add(fraction.parse::<u128>().ok()?.checked_mul(factor)?.div_ceil(scale))?;
    }
    Some(total)
}

/// Bytes for people, as a quantity of at most three digits or so: `1.2Gi`, `840Mi`.
#[must_use]
pub fn text(bytes: u64) -> String {
    let units = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let Some(unit) = (0..units.len()).rev().find(|unit| bytes >> (10 * (unit + 1)) > 0) else {
        return bytes.to_string();
    };
    let shift = 10 * (unit + 1);
    let tenths = (u128::from(bytes) * 10) >> shift;
    match tenths {
        1000.. => format!("{}{}", tenths / 10, units[unit]),
        _ if tenths % 10 == 0 => format!("{}{}", tenths / 10, units[unit]),
        _ => format!("{}.{}{}", tenths / 10, tenths % 10, units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1Gi", Some(1 << 30))]
    #[case("1.5Gi", Some(3 << 29))]
    #[case("5G", Some(5_000_000_000))]
    #[case("1e3", Some(1000))]
    #[case("12E6", Some(12_000_000))]
    #[case("1E", Some(1_000_000_000_000_000_000))]
    #[case("100", Some(100))]
    #[case("1500m", Some(2))]
    #[case("2000000001n", Some(3))]
    #[case("-1Gi", None)]
    #[case("", None)]
    #[case("Gi", None)]
    #[case("5Gb", None)]
    fn sizes(#[case] text: &str, #[case] expected: Option<u128>) {
        assert_eq!(bytes(text), expected);
    }

    #[rstest]
    #[case(7, "7")]
    #[case(1024, "1Ki")]
    #[case(1_300_000_000, "1.2Gi")]
    #[case(840 << 20, "840Mi")]
    #[case(5 << 30, "5Gi")]
    fn words(#[case] number: u64, #[case] expected: &str) {
        assert_eq!(text(number), expected);
    }
}
