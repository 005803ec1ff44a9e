//! Key patterns of fault rules: `*` stands for any run of characters, slashes included.

/// Whether `text` matches `pattern`.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (p, t) = (pattern.as_bytes(), text.as_bytes());
    let (mut pi, mut ti) = (0, 0);
    // Where to go on when what follows the last star does not fit: the star swallows one more byte.
    let mut retry: Option<(usize, usize)> = None;
    while ti < t.len() {
        if pi < p.len() && p[pi] == b'*' {
            retry = Some((pi, ti));
            pi += 1;
        } else if pi < p.len() && p[pi] == t[ti] {
            pi += 1;
            ti += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            pi = star + 1;
            ti = from + 1;
        } else {
            return false;
        }
    }
    p[pi..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_span_slashes() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*/wals/*", "c/wals/0000/x.gz", true),
            ("*/wals/*", "c/base/1/data.tar", false),
            ("*data*.tar*", "c/base/1/data_0001.tar.gz", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} against {text}");
        }
    }
}
