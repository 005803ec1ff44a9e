//! Citations in the sources of the tests: the doc comment of a test begins with the numbers of what it proves.
//!
//! The sources are read as text, by indentation as rustfmt makes it: tests also stand inside of macros, whose content no
//! parser of Rust looks into.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use regex::Regex;

use super::number::Number;

/// A test and what it proves.
#[derive(Debug, PartialEq, Eq)]
pub struct Citation {
    pub numbers: Vec<Number>,
    /// Below the repository.
    pub file: String,
    pub line: usize,
    /// As `cargo nextest` names it: binary, blank, path.
    pub test: String,
}

impl Citation {
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// What a look at all sources found.
#[derive(Debug, Default)]
pub struct Scanned {
    pub citations: Vec<Citation>,
    pub faults: Vec<String>,
}

/// A pattern, compiled once.
type Pattern = LazyLock<Regex>;

static NUMBER: Pattern = LazyLock::new(|| pattern(r"\bS[0-3]\.[0-9]+\b"));
static HEAD: Pattern = LazyLock::new(|| pattern(r"^(S[0-3]\.[0-9]+(?:(?:, | and )S[0-3]\.[0-9]+)*): "));
static FUNCTION: Pattern = LazyLock::new(|| pattern(r"^(?:pub(?:\([^)]*\))? )?(?:async )?fn ([a-z0-9_]+)"));
static MODULE: Pattern = LazyLock::new(|| pattern(r"^(?:pub(?:\([^)]*\))? )?mod ([a-z0-9_]+) \{$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this file")
}

/// Looks at every Rust source of the repository, but for this program's own, which is full of examples.
///
/// # Errors
/// When a source cannot be read.
pub fn scan(root: &Path) -> Result<Scanned> {
    let mut scanned = Scanned::default();
    let mut files = Vec::new();
    sources(root, Path::new(""), &mut files)?;
    files.sort();
    for file in files {
        let text = fs::read_to_string(root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        if NUMBER.is_match(&text) {
            let (binary, module) = names(root, &file)?;
            read(&file.display().to_string(), &binary, &module, &text, &mut scanned);
        }
    }
    Ok(scanned)
}

fn sources(root: &Path, dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let full = root.join(dir);
    for entry in fs::read_dir(&full).with_context(|| format!("cannot read {}", full.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let path = dir.join(&name);
        let hidden = name.to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() {
            if !hidden && name != "target" && path != Path::new("hack/xtask") {
                sources(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The binary that nextest runs the tests of a file in, and the file's module in it.
fn names(root: &Path, file: &Path) -> Result<(String, String)> {
    let package = file
        .ancestors()
        .skip(1)
        .find(|dir| root.join(dir).join("Cargo.toml").is_file())
        .with_context(|| format!("{} belongs to no package", file.display()))?;
    let manifest = fs::read_to_string(root.join(package).join("Cargo.toml"))?;
    let name = manifest
        .lines()
        .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .with_context(|| format!("{}/Cargo.toml names no package", package.display()))?;
    let inside = file.strip_prefix(package)?.with_extension("");
    let mut parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    if matches!(parts.last(), Some(&("main" | "lib" | "mod"))) {
        parts.pop();
    }
    Ok(match parts.as_slice() {
        ["src", module @ ..] => (name.to_owned(), module.join("::")),
        ["tests", binary, module @ ..] => (format!("{name}::{binary}"), module.join("::")),
        other => (name.to_owned(), other.join("::")),
    })
}

/// Takes the citations of one file, and what is wrong with them.
fn read(file: &str, binary: &str, module: &str, text: &str, scanned: &mut Scanned) {
    let lines: Vec<&str> = text.lines().collect();
    // Modules around the current line, by their indentation.
    let mut around: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let (indent, code) = split(line);
        if code.starts_with('}') {
            around.retain(|(outer, _)| *outer < indent);
        } else if let Some(name) = first_group(&MODULE, code) {
            around.retain(|(outer, _)| *outer < indent);
            around.push((indent, name));
        }
        if !code.starts_with("///") {
            for number in numbers(code) {
                scanned.faults.push(stray(file, at, number));
            }
            at += 1;
            continue;
        }
        let below =
            lines[at..].iter().position(|l| !split(l).1.starts_with("///")).unwrap_or(lines.len() - at);
        let words: Vec<&str> =
            lines[at..at + below].iter().map(|l| split(l).1.trim_start_matches('/').trim()).collect();
        let comment = words.join(" ");
        let head = first_group(&HEAD, &comment).unwrap_or_default();
        let cited = numbers(head);
        for number in &numbers(&comment)[cited.len()..] {
            scanned.faults.push(stray(file, at, number));
        }
        match (test_below(&lines[at + below..], indent), cited.is_empty()) {
            (_, true) => {}
            (None, false) => scanned.faults.push(format!(
                "{file}:{}: {head} is cited above what is no test: a citation belongs to the test that proves it",
                at + 1
            )),
            (Some(function), false) => {
                let inner = around.iter().map(|(_, name)| *name);
                let path: Vec<&str> = [module].into_iter().chain(inner).chain([function]).collect();
                let path = path.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("::");
                scanned.citations.push(Citation {
                    numbers: cited.iter().filter_map(|number| number.parse().ok()).collect(),
                    file: file.to_owned(),
                    line: at + 1,
                    test: format!("{binary} {path}"),
                });
            }
        }
        at += below;
    }
}

fn stray(file: &str, line: usize, number: &str) -> String {
    format!(
        "{file}:{}: {number} is no citation: numbers stand at the beginning of a test's doc comment, with commas between \
         and a colon behind, and nowhere else",
        line + 1
    )
}

/// The function that these lines are attributes of, when one of them makes it a test.
fn test_below<'a>(lines: &[&'a str], indent: usize) -> Option<&'a str> {
    let mut is_test = false;
    for line in lines {
        let (depth, code) = split(line);
        if depth > indent {
            // Inside of an attribute.
            continue;
        }
        if depth < indent {
            return None;
        }
        if let Some(name) = first_group(&FUNCTION, code) {
            return is_test.then_some(name);
        }
        is_test |= ["#[test]", "#[tokio::test", "#[rstest]"].iter().any(|start| code.starts_with(start));
        if !["#[", "//", ")", "]", "}"].iter().any(|start| code.starts_with(start)) {
            return None;
        }
    }
    None
}

fn split(line: &str) -> (usize, &str) {
    let code = line.trim_start();
    (line.len() - code.len(), code)
}

fn numbers(text: &str) -> Vec<&str> {
    NUMBER.find_iter(text).map(|found| found.as_str()).collect()
}

fn first_group<'a>(pattern: &Regex, text: &'a str) -> Option<&'a str> {
    pattern.captures(text)?.get(1).map(|group| group.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Scanned {
        let mut scanned = Scanned::default();
        read("x/src/a.rs", "x", "a", text, &mut scanned);
        scanned
    }

    fn found(text: &str) -> Vec<(String, Vec<String>)> {
        let scanned = scanned(text);
        assert_eq!(scanned.faults, Vec::<String>::new());
        let show = |numbers: Vec<Number>| numbers.iter().map(Number::to_string).collect();
        scanned.citations.into_iter().map(|citation| (citation.test, show(citation.numbers))).collect()
    }

    #[test]
    fn tests_of_every_kind_are_found() {
        let text = r#"
/// S0.1: plain.
#[test]
fn plain() {}

mod tests {
    /// S0.1, S0.2 and S1.30: with cases,
    /// and two lines.
    #[rstest]
    #[case::one(json!({
        "a": 1,
    }))]
    // A word between.
    #[tokio::test(flavor = "multi_thread")]
    async fn cases(#[case] value: Value) {
        mod inner {
        }
    }

    proptest! {
        /// S0.3: in a macro.
        #[test]
        fn property(a in 0..3) {}
    }
}

/// Nothing is cited.
struct Other;

/// S3.16: behind a module.
#[test]
fn behind() {}
"#;
        let is = |test: &str, numbers: &[&str]| {
            (test.to_owned(), numbers.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            found(text),
            [
                is("x a::plain", &["S0.1"]),
                is("x a::tests::cases", &["S0.1", "S0.2", "S1.30"]),
                is("x a::tests::property", &["S0.3"]),
                is("x a::behind", &["S3.16"]),
            ]
        );
    }

