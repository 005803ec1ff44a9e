//! The JSON paths of printer columns: `.spec.size`, `.status.conditions[?(@.type=="Ready")].status`, `.a['x.y']`,
//! `.list[0]`, `.list[*].name`.

use serde_json::Value;

enum Step {
    Field(String),
    Index(i64),
    All,
    Filter(Vec<String>, String),
}

fn unquote(text: &str) -> String {
    text.trim().trim_matches(['\'', '"']).to_owned()
}

fn parse(path: &str) -> Vec<Step> {
    let path = path.trim();
    let path = path.strip_prefix('{').and_then(|p| p.strip_suffix('}')).unwrap_or(path);
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let mut depth = 1;
            let end = inner
                .char_indices()
                .find(|(_, c)| {
                    match c {
                        '[' => depth += 1,
                        ']' => depth -= 1,
                        _ => {}
                    }
                    depth == 0
                })
                .map_or(inner.len(), |(i, _)| i);
            let body = &inner[..end];
            rest = inner.get(end + 1..).unwrap_or_default();
            if body == "*" {
                steps.push(Step::All);
            } else if let Some(filter) = body.strip_prefix("?(@.").and_then(|b| b.strip_suffix(')')) {
                if let Some((left, right)) = filter.split_once("==") {
                    steps.push(Step::Filter(
                        left.trim().split('.').map(str::to_owned).collect(),
                        unquote(right),
                    ));
                }
            } else if let Ok(index) = body.parse() {
                steps.push(Step::Index(index));
            } else {
                steps.push(Step::Field(unquote(body)));
            }
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        // A dot may be escaped.
        let mut name = String::new();
        let mut end = rest.len();
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => {
                    if let Some((_, next)) = chars.next() {
                        name.push(next);
                    }
                }
                '.' | '[' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        rest = &rest[end..];
        if name == "*" {
            steps.push(Step::All);
        } else if !name.is_empty() {
            steps.push(Step::Field(name));
        }
    }
    steps
}

/// The values at a path.
pub fn find<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![object];
    for step in parse(path) {
        let mut next = Vec::new();
        for value in found {
            match &step {
                Step::Field(name) => next.extend(value.get(name)),
                Step::Index(index) => {
                    let list = value.as_array();
                    let at = if *index < 0 { list.map_or(0, |l| l.len() as i64) + index } else { *index };
                    next.extend(usize::try_from(at).ok().and_then(|i| value.get(i)));
                }
                Step::All => match value {
                    Value::Array(list) => next.extend(list),
                    Value::Object(map) => next.extend(map.values()),
                    _ => {}
                },
                Step::Filter(path, wanted) => {
                    next.extend(value.as_array().into_iter().flatten().filter(|item| {
                        let at = path.iter().fold(*item, |v, name| &v[name.as_str()]);
                        match at {
                            Value::String(text) => text == wanted,
                            Value::Null => false,
                            other => serde_json::from_str::<Value>(wanted).is_ok_and(|w| w == *other),
                        }
                    }));
                }
            }
        }
        found = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths() {
        let object = json!({"a": {"b": [1, 2], "x.y": 3},
            "c": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]});
        assert_eq!(find(&object, ".a.b[1]"), [&json!(2)]);
        assert_eq!(find(&object, ".a.b[-1]"), [&json!(2)]);
        assert_eq!(find(&object, "{.a.b[*]}"), [&json!(1), &json!(2)]);
        assert_eq!(find(&object, ".a['x.y']"), [&json!(3)]);
        assert_eq!(find(&object, r".a.x\.y"), [&json!(3)]);
        assert_eq!(find(&object, r#".c[?(@.type=="Ready")].status"#), [&json!("True")]);
        assert_eq!(find(&object, r"$.c[?(@.type=='Other')].status"), [&json!("False")]);
        assert!(find(&object, ".none.at.all").is_empty());
    }
}
