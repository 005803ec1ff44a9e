//! Resource quantities: reading them and writing them in their canonical form.

/// What is said about a text that is no quantity.
pub const FORMAT_ERROR: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

const BINARY: &[(&str, u32)] = &[("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: &[(&str, i32)] = &[
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// Value in nano units, and the suffix it came with.
fn parse(text: &str) -> Option<(i128, &str)> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !plain(whole) || !plain(fraction) || fraction.len() > 18 {
        return None;
    }
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let scale = u32::try_from(fraction.len()).ok()?;
    let nano = if let Some((_, bits)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        mantissa.checked_mul(1 << bits)?.checked_mul(1_000_000_000)? / 10_i128.pow(scale)
    } else {
        let exponent = match DECIMAL.iter().find(|(s, _)| *s == suffix) {
            Some((_, exponent)) => *exponent,
            None => suffix.strip_prefix(['e', 'E'])?.parse().ok()?,
        };
        let shift = 9 + exponent - i32::try_from(scale).ok()?;
        if shift >= 0 {
            mantissa.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?
        } else {
            let divisor = 10_i128.checked_pow(u32::try_from(-shift).ok()?)?;
            // Finer than nano rounds up.
            (mantissa + divisor - 1) / divisor
        }
    };
    Some((if negative { -nano } else { nano }, suffix))
}

/// The canonical form: the greatest suffix that leaves a whole number; `None` when it is no quantity.
pub fn canonical(text: &str) -> Option<String> {
    let (nano, suffix) = parse(text)?;
    if nano == 0 {
        return Some("0".into());
    }
    let unit = 1_000_000_000_i128;
    if BINARY.iter().any(|(s, _)| *s == suffix) && nano % unit == 0 && (nano / unit).abs() >= 1024 {
        let value = nano / unit;
        for (suffix, bits) in BINARY.iter().rev() {
            if value % (1_i128 << bits) == 0 {
                return Some(format!("{}{suffix}", value >> bits));
            }
        }
        return Some(value.to_string());
    }
    let exponential = suffix.starts_with(['e', 'E']) && suffix.len() > 1;
    for (suffix, exponent) in DECIMAL.iter().rev() {
        let divisor = 10_i128.pow(u32::try_from(exponent + 9).ok()?);
        if nano % divisor == 0 {
            let value = nano / divisor;
            return Some(if exponential && *exponent != 0 {
                format!("{value}e{exponent}")
            } else {
                format!("{value}{suffix}")
            });
        }
    }
    Some(nano.to_string() + "n")
}

/// Value in whole units, rounded up; `None` when it is no quantity.
pub fn value(text: &str) -> Option<i128> {
    let (nano, _) = parse(text)?;
    Some((nano + 999_999_999).div_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, expected) in [
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500M", "1500M"),
            ("100Mi", "100Mi"),
            ("0", "0"),
            ("1e3", "1e3"),
            ("1.5Gi", "1536Mi"),
            ("12", "12"),
            ("-2k", "-2k"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        for bad in ["lots", "", "1.2.3", "1Xi", "."] {
            assert_eq!(canonical(bad), None, "{bad}");
        }
        assert_eq!(value("1Ki"), Some(1024));
        assert_eq!(value("500m"), Some(1));
    }
}