    #[test]
    fn what_is_no_citation_is_told_with_its_line() {
        for (text, line, word) in [
            ("/// S0.1: no test.\nfn helper() {}", 1, "no test"),
            ("/// S0.1: a type.\nstruct X;\n#[test]\nfn later() {}", 1, "no test"),
            ("\n/// It proves S0.1.\n#[test]\nfn test() {}", 2, "S0.1 is no citation"),
            ("/// S0.1, as S0.2.\n#[test]\nfn test() {}", 1, "S0.1 is no citation"),
            ("/// S0.1 to S0.3: a range.\n#[test]\nfn test() {}", 1, "S0.1 is no citation"),
            ("//! S0.1: the module.", 1, "S0.1 is no citation"),
            ("#[test]\nfn test() {\n    // S0.1: here.\n}", 3, "S0.1 is no citation"),
            ("/// S0.1: one. S0.2: two.\n#[test]\nfn test() {}", 1, "S0.2 is no citation"),
        ] {
            let faults = scanned(text).faults;
            assert!(
                faults[0].starts_with(&format!("x/src/a.rs:{line}: ")) && faults[0].contains(word),
                "{text:?}: {faults:?}"
            );
        }
    }

    #[test]
    fn other_words_are_left_alone() {
        for text in ["// S4.1, AES0.1, S3.x and S3", "let a = S3.bucket;"] {
            assert_eq!(scanned(text).faults, Vec::<String>::new(), "{text}");
        }
    }
}
