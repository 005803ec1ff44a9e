//! What a container had to say about its end: its termination message, or the end of its log.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;

use crate::error::Error;
use crate::sandbox::Mount;

/// Longest message, as kubelets cut it.
const LONGEST: usize = 4096;
/// Most that is taken from a log in its place.
const LOG_BYTES: usize = 2048;
const LOG_LINES: usize = 80;

fn file(pod_dir: &Path, container: &Container) -> PathBuf {
    pod_dir.join("etc").join(format!("{}.termination-log", container.name))
}

/// An empty file for the message of the next run, where the container expects it.
pub(super) fn prepare(pod_dir: &Path, container: &Container) -> Result<Mount, Error> {
    let source = file(pod_dir, container);
    fs::write(&source, "").map_err(Error::file("write", &source))?;
    let target = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    Ok(Mount { source, target: target.unwrap_or("/dev/termination-log").into(), read_only: false })
}

/// The message of the run that has just ended with `code`, its log being at `log`.
pub(super) fn message(pod_dir: &Path, container: &Container, code: i32, log: &Path) -> Option<String> {
    let written = fs::read(file(pod_dir, container)).unwrap_or_default();
    if !written.is_empty() {
        return Some(cut_front(&String::from_utf8_lossy(&written), LONGEST));
    }
    let falls_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if code == 0 || !falls_back {
        return None;
    }
    let text = from_log(&fs::read_to_string(log).unwrap_or_default());
    (!text.is_empty()).then_some(text)
}

/// The end of a log, without times and streams.
fn from_log(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter_map(|line| line.splitn(3, ' ').nth(2)).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    let text: String = last.iter().flat_map(|line| [*line, "\n"]).collect();
    cut_front(&text, LOG_BYTES)
}

/// The last `most` bytes of a text, or a little less for a whole character.
fn cut_front(text: &str, most: usize) -> String {
    let start = text.len().saturating_sub(most);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn message_then_log_then_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let log = dir.path().join("log");
        fs::write(&log, "t stdout one\nt stderr two words\n").unwrap();
        let policy = |policy: &str| -> Container {
            serde_json::from_value(json!({"name": "c", "terminationMessagePolicy": policy})).unwrap()
        };
        let (plain, falling) = (policy("File"), policy("FallbackToLogsOnError"));
        let mount = prepare(dir.path(), &plain).unwrap();
        assert_eq!(mount.target, Path::new("/dev/termination-log"));
        assert_eq!(message(dir.path(), &plain, 1, &log), None);
        assert_eq!(message(dir.path(), &falling, 0, &log), None);
        assert_eq!(message(dir.path(), &falling, 1, &log).as_deref(), Some("one\ntwo words\n"));
        fs::write(&mount.source, "said").unwrap();
        assert_eq!(message(dir.path(), &falling, 1, &log).as_deref(), Some("said"));
        assert_eq!(message(dir.path(), &plain, 0, &log).as_deref(), Some("said"));
    }

    #[test]
    fn long_logs_are_cut_at_the_front() {
        let log: String = (0..100).map(|i| format!("t stdout line {i} ü{}\n", "x".repeat(40))).collect();
        let text = from_log(&log);
        assert!(text.len() <= LOG_BYTES && text.len() > LOG_BYTES - 4);
        assert!(text.ends_with(&format!("line 99 ü{}\n", "x".repeat(40))));
    }
}
