//! Keys as paths that are safe, unambiguous, readable, and lead back to the key. Pure.
//!
//! Every segment keeps letters, digits and `-_.=+@,`; each other byte is percent-encoded. The name of a file ends in
//! `#`, which no other name can contain, so the keys `a` and `a/b` can both exist. A segment too long for one name
//! goes on below a directory whose name ends in `~`, so different keys never share a path, however long they are.

use std::fmt::Write as _;
use std::path::PathBuf;

/// Most bytes of a segment in one name: encoded they still fit what every usual file system takes.
const PIECE: usize = 80;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The end of a key.
    File,
    /// A segment with more behind it.
    Directory,
    /// The beginning of a segment that goes on below.
    Continued,
}

/// The path of `key`'s file, relative to the directory of the objects. Refuses what has no place below it.
pub(super) fn of_key(key: &str) -> Result<PathBuf, &'static str> {
    if key.is_empty() || key.len() > 1024 {
        return Err("a key has 1 to 1024 bytes");
    }
    let mut path = PathBuf::new();
    let mut segments = key.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment == "." || segment == ".." {
            return Err("a key must not contain . or .. between slashes");
        }
        let mut rest = segment.as_bytes();
        while rest.len() > PIECE {
            let (piece, more) = rest.split_at(PIECE);
            path.push(encode(piece) + "~");
            rest = more;
        }
        let mut name = encode(rest);
        if segments.peek().is_none() {
            name.push('#');
        }
        path.push(name);
    }
    Ok(path)
}

/// What a name stands for and the bytes in it; `None` for names that are not ours.
pub(super) fn parse(name: &str) -> Option<(Kind, Vec<u8>)> {
    let (kind, text) = match (name.strip_suffix('#'), name.strip_suffix('~')) {
        (Some(text), _) => (Kind::File, text),
        (_, Some(text)) => (Kind::Continued, text),
        _ => (Kind::Directory, name),
    };
    let bytes = decode(text)?;
    // Another spelling of the same bytes is not ours either: it would show a key twice.
    (encode(&bytes) == text).then_some((kind, bytes))
}

fn plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'=' | b'+' | b'@' | b',')
}

fn encode(bytes: &[u8]) -> String {
    match bytes {
        b"" => return "%".to_owned(),
        b"." => return "%2E".to_owned(),
        b".." => return "%2E%2E".to_owned(),
        _ => {}
    }
    let mut name = String::with_capacity(bytes.len());
    for byte in bytes {
        if plain(*byte) {
            name.push(char::from(*byte));
        } else {
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text == "%" {
        return Some(Vec::new());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        if *first == b'%' {
            let digits = more.get(..2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Component;

    use proptest::prelude::*;

    use super::*;

    /// The key that a path stands for.
    fn key_of(path: &std::path::Path) -> String {
        let mut key = Vec::new();
        for component in path.components() {
            let Component::Normal(name) = component else { unreachable!("{}", path.display()) };
            let (kind, bytes) = parse(name.to_str().unwrap()).unwrap();
            key.extend(bytes);
            if kind == Kind::Directory {
                key.push(b'/');
            }
        }
        String::from_utf8(key).unwrap()
    }

    #[test]
    fn no_key_leaves_the_directory() {
        for key in ["../../etc/passwd", "a/../../b", "..", ".", "a/./b", "a/..", ""] {
            assert!(of_key(key).is_err(), "{key}");
        }
        for key in ["/etc/passwd", "a//b", "x/", "nul\0", "%2E%2E", "...", "a\nb"] {
            let path = of_key(key).unwrap();
            assert!(path.is_relative() && path.components().all(|c| matches!(c, Component::Normal(_))));
            assert_eq!(key_of(&path), key);
        }
    }

    #[test]
    fn different_keys_have_different_paths() {
        let long = [
            "l".repeat(80),
            "l".repeat(81),
            "l".repeat(160),
            "l".repeat(300),
            format!("{}/x", "l".repeat(81)),
        ];
        let mut keys = vec!["a", "a/", "a//", "a/b", "a#", "a~", "a%23", "%", ".x", "%2E", "A", "a b", "a+b"];
        keys.extend(long.iter().map(String::as_str));
        let paths: BTreeSet<PathBuf> = keys.iter().map(|key| of_key(key).unwrap()).collect();
        assert_eq!(paths.len(), keys.len());
        assert!(paths.iter().flat_map(|p| p.iter()).all(|name| name.len() <= 255));
    }

    #[test]
    fn ordinary_keys_stay_readable() {
        assert_eq!(
            of_key("main/wals/0000000100000000/000000010000000000000001.gz").unwrap(),
            PathBuf::from("main/wals/0000000100000000/000000010000000000000001.gz#")
        );
    }

    proptest! {
        #[test]
        fn every_path_leads_back_to_its_key(key in "[a-c./ #~%é]{1,12}|[xé/]{1,300}") {
            if let Ok(path) = of_key(&key) {
                prop_assert_eq!(key_of(&path), key);
            }
        }
    }
}
