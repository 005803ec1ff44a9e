//! Container logs: one file a container and run, one line of it `<time> <stream> <text>`, read back by options.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::sync::{Mutex, watch};

use crate::error::Error;

/// What a reader asks for: the options of `GET …/pods/<name>/log`.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Options {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail_lines: Option<usize>,
    pub since_seconds: Option<i64>,
    pub since_time: Option<DateTime<Utc>>,
    pub limit_bytes: Option<u64>,
}

/// The log of one run of a container, being written.
#[derive(Debug)]
pub(crate) struct Log {
    file: Mutex<tokio::fs::File>,
    /// Bytes written, and whether the run has ended: what followers wait on.
    progress: watch::Sender<(u64, bool)>,
}

impl Log {
    /// Opens the log of a new run.
    pub async fn create(path: &Path) -> Result<Arc<Self>, Error> {
        let file = tokio::fs::File::create(path).await.map_err(Error::file("create", path))?;
        Ok(Arc::new(Self { file: Mutex::new(file), progress: watch::Sender::new((0, false)) }))
    }

    /// Copies a stream of a container to the log until it ends.
    pub async fn copy(&self, stream: &'static str, from: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line).await {
                Ok(0) => break,
                Ok(_) => self.line(stream, &line).await,
                Err(error) => {
                    tracing::debug!(%error, "a container's output ended early");
                    break;
                }
            }
        }
    }

    async fn line(&self, stream: &str, text: &[u8]) {
        let mut record =
            format!("{} {stream} ", Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true)).into_bytes();
        record.extend_from_slice(text.strip_suffix(b"\n").unwrap_or(text));
        record.push(b'\n');
        let mut file = self.file.lock().await;
        let written = async {
            file.write_all(&record).await?;
            file.flush().await
        };
        match written.await {
            Ok(()) => self.progress.send_modify(|(bytes, _)| *bytes += record.len() as u64),
            Err(error) => tracing::warn!(%error, "cannot write a container's log"),
        }
    }

    /// Notes that nothing more will come.
    pub fn end(&self) {
        self.progress.send_modify(|(_, ended)| *ended = true);
    }

    /// For followers.
    pub fn progress(&self) -> watch::Receiver<(u64, bool)> {
        self.progress.subscribe()
    }
}

/// Where the log of one run is.
pub(crate) fn path(pod_dir: &Path, container: &str, run: u32) -> PathBuf {
    pod_dir.join("logs").join(format!("{container}.{run}.log"))
}

/// One line as a reader gets it, or `None` when it is not wanted.
pub(crate) fn present(record: &str, options: &Options, now: DateTime<Utc>) -> Option<String> {
    let (time, rest) = record.split_once(' ')?;
    let (_, text) = rest.split_once(' ')?;
    let since = options
        .since_time
        .or_else(|| options.since_seconds.map(|seconds| now - chrono::Duration::seconds(seconds)));
    if let Some(since) = since {
        let written = DateTime::parse_from_rfc3339(time).ok()?;
        if written < since {
            return None;
        }
    }
    Some(if options.timestamps { format!("{time} {text}\n") } else { format!("{text}\n") })
}

/// The wanted part of what is written so far.
pub(crate) fn select(text: &str, options: &Options, now: DateTime<Utc>) -> String {
    let mut lines: VecDeque<String> = VecDeque::new();
    for record in text.lines() {
        if let Some(line) = present(record, options, now) {
            lines.push_back(line);
            if options.tail_lines.is_some_and(|tail| lines.len() > tail) {
                lines.pop_front();
            }
        }
    }
    let mut text: String = lines.into_iter().collect();
    if let Some(limit) = options.limit_bytes.and_then(|limit| usize::try_from(limit).ok())
        && text.len() > limit
    {
        let cut = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "2026-01-01T00:00:00.000000000Z stdout one\n\
                        2026-01-01T00:00:10.000000000Z stderr two  words\n\
                        2026-01-01T00:00:20.000000000Z stdout \n";

    fn read(options: Options) -> String {
        select(TEXT, &options, "2026-01-01T00:00:25Z".parse().unwrap())
    }

    #[test]
    fn options() {
        assert_eq!(read(Options::default()), "one\ntwo  words\n\n");
        assert_eq!(read(Options { tail_lines: Some(2), ..Default::default() }), "two  words\n\n");
        assert_eq!(read(Options { tail_lines: Some(0), ..Default::default() }), "");
        assert_eq!(read(Options { since_seconds: Some(16), ..Default::default() }), "two  words\n\n");
        assert_eq!(read(Options { limit_bytes: Some(5), ..Default::default() }), "one\nt");
        let stamped = read(Options { timestamps: true, tail_lines: Some(2), ..Default::default() });
        assert!(stamped.starts_with("2026-01-01T00:00:10.000000000Z two  words\n"), "{stamped}");
    }

    #[tokio::test]
    async fn what_is_copied_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::create(&path).await.unwrap();
        log.copy("stdout", &b"a\nb without newline"[..]).await;
        log.end();
        assert!(log.progress().borrow().1);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(select(&text, &Options::default(), Utc::now()), "a\nb without newline\n");
    }
}
