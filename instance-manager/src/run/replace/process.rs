//! Which process is meant: its id alone may be another one's by now.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};

/// A process, by its id and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its id.
    pub pid: i32,
    /// When it began, in ticks after the start of the machine. It stays when the process runs another program.
    pub began: u64,
}

impl ProcessId {
    /// The process that has this id now, and the id of its parent.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: i32) -> Result<(Self, i32)> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let text = std::fs::read_to_string(&path).at("cannot read", &path)?;
        let (parent, began) =
            parse(&text).ok_or_else(|| Error::transient(format!("{} is not understood", path.display())))?;
        Ok((Self { pid, began }, parent))
    }

    /// This process.
    ///
    /// # Errors
    /// Without `/proc`.
    pub fn own() -> Result<Self> {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        Self::of(pid).map(|(own, _)| own)
    }
}

/// Parent and begin in the text of `/proc/<pid>/stat`. The name of the program, in parentheses, may hold anything.
fn parse(text: &str) -> Option<(i32, u64)> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// Time since the start of the machine: it means the same to two programs in a row, and goes on while the machine sleeps.
///
/// # Errors
/// Without `/proc`.
pub fn uptime() -> Result<Duration> {
    let path = PathBuf::from("/proc/uptime");
    let text = std::fs::read_to_string(&path).at("cannot read", &path)?;
    let seconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| Error::transient("/proc/uptime is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let text = "42 (a) R 1) (b) S 7 42 42 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 98765 1 2 3";
        assert_eq!(parse(text), Some((7, 98765)));
        assert_eq!(parse("42 (short) S 7"), None);
    }

    #[test]
    fn this_process_is_itself() {
        let own = ProcessId::own().unwrap();
        assert_eq!(ProcessId::own().unwrap(), own);
        assert!(uptime().unwrap() > Duration::ZERO);
    }
}
