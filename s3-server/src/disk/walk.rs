//! The keys of a bucket in order, from its directories: only those on the way are read.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::path::{self, Kind};
use crate::listing::{Flow, Keys};

/// A bucket's directory of objects.
pub(super) struct Objects<'a>(pub &'a Path);

impl Keys for Objects<'_> {
    fn visit(&self, prefix: &str, from: &str, visit: &mut dyn FnMut(&str) -> Flow) -> io::Result<()> {
        let mut walk = Walk { prefix, from, past: None, stopped: false, visit };
        walk.directory(self.0, "")
    }
}

/// A segment: the end of a key, or the beginning of more.
struct Entry {
    name: Vec<u8>,
    path: PathBuf,
    is_dir: bool,
}

impl Entry {
    /// Keys below a directory begin with its name and a slash, which decides their place among the others.
    fn compare(&self, other: &Self) -> Ordering {
        let spelled = |entry: &Self| entry.name.clone().into_iter().chain(entry.is_dir.then_some(b'/'));
        spelled(self).cmp(spelled(other))
    }
}

/// The segments in one directory; those that go on below another name are read with it.
fn entries(dir: &Path, lead: &[u8], found: &mut Vec<Entry>) -> io::Result<()> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        // Pruned a moment ago, or somebody else's file.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for entry in listed {
        let entry = entry?;
        let Some((kind, bytes)) = entry.file_name().to_str().and_then(path::parse) else { continue };
        let name = [lead, &bytes].concat();
        match kind {
            Kind::Continued => entries(&entry.path(), &name, found)?,
            Kind::File => found.push(Entry { name, path: entry.path(), is_dir: false }),
            Kind::Directory => found.push(Entry { name, path: entry.path(), is_dir: true }),
        }
    }
    Ok(())
}

struct Walk<'a> {
    prefix: &'a str,
    from: &'a str,
    past: Option<String>,
    stopped: bool,
    visit: &'a mut dyn FnMut(&str) -> Flow,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &Path, lead: &str) -> io::Result<()> {
        let mut found = Vec::new();
        entries(dir, b"", &mut found)?;
        found.sort_by(Entry::compare);
        for entry in found {
            if self.stopped || self.is_past(lead) {
                break;
            }
            let Ok(name) = String::from_utf8(entry.name) else { continue };
            if entry.is_dir {
                let below = format!("{lead}{name}/");
                if self.may_hold(&below) {
                    self.directory(&entry.path, &below)?;
                }
            } else {
                self.key(&format!("{lead}{name}"));
            }
        }
        Ok(())
    }

    fn is_past(&self, text: &str) -> bool {
        self.past.as_deref().is_some_and(|past| text.starts_with(past))
    }

    /// Whether keys that begin with `below` may be wanted.
    fn may_hold(&self, below: &str) -> bool {
        (below.starts_with(self.prefix) || self.prefix.starts_with(below))
            && (below >= self.from || self.from.starts_with(below))
            && !self.is_past(below)
    }

    fn key(&mut self, key: &str) {
        if key < self.from || !key.starts_with(self.prefix) || self.is_past(key) {
            return;
        }
        match (self.visit)(key) {
            Flow::Next => {}
            Flow::Past(prefix) => self.past = Some(prefix),
            Flow::Stop => self.stopped = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::listing::{Query, page};

    fn tree(keys: &BTreeSet<String>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for key in keys {
            let path = dir.path().join(path::of_key(key).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn foreign_files_are_no_objects() {
        let dir = tree(&BTreeSet::from(["a".to_owned()]));
        for name in ["plain", ".hidden#x", "%zz#", "%61#"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        let query = Query { limit: 10, ..Query::default() };
        assert_eq!(page(&Objects(dir.path()), &query).unwrap().objects, ["a"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What the directories give is what a sorted list of the keys gives, page by page.
        #[test]
        fn pages_are_those_of_the_sorted_keys(
            keys in proptest::collection::btree_set("[ab.]?[ab-]{0,2}(/[ab0-]{0,2}){0,2}|l{79,83}[/-]?[a0]?", 0..24),
            prefix in "[ab]?/?[ab]?|l{80}",
            after in proptest::option::of("[ab]/?[ab0]?|l{81}"),
            folded in any::<bool>(),
            limit in 1usize..5,
        ) {
            let keys: BTreeSet<String> = keys.into_iter().filter(|key| path::of_key(key).is_ok()).collect();
            let dir = tree(&keys);
            let delimiter = folded.then(|| "/".to_owned());
            let mut query = Query { prefix: prefix.clone(), delimiter, after: after.clone(), limit };
            let (mut seen, mut wanted) = (BTreeSet::new(), BTreeSet::new());
            loop {
                let got = page(&Objects(dir.path()), &query).unwrap();
                prop_assert!(got.objects.len() + got.prefixes.len() <= limit);
                seen.extend(got.objects);
                seen.extend(got.prefixes);
                match got.next {
                    Some(next) => query.after = Some(next),
                    None => break,
                }
            }
            for key in keys.iter().filter(|key| key.starts_with(&prefix)) {
                let end = folded.then(|| key[prefix.len()..].find('/')).flatten();
                let entry = end.map_or(key.as_str(), |at| &key[..prefix.len() + at + 1]);
                if after.as_deref().is_none_or(|after| entry > after) {
                    wanted.insert(entry.to_owned());
                }
            }
            prop_assert_eq!(seen, wanted);
        }
    }
}
