//! What the server program can do, asked from the program itself.

use std::path::Path;

use tokio::process::Command;

use super::children::Children;
use super::programs::Programs;
use crate::error::{Error, IoContext, Result};

/// Asks `postgres -C NAME` with `conf` as the whole configuration. The data directory only has to exist.
///
/// # Errors
/// With PostgreSQL's own words when it does not accept the configuration.
pub async fn ask(
    children: &Children,
    programs: &Programs,
    pgdata: &Path,
    conf: &Path,
    name: &str,
) -> Result<String> {
    let program = programs.program("postgres")?;
    let mut command = Command::new(&program);
    command.arg("-D").arg(pgdata).arg("-c").arg(format!("config_file={}", conf.display())).args(["-C", name]);
    let output = children
        .output(&mut command)
        .await
        .map_err(|e| Error::permanent(format!("cannot run {}", program.display())).because(e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(Error::permanent(complaint(&String::from_utf8_lossy(&output.stderr))))
}

/// Whether the server was built with TLS.
///
/// # Errors
/// When the program cannot be run.
pub async fn has_tls(
    children: &Children,
    programs: &Programs,
    pgdata: &Path,
    run_dir: &Path,
) -> Result<bool> {
    let conf = run_dir.join("probe.conf");
    std::fs::write(&conf, "").at("cannot write", &conf)?;
    Ok(!ask(children, programs, pgdata, &conf, "ssl_library").await?.is_empty())
}

/// The complaint in PostgreSQL's output, without time stamps and process ids.
fn complaint(stderr: &str) -> String {
    let wanted = ["FATAL:", "ERROR:", "LOG:", "DETAIL:", "HINT:"];
    let lines: Vec<&str> = stderr
        .lines()
        .filter_map(|line| {
            let at = wanted.iter().find_map(|w| line.find(w).map(|i| i + w.len()))?;
            Some(line[at..].trim())
        })
        .collect();
    if lines.is_empty() { stderr.trim().to_owned() } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_complaint_is_kept() {
        let text = "2026-11-21 10:00:00 GMT [12] LOG:  invalid value for parameter \"work_mem\": \"x\"\n2026-11-21 10:00:00 GMT [12] FATAL:  configuration file \"/c\" contains errors\n";
        assert_eq!(
            complaint(text),
            "invalid value for parameter \"work_mem\": \"x\"; configuration file \"/c\" contains errors"
        );
        assert_eq!(complaint("no such thing\n"), "no such thing");
    }
}
