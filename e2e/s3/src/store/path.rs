//! Keys as file names that are safe, unambiguous and still readable. Pure.
//!
//! Every segment keeps letters, digits and `-_.=+@,`; everything else is percent-encoded, and so is a segment
//! that would mean something to the file system. Files end in `#`, which no directory name can contain, so the
//! keys `a` and `a/b` can both exist.

use std::fmt::Write as _;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

/// Longest file name that every usual file system takes, less room for the mark.
const LONGEST: usize = 250;

/// The path of `key`'s file, relative to the bucket's object directory.
pub(crate) fn of_key(key: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let mut segments = key.split('/').map(segment).peekable();
    while let Some(mut name) = segments.next() {
        if segments.peek().is_none() {
            name.push('#');
        }
        path.push(name);
    }
    path
}

fn segment(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'=' | b'+' | b'@' | b',' => {
                name.push(char::from(byte));
            }
            other => {
                let _ = write!(name, "%{other:02X}");
            }
        }
    }
    match name.as_str() {
        "" => "%".to_owned(),
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ if name.len() > LONGEST => format!("%sha256-{}", hex::encode(Sha256::digest(text.as_bytes()))),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Component;

    use super::*;

    #[test]
    fn no_key_leaves_the_directory() {
        for key in
            ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", ".", "a//b", "x/", "nul\0", "%2E%2E"]
        {
            let path = of_key(key);
            assert!(
                path.components().all(|c| matches!(c, Component::Normal(_))),
                "{key}: {}",
                path.display()
            );
        }
    }

    #[test]
    fn different_keys_have_different_paths() {
        let long = "l".repeat(300);
        let keys = ["a", "a/", "a//", "a/b", "a#", "a%23", "%", "", ".", "%2E", "A", "a b", "a+b", &long];
        let paths: BTreeSet<PathBuf> = keys.iter().map(|key| of_key(key)).collect();
        assert_eq!(paths.len(), keys.len());
    }

    #[test]
    fn ordinary_keys_stay_readable() {
        assert_eq!(
            of_key("main/wals/0000000100000000/000000010000000000000001.gz"),
            PathBuf::from("main/wals/0000000100000000/000000010000000000000001.gz#")
        );
    }
}
