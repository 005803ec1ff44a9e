//! Writing `backup.info`.

use super::{BackupInfo, literal, time};
use std::fmt::Write as _;

impl BackupInfo {
    /// The text of the file: known keys with a value, in alphabetical order, as Barman writes them.
    pub fn render(&self) -> String {
        let mut lines: Vec<(&str, String)> = Vec::new();
        let mut add = |key, value: Option<String>| {
            if let Some(value) = value {
                lines.push((key, value));
            }
        };
        add("backup_label", self.backup_label.as_deref().map(literal::quote));
        add("backup_name", self.backup_name.as_deref().map(one_line));
        add("begin_offset", self.begin_offset.map(|v| v.to_string()));
        add("begin_time", self.begin_time.as_ref().map(time::render));
        add("begin_wal", self.begin_wal.map(|v| v.to_string()));
        add("begin_xlog", self.begin_xlog.map(|v| v.to_string()));
        add("cluster_size", self.cluster_size.map(|v| v.to_string()));
        add("config_file", self.config_file.as_deref().map(one_line));
        add("data_checksums", self.data_checksums.as_deref().map(one_line));
        add("end_offset", self.end_offset.map(|v| v.to_string()));
        add("end_time", self.end_time.as_ref().map(time::render));
        add("end_wal", self.end_wal.map(|v| v.to_string()));
        add("end_xlog", self.end_xlog.map(|v| v.to_string()));
        add("error", self.error.as_deref().map(one_line));
        add("hba_file", self.hba_file.as_deref().map(one_line));
        add("ident_file", self.ident_file.as_deref().map(one_line));
        add("included_files", self.included_files());
        add("pgdata", self.pgdata.as_deref().map(one_line));
        add("server_name", self.server_name.as_deref().map(one_line));
        add("size", self.size.map(|v| v.to_string()));
        add("status", Some(self.status.to_string()));
        add("summarize_wal", self.summarize_wal.as_deref().map(one_line));
        add("systemid", self.systemid.as_deref().map(one_line));
        add("tablespaces", self.tablespaces());
        add("timeline", self.timeline.map(|v| v.to_string()));
        add("version", self.version.map(|v| v.to_string()));
        add("xlog_segment_size", self.xlog_segment_size.map(|v| v.to_string()));

        let mut text = String::new();
        for (key, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key}={value}");
        }
        text
    }

    fn included_files(&self) -> Option<String> {
        let files: Vec<String> = self.included_files.iter().map(|file| literal::quote(file)).collect();
        (!files.is_empty()).then(|| format!("[{}]", files.join(", ")))
    }

    fn tablespaces(&self) -> Option<String> {
        let tuples: Vec<String> = self
            .tablespaces
            .iter()
            .map(|ts| format!("({}, {}, {})", literal::quote(&ts.name), ts.oid, literal::quote(&ts.location)))
            .collect();
        (!tuples.is_empty()).then(|| format!("[{}]", tuples.join(", ")))
    }
}

/// Plain values cannot hold line ends.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
