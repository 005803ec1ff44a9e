//! Cuts between parties of the lab, by the machine's packet filter: everybody listens on a loopback address of their own,
//! and the control group of a pod tells who sends.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Packets of one pod that are dropped. Dropping this heals it.
#[derive(Debug)]
#[must_use]
pub struct Cut {
    rules: Vec<Vec<String>>,
}

impl Cut {
    /// Drops what processes of `group` send to `places`, each an address or `address:port`.
    ///
    /// # Errors
    /// When `iptables` is missing or refuses.
    pub(super) async fn make(group: &str, places: &[String]) -> Result<Self> {
        let mut cut = Self { rules: Vec::new() };
        for place in places {
            let rule = rule(group, place);
            run("-I", &rule).await?;
            cut.rules.push(rule);
        }
        Ok(cut)
    }

    /// Lets the packets pass again.
    ///
    /// # Errors
    /// When `iptables` refuses.
    pub async fn heal(mut self) -> Result<()> {
        while let Some(rule) = self.rules.last() {
            run("-D", rule).await?;
            self.rules.pop();
        }
        Ok(())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        for rule in &self.rules {
            // A test that failed: nobody is left to be told of another failure.
            let _ = std::process::Command::new("iptables").args(["-w", "-D"]).args(rule).status();
        }
    }
}

fn rule(group: &str, place: &str) -> Vec<String> {
    let (address, port) =
        place.split_once(':').map_or((place, None), |(address, port)| (address, Some(port)));
    let mut words = vec!["OUTPUT", "-m", "cgroup", "--path", group, "-d", address];
    if let Some(port) = port {
        words.extend(["-p", "tcp", "--dport", port]);
    }
    words.extend(["-j", "DROP"]);
    words.into_iter().map(str::to_owned).collect()
}

async fn run(action: &str, rule: &[String]) -> Result<()> {
    // It waits for whoever else changes the filter just now.
    let mut command = Command::new("iptables");
    command.args(["-w", action]).args(rule).stdin(Stdio::null());
    let out = command
        .output()
        .await
        .context("iptables is missing: apt-get install iptables, or hack/install base")?;
    let words = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "iptables {action} {}: {}", rule.join(" "), words.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_place_may_have_a_port() {
        let of = |place: &str| super::rule("pod", place).join(" ");
        assert_eq!(of("127.1.2.3"), "OUTPUT -m cgroup --path pod -d 127.1.2.3 -j DROP");
        assert_eq!(of("127.0.0.1:80"), "OUTPUT -m cgroup --path pod -d 127.0.0.1 -p tcp --dport 80 -j DROP");
    }
}
