//! Python literals, as far as `backup.info` uses them: texts, numbers, `None`, booleans, lists, tuples, dicts.

use std::fmt::Write as _;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 32;

/// A Python literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list or a tuple.
    List(Vec<Literal>),
    /// A dict, in order.
    Dict(Vec<(Literal, Literal)>),
}

impl Literal {
    /// The text, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, when it is a list or a tuple.
    pub fn as_list(&self) -> Option<&[Literal]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value of a text key, when it is a dict.
    pub fn get(&self, key: &str) -> Option<&Literal> {
        match self {
            Self::Dict(pairs) => pairs.iter().find(|(k, _)| k.as_text() == Some(key)).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Reads one literal that fills the whole text. The error says what was expected and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(0)?;
        parser.blanks();
        if parser.at == text.len() { Ok(value) } else { Err(parser.wrong("the end")) }
    }
}

/// A text as Python's `repr` writes it.
pub fn quote(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            // Writing to a string cannot fail.
            c if (c as u32) < 0x20 || (0x7F..=0xA0).contains(&(c as u32)) || c == '\u{AD}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            // Line separators would end the line for some readers.
            '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn wrong(&self, expected: &str) -> String {
        let found: String = self.text[self.at..].chars().take(12).collect();
        format!("expected {expected} at column {}, found {found:?}", self.at + 1)
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.blanks();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Literal, String> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("less nesting"));
        }
        self.blanks();
        match self.rest().chars().next() {
            Some('[') => self.sequence(']', depth),
            Some('(') => self.sequence(')', depth),
            Some('{') => self.dict(depth),
            Some('\'' | '"') => self.texts(),
            Some('u' | 'U') if self.rest()[1..].starts_with(['\'', '"']) => {
                self.at += 1;
                self.texts()
            }
            Some(c) if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            _ if self.take("None") => Ok(Literal::None),
            _ if self.take("True") => Ok(Literal::Bool(true)),
            _ if self.take("False") => Ok(Literal::Bool(false)),
            _ => Err(self.wrong("a Python literal")),
        }
    }

    fn sequence(&mut self, end: char, depth: usize) -> Result<Literal, String> {
        self.at += 1;
        let end = end.to_string();
        let mut items = Vec::new();
        let mut commas = 0;
        loop {
            if self.take(&end) {
                break;
            }
            if items.len() > commas {
                return Err(self.wrong("',' or the end of the list"));
            }
            items.push(self.value(depth + 1)?);
            if self.take(",") {
                commas += 1;
            }
        }
        if end == ")" && items.len() == 1 && commas == 0 {
            // Parentheses around one value are no tuple.
            return items.pop().ok_or_else(|| self.wrong("a value"));
        }
        Ok(Literal::List(items))
    }

    fn dict(&mut self, depth: usize) -> Result<Literal, String> {
        self.at += 1;
        let mut pairs = Vec::new();
        loop {
            if self.take("}") {
                return Ok(Literal::Dict(pairs));
            }
            let key = self.value(depth + 1)?;
            if !self.take(":") {
                return Err(self.wrong("':'"));
            }
            pairs.push((key, self.value(depth + 1)?));
            if !self.take(",") && !self.rest().trim_start().starts_with('}') {
                return Err(self.wrong("',' or '}'"));
            }
        }
    }

    fn number(&mut self) -> Result<Literal, String> {
        let length = self
            .rest()
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')))
            .unwrap_or(self.rest().len());
        let token = self.rest()[..length].trim_end_matches('L').to_owned();
        let value = token
            .parse()
            .map(Literal::Int)
            .or_else(|_| token.parse().map(Literal::Float))
            .map_err(|_| self.wrong("a number"))?;
        self.at += length;
        Ok(value)
    }

    /// One or more texts in a row are one text.
    fn texts(&mut self) -> Result<Literal, String> {
        let mut out = String::new();
        loop {
            self.one_text(&mut out)?;
            self.blanks();
            if !self.rest().starts_with(['\'', '"']) {
                return Ok(Literal::Text(out));
            }
        }
    }

    fn one_text(&mut self, out: &mut String) -> Result<(), String> {
        let Some(quote) = self.next() else { return Err(self.wrong("a text")) };
        loop {
            match self.next() {
                None => return Err(self.wrong("the end of a text")),
                Some(c) if c == quote => return Ok(()),
                Some('\\') => self.escape(out)?,
                Some(c) => out.push(c),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn escape(&mut self, out: &mut String) -> Result<(), String> {
        let Some(c) = self.next() else { return Err(self.wrong("an escape")) };
        match c {
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'v' => out.push('\u{b}'),
            '\\' | '\'' | '"' => out.push(c),
            '\n' => {}
            'x' => out.push(self.code(2, 16)?),
            'u' => out.push(self.code(4, 16)?),
            'U' => out.push(self.code(8, 16)?),
            '0'..='7' => {
                self.at -= 1;
                let length = self.rest().bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
                out.push(self.code(length, 8)?);
            }
            other => {
                // Python keeps a backslash that means nothing.
                out.push('\\');
                out.push(other);
            }
        }
        Ok(())
    }

    fn code(&mut self, length: usize, radix: u32) -> Result<char, String> {
        let digits = self.rest().get(..length).filter(|digits| digits.chars().all(|c| c.is_digit(radix)));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok()).and_then(char::from_u32);
        let code = code.ok_or_else(|| self.wrong("a character code"))?;
        self.at += length;
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn text(value: &str) -> Literal {
        Literal::Text(value.to_owned())
    }

    #[rstest]
    #[case("None", Literal::None)]
    #[case("True", Literal::Bool(true))]
    #[case(" -12 ", Literal::Int(-12))]
    #[case("7.203636", Literal::Float(7.203636))]
    #[case("1e-05", Literal::Float(1e-5))]
    #[case(r"'it\'s'", text("it's"))]
    #[case(r#""it's""#, text("it's"))]
    #[case(r"'a\nb\x41\u00e9\101\q'", text("a\nbAéA\\q"))]
    #[case("'a' 'b'", text("ab"))]
    #[case("[]", Literal::List(vec![]))]
    #[case("(1,)", Literal::List(vec![Literal::Int(1)]))]
    #[case("(1)", Literal::Int(1))]
    #[case("[('Ts One', 16384, '/srv/ts1')]", Literal::List(vec![Literal::List(vec![
        text("Ts One"), Literal::Int(16384), text("/srv/ts1")])]))]
    #[case(r#"[["x", 1],]"#, Literal::List(vec![Literal::List(vec![text("x"), Literal::Int(1)])]))]
    #[case("{'a': {'b': 0}}", Literal::Dict(vec![(text("a"), Literal::Dict(vec![(text("b"), Literal::Int(0))]))]))]
    fn reads(#[case] source: &str, #[case] value: Literal) {
        assert_eq!(Literal::parse(source).expect("valid"), value);
    }

    #[rstest]
    #[case("")]
    #[case("null")]
    #[case("true")]
    #[case("[1")]
    #[case("[1 2]")]
    #[case("[,]")]
    #[case("{1}")]
    #[case("{'a' 1}")]
    #[case("'abc")]
    #[case(r"'\x4'")]
    #[case(r"'\ud800'")]
    #[case("1 2")]
    #[case("__import__('os')")]
    fn refuses(#[case] source: &str) {
        assert!(Literal::parse(source).is_err());
    }

    #[test]
    fn nesting_has_a_limit() {
        assert!(Literal::parse(&"[".repeat(100_000)).is_err());
    }

    #[rstest]
    #[case("plain", "'plain'")]
    #[case("it's", "\"it's\"")]
    #[case("both ' and \"", "'both \\' and \"'")]
    #[case("a\n\t\\\u{1}é", "'a\\n\\t\\\\\\x01é'")]
    fn quotes_as_python_does(#[case] plain: &str, #[case] quoted: &str) {
        assert_eq!(quote(plain), quoted);
    }

    proptest! {
        #[test]
        fn any_text_survives(plain in "\\PC{0,20}|[ -~\\n\\r\\t'\"\\\\\u{0}-\u{3}\u{80}-\u{a5}\u{2028}]{0,20}") {
            let quoted = quote(&plain);
            prop_assert!(!quoted.contains('\n'));
            prop_assert_eq!(Literal::parse(&quoted).expect("own text"), Literal::Text(plain));
        }

        #[test]
        fn any_input_is_read_without_panic(source in "[\\[\\](){}'\",:\\\\xuU0-9a-fLNone. é-]{0,60}") {
            let _ = Literal::parse(&source);
        }
    }
}
