//! Writing a manifest, entry by entry, so that no list of files has to be kept.

use super::{ManifestFile, PathText, WalRange, path_text};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, Write};

/// Writes a manifest to a stream in PostgreSQL's form.
pub struct ManifestWriter<W: Write> {
    out: W,
    digest: Sha256,
    first: bool,
    line: String,
}

impl<W: Write> ManifestWriter<W> {
    /// Begins a manifest. `system_identifier` makes it version 2, for servers from 17 on; without it is version 1.
    pub fn new(out: W, system_identifier: Option<u64>) -> io::Result<Self> {
        let mut writer = Self { out, digest: Sha256::new(), first: true, line: String::new() };
        let head = match system_identifier {
            None => "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n".to_owned(),
            Some(id) => {
                format!("{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {id},\n")
            }
        };
        writer.emit(head.as_bytes())?;
        writer.emit(b"\"Files\": [")?;
        Ok(writer)
    }

    /// Adds a file.
    pub fn file(&mut self, file: &ManifestFile) -> io::Result<()> {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        line.push_str(if self.first { "\n{ " } else { ",\n{ " });
        self.first = false;
        // Writing to a string cannot fail.
        let _ = match path_text(&file.path) {
            PathText::Plain(text) => write!(line, "\"Path\": {}, ", json_text(text)),
            PathText::Encoded(hex) => write!(line, "\"Encoded-Path\": \"{hex}\", "),
        };
        let _ = write!(line, "\"Size\": {}, \"Last-Modified\": \"{}\"", file.size, time(file.modified));
        if let Some(checksum) = &file.checksum {
            let _ = write!(
                line,
                ", \"Checksum-Algorithm\": {}, \"Checksum\": \"{}\"",
                json_text(checksum.algorithm()),
                checksum.hex()
            );
        }
        line.push_str(" }");
        let result = self.emit(line.as_bytes());
        self.line = line;
        result
    }

    /// Ends the manifest with the WAL that recovery needs, and its checksum.
    pub fn finish(mut self, ranges: &[WalRange]) -> io::Result<W> {
        let mut text = String::from("\n],\n");
        text.push_str("\"WAL-Ranges\": [\n");
        for (index, range) in ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { ",\n" };
            let _ = write!(
                text,
                "{comma}{{ \"Timeline\": {}, \"Start-LSN\": \"{}\", \"End-LSN\": \"{}\" }}",
                range.timeline, range.start, range.end
            );
        }
        text.push_str("\n],\n");
        self.emit(text.as_bytes())?;
        let digest = hex::encode(self.digest.finalize());
        // The last line is not part of what is checked.
        self.out.write_all(format!("\"Manifest-Checksum\": \"{digest}\"}}\n").as_bytes())?;
        Ok(self.out)
    }

    fn emit(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.out.write_all(bytes)
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S GMT").to_string()
}

/// A text as PostgreSQL writes it into JSON.
fn json_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
