//! Processes of a container, found from outside through `/proc`.

/// The oldest descendant of `first` whose command name begins with `name`.
pub fn oldest(first: i32, name: &str) -> Option<i32> {
    let table = all();
    let mut family = vec![first];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(table.iter().filter(|p| p.parent == parent).map(|p| p.pid));
        next += 1;
    }
    table
        .iter()
        .filter(|p| p.pid != first && family.contains(&p.pid) && p.name.starts_with(name))
        .min_by_key(|p| p.started)
        .map(|p| p.pid)
}

struct Process {
    pid: i32,
    parent: i32,
    name: String,
    started: u64,
}

fn all() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok()?.parse::<i32>().ok())
        .filter_map(|pid| parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// `/proc/PID/stat`: the name stands in parentheses and may hold anything; parent is field 4, start time field 22.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = after.split_whitespace().collect();
    Some(Process { pid, parent: fields.get(1)?.parse().ok()?, name, started: fields.get(19)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a) b) S 7 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 777 0";
        let process = super::parse(12, stat).expect("it parses");
        assert_eq!((process.parent, process.name.as_str(), process.started), (7, "a) b", 777));
    }
}
