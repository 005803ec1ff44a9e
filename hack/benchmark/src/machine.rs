//! Where and from what the figures come.

use serde::Serialize;
use std::path::Path;
use std::process::Command;

/// The machine.
#[derive(Serialize, Debug, Clone)]
pub struct Machine {
    /// Processor.
    pub processor: String,
    /// Cores.
    pub cores: usize,
    /// Memory, GiB.
    pub memory_gib: f64,
    /// Kernel.
    pub kernel: String,
    /// Distribution.
    pub system: String,
}

impl Machine {
    /// This one; what cannot be read is empty.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name", ':'),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: gib(&read("/proc/meminfo")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '=').trim_matches('"').to_owned(),
        }
    }
}

fn field(text: &str, name: &str, separator: char) -> String {
    let found =
        text.lines().filter_map(|line| line.split_once(separator)).find(|(key, _)| key.trim() == name);
    found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

fn gib(meminfo: &str) -> f64 {
    let text = field(meminfo, "MemTotal", ':');
    let kib: f64 = text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default();
    (kib / 1024.0 / 1024.0 * 10.0).round() / 10.0
}

/// The commit of the working tree, with `-dirty` when it has changes.
#[must_use]
pub fn commit() -> String {
    first_line(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]))
}

/// First line that a program prints about its version.
#[must_use]
pub fn version(program: &Path, argument: &str) -> String {
    first_line(Command::new(program).arg(argument))
}

fn first_line(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc() {
        assert_eq!(field("a\t: x\nmodel name\t: Some CPU @ 2\n", "model name", ':'), "Some CPU @ 2");
        assert_eq!(field("a: x\n", "b", ':'), "");
        assert_eq!(gib("MemTotal:       25165824 kB\n").to_string(), "24");
    }
}
