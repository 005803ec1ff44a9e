//! One page of a listing: prefix, delimiter, start and limit over sorted keys. Pure but for the walk.

use std::io;

/// What a listing asks for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only keys that begin so.
    pub prefix: String,
    /// Keys are folded at the first of these after the prefix.
    pub delimiter: Option<String>,
    /// Entries up to and including this key or common prefix were seen already.
    pub after: Option<String>,
    /// Most entries of the page.
    pub limit: usize,
}

/// What it gets.
#[derive(Debug)]
pub struct Page<T> {
    /// Objects, in key order.
    pub objects: Vec<T>,
    /// Common prefixes, in order.
    pub prefixes: Vec<String>,
    /// The entry to go on after, when there is more.
    pub next: Option<String>,
}

/// How a walk goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// To the next key.
    Next,
    /// To the first key that does not begin so. Going to the next one instead is allowed, only slower.
    Past(String),
    /// Not at all.
    Stop,
}

/// Keys of one bucket in order, as a listing walks them.
pub trait Keys {
    /// Calls `visit` for the keys that begin with `prefix`, from `from` on, until it says stop. Keys before `from`
    /// and others than those asked for may be visited too.
    fn visit(&self, prefix: &str, from: &str, visit: &mut dyn FnMut(&str) -> Flow) -> io::Result<()>;
}

/// The page that `query` asks for.
pub fn page(keys: &dyn Keys, query: &Query) -> io::Result<Page<String>> {
    let mut page = Page { objects: Vec::new(), prefixes: Vec::new(), next: None };
    let mut last = String::new();
    let start = match &query.after {
        Some(after) if after.as_str() >= query.prefix.as_str() => after.as_str(),
        _ => query.prefix.as_str(),
    };
    if query.limit == 0 {
        return Ok(page);
    }
    keys.visit(&query.prefix, start, &mut |key| {
        let Some(rest) = key.strip_prefix(query.prefix.as_str()) else {
            return if key > query.prefix.as_str() { Flow::Stop } else { Flow::Next };
        };
        let common = query.delimiter.as_deref().filter(|d| !d.is_empty()).and_then(|delimiter| {
            rest.find(delimiter).map(|at| &key[..query.prefix.len() + at + delimiter.len()])
        });
        let entry = common.unwrap_or(key);
        let onwards = || common.map_or(Flow::Next, |common| Flow::Past(common.to_owned()));
        if query.after.as_deref().is_some_and(|after| entry <= after) {
            return onwards();
        }
        if common.is_some() && page.prefixes.last().is_some_and(|seen| seen == entry) {
            return onwards();
        }
        if page.objects.len() + page.prefixes.len() == query.limit {
            page.next = Some(last.clone());
            return Flow::Stop;
        }
        last = entry.to_owned();
        match common {
            Some(prefix) => page.prefixes.push(prefix.to_owned()),
            None => page.objects.push(key.to_owned()),
        }
        onwards()
    })?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Obeys `Past`, as a tree does.
    struct Set(BTreeSet<String>);

    impl Keys for Set {
        fn visit(&self, _: &str, from: &str, visit: &mut dyn FnMut(&str) -> Flow) -> io::Result<()> {
            let mut past: Option<String> = None;
            for key in self.0.iter().filter(|key| key.as_str() >= from) {
                if past.as_deref().is_some_and(|past| key.starts_with(past)) {
                    continue;
                }
                match visit(key) {
                    Flow::Next => {}
                    Flow::Past(prefix) => past = Some(prefix),
                    Flow::Stop => break,
                }
            }
            Ok(())
        }
    }

    fn keys(names: &[&str]) -> Set {
        Set(names.iter().map(|n| (*n).to_owned()).collect())
    }

    fn page(keys: &Set, query: &Query) -> Page<String> {
        super::page(keys, query).unwrap()
    }

    fn names(page: &Page<String>) -> &[String] {
        &page.objects
    }

    #[test]
    fn delimiter_folds_keys_into_prefixes() {
        let all = keys(&["a", "b/1", "b/2", "b/c/3", "d"]);
        let page = page(&all, &Query { delimiter: Some("/".into()), limit: 1000, ..Default::default() });
        assert_eq!(names(&page), ["a", "d"]);
        assert_eq!(page.prefixes, ["b/"]);
        assert_eq!(page.next, None);
    }

    #[test]
    fn pages_join_to_the_whole_listing() {
        let all = keys(&["a", "b/1", "b/2", "c/1", "d", "e/1"]);
        for limit in 1..7 {
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                let query = Query { delimiter: Some("/".into()), after, limit, ..Default::default() };
                let got = page(&all, &query);
                assert!(got.objects.len() + got.prefixes.len() <= limit);
                seen.extend(got.objects);
                seen.extend(got.prefixes);
                after = got.next;
                if after.is_none() {
                    break;
                }
            }
            seen.sort();
            assert_eq!(seen, ["a", "b/", "c/", "d", "e/"], "limit {limit}");
        }
    }

    #[test]
    fn prefix_and_start_after() {
        let all = keys(&["x/1", "x/2", "x/3", "y"]);
        let query = Query { prefix: "x/".into(), after: Some("x/1".into()), limit: 10, delimiter: None };
        assert_eq!(names(&page(&all, &query)), ["x/2", "x/3"]);
        let query = Query { prefix: "x/".into(), after: Some("a".into()), limit: 10, delimiter: None };
        assert_eq!(names(&page(&all, &query)), ["x/1", "x/2", "x/3"]);
    }
}
