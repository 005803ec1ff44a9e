//! Positions in WAL.

/// A position `X/Y`, in hexadecimal digits, as a number of bytes.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |digits: &str| u32::from_str_radix(digits, 16).ok().map(u64::from);
    Some((half(high)? << 32) | half(low)?)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn positions_compare_as_numbers() {
        assert!(parse("0/A000000") > parse("0/9FFFFFF"));
        assert!(parse("10/0") > parse("F/FFFFFFFF"));
        assert_eq!(parse("1/2"), Some(0x1_0000_0002));
        for no_position in ["x/1", "1", "", "1/100000000", "/"] {
            assert_eq!(parse(no_position), None, "{no_position}");
        }
    }
}
