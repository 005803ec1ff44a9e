//! `docs/requirements.md`: which test proves which requirement, from `docs/requirements.yaml` and the tests.

mod citations;
mod list;
mod number;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use citations::Citation;
use list::List;

const FILE: &str = "docs/requirements.yaml";

/// The table.
///
/// # Errors
/// Names everything that is wrong: a requirement without a test, a citation of an unknown number, one that stands on
/// no test.
pub fn render(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    let list = list::read(&text).with_context(|| FILE.to_owned())?;
    let scanned = citations::scan(root)?;
    let mut faults = scanned.faults;
    faults.extend(compare(&list, &scanned.citations));
    if !faults.is_empty() {
        bail!(
            "requirements and tests do not agree (docs/development.md, \"Requirements\"):\n{}",
            faults.join("\n")
        );
    }
    Ok(table::render(&list, &scanned.citations))
}

/// What the list says and the tests do not, and the other way round.
fn compare(list: &List, citations: &[Citation]) -> Vec<String> {
    let mut faults = Vec::new();
    for requirement in list.requirements() {
        let number = requirement.number;
        let first = citations.iter().find(|citation| citation.numbers.contains(&number));
        match (first, &requirement.later) {
            (None, None) => faults.push(format!(
                "{number} has no test: cite it above the test that proves it, or say in {FILE} why it comes later"
            )),
            (Some(citation), Some(_)) => faults.push(format!(
                "{}: {number} is proven here, but {FILE} says that it comes later: take `later` away",
                citation.place()
            )),
            _ => {}
        }
    }
    for citation in citations {
        for number in citation.numbers.iter().filter(|number| !list.has(**number)) {
            faults.push(format!("{}: {number} is not in {FILE}", citation.place()));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "
groups:
- title: S0, a group
  requirements:
  - number: S0.1
    text: Proven.
  - number: S0.2
    text: Not proven.
  - number: S0.3
    text: Comes later.
    later: because
";

    fn cited(numbers: &[&str]) -> Citation {
        let numbers = numbers.iter().map(|number| number.parse().expect("a number")).collect();
        Citation { numbers, file: "a/b.rs".into(), line: 7, test: "a b::c".into() }
    }

    #[test]
    fn every_disagreement_is_told_with_its_remedy() {
        let list = list::read(LIST).expect("a list");
        assert_eq!(compare(&list, &[cited(&["S0.1", "S0.2"])]), Vec::<String>::new());
        assert_eq!(
            compare(&list, &[cited(&["S0.1", "S0.3", "S0.4"])]),
            [
                "S0.2 has no test: cite it above the test that proves it, or say in docs/requirements.yaml why it comes later",
                "a/b.rs:7: S0.3 is proven here, but docs/requirements.yaml says that it comes later: take `later` away",
                "a/b.rs:7: S0.4 is not in docs/requirements.yaml",
            ]
        );
    }

    #[test]
    fn the_table_shows_tests_and_reasons() {
        let list = list::read(LIST).expect("a list");
        let text = table::render(&list, &[cited(&["S0.1", "S0.2"])]);
        for line in [
            "## S0, a group",
            "| S0.1 | Proven. | [`a b::c`](../a/b.rs) |",
            "| S0.3 | Comes later. | later: because |",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
