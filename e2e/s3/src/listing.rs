//! One page of a listing: prefix, delimiter, start and limit over sorted keys. Pure.

use std::ops::Bound;
use std::sync::Arc;

use crate::object::ObjectInfo;

/// What a listing asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub prefix: String,
    pub delimiter: Option<String>,
    /// Entries up to and including this key or common prefix were seen already.
    pub after: Option<String>,
    pub limit: usize,
}

/// What it gets.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub objects: Vec<Arc<ObjectInfo>>,
    pub prefixes: Vec<String>,
    /// The entry to go on after, when there is more.
    pub next: Option<String>,
}

/// Objects of one bucket in key order, as a listing walks them.
pub(crate) trait Sorted {
    /// Calls `visit` for every object from `from` on until it returns false.
    fn visit_from(&self, from: Bound<&str>, visit: &mut dyn FnMut(&Arc<ObjectInfo>) -> bool);
}

/// The page that `query` asks for.
pub(crate) fn page(objects: &dyn Sorted, query: &Query) -> Page {
    let mut page = Page::default();
    let mut last = String::new();
    let start = match &query.after {
        Some(after) if after.as_str() >= query.prefix.as_str() => after.as_str(),
        _ => query.prefix.as_str(),
    };
    if query.limit == 0 {
        return page;
    }
    objects.visit_from(Bound::Included(start), &mut |object| {
        if !object.key.starts_with(&query.prefix) {
            return false;
        }
        let common = query.delimiter.as_deref().filter(|d| !d.is_empty()).and_then(|delimiter| {
            let rest = &object.key[query.prefix.len()..];
            rest.find(delimiter).map(|at| &object.key[..query.prefix.len() + at + delimiter.len()])
        });
        let entry = common.unwrap_or(&object.key);
        if query.after.as_deref().is_some_and(|after| entry <= after) {
            return true;
        }
        if common.is_some() && page.prefixes.last().is_some_and(|seen| seen == entry) {
            return true;
        }
        if page.objects.len() + page.prefixes.len() == query.limit {
            page.next = Some(last.clone());
            return false;
        }
        last = entry.to_owned();
        match common {
            Some(prefix) => page.prefixes.push(prefix.to_owned()),
            None => page.objects.push(object.clone()),
        }
        true
    });
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    struct Keys(BTreeMap<String, Arc<ObjectInfo>>);

    impl Sorted for Keys {
        fn visit_from(&self, from: Bound<&str>, visit: &mut dyn FnMut(&Arc<ObjectInfo>) -> bool) {
            for object in self.0.range::<str, _>((from, Bound::Unbounded)).map(|(_, object)| object) {
                if !visit(object) {
                    return;
                }
            }
        }
    }

    fn keys(names: &[&str]) -> Keys {
        Keys(names.iter().map(|n| ((*n).to_owned(), Arc::new(ObjectInfo::new(n)))).collect())
    }

    fn names(page: &Page) -> Vec<&str> {
        page.objects.iter().map(|o| o.key.as_str()).collect()
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
                seen.extend(got.objects.iter().map(|o| o.key.clone()));
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
