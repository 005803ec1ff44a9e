//! Finding a process inside a container, from the host.

use std::fs;
use std::path::Path;

/// Every process in the pid namespace of `first`.
pub(crate) fn members(first: i32) -> Vec<i32> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let (Some(ours), Ok(entries)) = (namespace(first), fs::read_dir("/proc")) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| namespace(*pid).as_ref() == Some(&ours))
        .collect()
}

/// The oldest process in the pid namespace of `first` whose name begins with `name`.
pub(crate) fn oldest(first: i32, name: &str) -> Option<i32> {
    members(first)
        .into_iter()
        .filter_map(|pid| {
            let (command, started) = stat(format!("/proc/{pid}/stat"))?;
            command.starts_with(name).then_some((started, pid))
        })
        .min()
        .map(|(_, pid)| pid)
}

/// Name and start time of a process, in clock ticks since boot.
fn stat(path: impl AsRef<Path>) -> Option<(String, u64)> {
    parse(&fs::read_to_string(path).ok()?)
}

fn parse(text: &str) -> Option<(String, u64)> {
    // The name is in brackets and may hold anything, brackets too.
    let (_, rest) = text.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    // Field 22 of the line; the first after the name is field 3.
    let started = rest.split_whitespace().nth(19)?.parse().ok()?;
    Some((name.to_owned(), started))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let line = "12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse(line), Some(("a (b) c".to_owned(), 4711)));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn this_process_is_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(oldest(own, name.trim()).is_some());
        assert!(oldest(own, "no such program").is_none());
        assert!(members(own).contains(&own));
    }
}
