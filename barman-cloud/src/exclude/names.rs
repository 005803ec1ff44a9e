//! Names that PostgreSQL gives to files.

/// Whether a file holds a temporary relation: `t<backend>_<relfilenode>`, with a fork and a segment number.
pub fn is_temp_relation(name: &str) -> bool {
    let Some((backend, rest)) = name.strip_prefix('t').and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    let (rest, segment) = match rest.split_once('.') {
        Some((rest, segment)) => (rest, Some(segment)),
        None => (rest, None),
    };
    let (node, fork) = match rest.split_once('_') {
        Some((node, fork)) => (node, Some(fork)),
        None => (rest, None),
    };
    digits(backend)
        && digits(node)
        && segment.is_none_or(digits)
        && fork.is_none_or(|fork| matches!(fork, "fsm" | "vm" | "init"))
}

/// The major version in the name of the directory that a server makes in a tablespace,
/// `PG_<major>_<catalogue version>`; `None` for other names.
pub fn tablespace_major(name: &str) -> Option<u32> {
    let (major, catalogue) = name.strip_prefix("PG_")?.split_once('_')?;
    if digits(major) && digits(catalogue) { major.parse().ok() } else { None }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
