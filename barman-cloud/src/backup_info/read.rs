//! Reading `backup.info`. Errors name the line.

use super::{BackupInfo, BackupStatus, Literal, Tablespace, time};
use crate::error::{Error, Result};
use std::str::FromStr;

impl BackupInfo {
    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self> {
        let mut info = Self::default();
        let mut lines = 0;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: String| Error::corrupt(format!("backup.info line {}: {what}", index + 1));
            if line.contains('\r') {
                // Barman takes it for the end of the line.
                return Err(wrong("it has a carriage return in it".to_owned()));
            }
            let (key, value) = line.split_once('=').ok_or_else(|| wrong("it is not key=value".to_owned()))?;
            let (key, value) = (key.trim(), value.trim());
            // `None` is null for every key.
            let value = (value != "None").then_some(value);
            info.set(key, value).map_err(|what| wrong(format!("{key} {what}")))?;
            lines += 1;
        }
        if lines == 0 {
            return Err(Error::corrupt("backup.info is empty"));
        }
        Ok(info)
    }

    /// Reads the bytes of the file.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Error::corrupt("backup.info is not UTF-8").with_source(error))?;
        Self::parse(text)
    }

    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), String> {
        let text = || value.map(str::to_owned);
        match key {
            "backup_label" => self.backup_label = value.map(label).transpose()?,
            "backup_name" => self.backup_name = text(),
            "begin_time" => self.begin_time = value.map(date).transpose()?,
            "end_time" => self.end_time = value.map(date).transpose()?,
            "begin_xlog" => self.begin_xlog = parsed(value, "an LSN")?,
            "end_xlog" => self.end_xlog = parsed(value, "an LSN")?,
            "begin_wal" => self.begin_wal = parsed(value, "a WAL segment")?,
            "end_wal" => self.end_wal = parsed(value, "a WAL segment")?,
            "begin_offset" => self.begin_offset = parsed(value, "a number")?,
            "end_offset" => self.end_offset = parsed(value, "a number")?,
            "timeline" => self.timeline = parsed(value, "a number")?,
            "version" => self.version = parsed(value, "a number")?,
            "pgdata" => self.pgdata = text(),
            "tablespaces" => self.tablespaces = value.map(tablespaces).transpose()?.unwrap_or_default(),
            "status" => {
                self.status = match value {
                    None => BackupStatus::Empty,
                    Some(word) => {
                        BackupStatus::parse(word).ok_or_else(|| format!("{word:?} is not a status"))?
                    }
                }
            }
            "error" => self.error = text(),
            "server_name" => self.server_name = text(),
            "systemid" => self.systemid = text(),
            "xlog_segment_size" => self.xlog_segment_size = parsed(value, "a number")?,
            "data_checksums" => self.data_checksums = text(),
            "summarize_wal" => self.summarize_wal = text(),
            "cluster_size" => self.cluster_size = parsed(value, "a number")?,
            "config_file" => self.config_file = text(),
            "hba_file" => self.hba_file = text(),
            "ident_file" => self.ident_file = text(),
            "included_files" => self.included_files = value.map(files).transpose()?.unwrap_or_default(),
            "size" => self.size = parsed(value, "a number")?,
            other => {
                if let Some(value) = text() {
                    self.other.insert(other.to_owned(), value);
                }
            }
        }
        Ok(())
    }
}

fn parsed<T: FromStr>(value: Option<&str>, what: &str) -> Result<Option<T>, String> {
    value.map(|text| text.parse().map_err(|_| format!("{text:?} is not {what}"))).transpose()
}

fn date(text: &str) -> Result<chrono::DateTime<chrono::FixedOffset>, String> {
    time::parse(text).ok_or_else(|| format!("{text:?} is not a time"))
}

fn label(text: &str) -> Result<String, String> {
    match Literal::parse(text)? {
        Literal::Text(label) => Ok(label),
        _ => Err("is not a text".to_owned()),
    }
}

fn tablespaces(text: &str) -> Result<Vec<Tablespace>, String> {
    let wrong = || "is not a list of (name, oid, location)".to_owned();
    let literal = Literal::parse(text)?;
    if literal == Literal::None {
        return Ok(Vec::new());
    }
    literal
        .as_list()
        .ok_or_else(wrong)?
        .iter()
        .map(|item| match item.as_list() {
            Some([Literal::Text(name), Literal::Int(oid), Literal::Text(location)]) => Ok(Tablespace {
                name: name.clone(),
                oid: u32::try_from(*oid).map_err(|_| wrong())?,
                location: location.clone(),
            }),
            _ => Err(wrong()),
        })
        .collect()
}

fn files(text: &str) -> Result<Vec<String>, String> {
    let wrong = || "is not a list of paths".to_owned();
    let literal = Literal::parse(text)?;
    if literal == Literal::None {
        return Ok(Vec::new());
    }
    let items = literal.as_list().ok_or_else(wrong)?;
    items.iter().map(|item| item.as_text().map(str::to_owned).ok_or_else(wrong)).collect()
}
