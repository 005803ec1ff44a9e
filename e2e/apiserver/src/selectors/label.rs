//! Label selectors, in their text form and in the form `matchLabels`/`matchExpressions`.

use serde_json::Value;

use crate::status::{ApiError, ApiResult};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// A conjunction of requirements on labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<(String, Test)>);

fn tokens(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => flush(&mut word, &mut out),
            ',' | '(' | ')' | '>' | '<' => {
                flush(&mut word, &mut out);
                out.push(c.to_string());
            }
            '=' | '!' => {
                flush(&mut word, &mut out);
                if chars.peek() == Some(&'=') {
                    chars.next();
                    out.push(format!("{c}="));
                } else {
                    out.push(c.to_string());
                }
            }
            c => word.push(c),
        }
    }
    flush(&mut word, &mut out);
    out
}

fn flush(word: &mut String, out: &mut Vec<String>) {
    if !word.is_empty() {
        out.push(std::mem::take(word));
    }
}

fn bad(message: &str) -> ApiError {
    ApiError::bad_request(format!("unable to parse requirement: {message}"))
}

const OPERATORS: &[&str] = &["=", "==", "!=", "!", ">", "<", ",", "(", ")"];

impl LabelSelector {
    /// Reads the text form: `app=x,tier notin (web),!gone`.
    pub fn parse(text: &str) -> ApiResult<Self> {
        let tokens = tokens(text);
        let mut at = tokens.iter().map(String::as_str).peekable();
        let mut list = Vec::new();
        while let Some(token) = at.next() {
            if token == "!" {
                let key = at.next().ok_or_else(|| bad("found '' expected: identifier"))?;
                list.push((key.to_owned(), Test::Absent));
            } else if OPERATORS.contains(&token) {
                return Err(bad(&format!("found '{token}', expected: !, identifier, or 'end of string'")));
            } else {
                let test = match at.peek().copied() {
                    None | Some(",") => Test::Exists,
                    Some(op @ ("in" | "notin")) => {
                        at.next();
                        let values = values(&mut at)?;
                        if op == "in" { Test::In(values) } else { Test::NotIn(values) }
                    }
                    Some(op) => {
                        at.next();
                        let value = match at.peek() {
                            Some(v) if !OPERATORS.contains(v) => at.next().unwrap_or_default().to_owned(),
                            _ => String::new(),
                        };
                        let number =
                            || value.parse().map_err(|_| bad("values for '>' and '<' must be integers"));
                        match op {
                            "=" | "==" => Test::In(vec![value]),
                            "!=" => Test::NotIn(vec![value]),
                            ">" => Test::Greater(number()?),
                            "<" => Test::Less(number()?),
                            other => {
                                return Err(bad(&format!(
                                    "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                                )));
                            }
                        }
                    }
                };
                list.push((token.to_owned(), test));
            }
            match at.next() {
                None => break,
                Some(",") if at.peek().is_some() => {}
                Some(",") => return Err(bad("found '', expected: identifier after ','")),
                Some(other) => {
                    return Err(bad(&format!("found '{other}', expected: ',' or 'end of string'")));
                }
            }
        }
        Ok(Self(list))
    }

    /// Reads the object form; an absent selector selects nothing, an empty one everything.
    pub fn from_object(selector: &Value) -> Self {
        let mut list = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            list.push((key.clone(), Test::In(vec![value.as_str().unwrap_or_default().to_owned()])));
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values = || {
                let list = expression["values"].as_array().into_iter().flatten();
                list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
            };
            match expression["operator"].as_str() {
                Some("In") => list.push((key, Test::In(values()))),
                Some("NotIn") => list.push((key, Test::NotIn(values()))),
                Some("Exists") => list.push((key, Test::Exists)),
                Some("DoesNotExist") => list.push((key, Test::Absent)),
                _ => {}
            }
        }
        Self(list)
    }

    /// Whether an object's labels fit.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|(key, test)| {
            let value = labels.get(key).and_then(Value::as_str);
            match test {
                Test::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
                Test::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::Greater(n) => value.and_then(|v| v.parse().ok()).is_some_and(|v: i64| v > *n),
                Test::Less(n) => value.and_then(|v| v.parse().ok()).is_some_and(|v: i64| v < *n),
            }
        })
    }
}

fn values<'a>(at: &mut impl Iterator<Item = &'a str>) -> ApiResult<Vec<String>> {
    match at.next() {
        Some("(") => {}
        other => return Err(bad(&format!("found '{}' expected: '('", other.unwrap_or_default()))),
    }
    let mut values = Vec::new();
    loop {
        match at.next() {
            Some(")") => return Ok(values),
            Some(",") => {}
            Some(value) => values.push(value.to_owned()),
            None => return Err(bad("found '', expected: ',' or ')'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fits(selector: &str, labels: Value) -> bool {
        LabelSelector::parse(selector).unwrap().matches(&json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn requirements() {
        assert!(fits("a=b", json!({"a": "b"})));
        assert!(!fits("a==b", json!({"a": "c"})));
        assert!(fits("a!=b", json!({})));
        assert!(fits("a in (b, c),!d", json!({"a": "c"})));
        assert!(!fits("a notin (b,c)", json!({"a": "b"})));
        assert!(fits("a=", json!({"a": ""})));
        assert!(fits("", json!({})));
        assert!(fits("n>3", json!({"n": "4"})));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["a in", "a in (b", "=b", "a b", "a,"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }
}
