//! Probes: when to ask, how to ask, and what the answers add up to.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    Exec(Vec<String>),
    Http { https: bool, host: Option<String>, port: u16, path: String, headers: Vec<(String, String)> },
    Tcp { host: Option<String>, port: u16 },
}

/// A probe with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub check: Check,
    pub delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success: u32,
    pub failure: u32,
}

fn seconds(value: Option<i32>, default: i32, least: i32) -> Duration {
    Duration::from_secs(u64::try_from(value.unwrap_or(default).max(least)).unwrap_or(0))
}

fn times(value: Option<i32>, default: u32) -> u32 {
    value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
}

/// A port by number or by the name a container gives it.
pub(crate) fn port_number(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .and_then(|port| u16::try_from(port.container_port).ok())
            .or_else(|| name.parse().ok()),
    }
}

/// Reads a probe; the error says what it lacks.
pub(crate) fn plan(probe: &Probe, container: &Container) -> Result<Plan, String> {
    let unknown = |port: &IntOrString| format!("probe of container {}: no port {port:?}", container.name);
    let check = if let Some(exec) = &probe.exec {
        Check::Exec(exec.command.clone().unwrap_or_default())
    } else if let Some(http) = &probe.http_get {
        Check::Http {
            https: http.scheme.as_deref() == Some("HTTPS"),
            host: http.host.clone().filter(|host| !host.is_empty()),
            port: port_number(&http.port, container).ok_or_else(|| unknown(&http.port))?,
            path: http.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
            headers: http.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
        }
    } else if let Some(tcp) = &probe.tcp_socket {
        Check::Tcp {
            host: tcp.host.clone().filter(|host| !host.is_empty()),
            port: port_number(&tcp.port, container).ok_or_else(|| unknown(&tcp.port))?,
        }
    } else {
        return Err(format!(
            "probe of container {}: only exec, httpGet and tcpSocket work here",
            container.name
        ));
    };
    Ok(Plan {
        check,
        delay: seconds(probe.initial_delay_seconds, 0, 0),
        period: seconds(probe.period_seconds, 10, 1),
        timeout: seconds(probe.timeout_seconds, 1, 1),
        success: times(probe.success_threshold, 1),
        failure: times(probe.failure_threshold, 3),
    })
}

/// What the answers so far add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Too few answers either way.
    Unchanged,
    Success,
    Failure,
}

/// Counts answers in a row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    good: u32,
    bad: u32,
}

impl Tally {
    /// Takes one answer.
    pub fn add(&mut self, success: bool, plan: &Plan) -> Verdict {
        if success {
            (self.good, self.bad) = (self.good + 1, 0);
            if self.good >= plan.success { Verdict::Success } else { Verdict::Unchanged }
        } else {
            (self.good, self.bad) = (0, self.bad + 1);
            if self.bad >= plan.failure { Verdict::Failure } else { Verdict::Unchanged }
        }
    }
}

/// Asks over the network; `exec` is asked by whoever holds the container.
pub(crate) async fn ask_network(
    check: &Check,
    pod_ip: &str,
    timeout: Duration,
    http: &reqwest::Client,
) -> Result<(), String> {
    let at = |host: &Option<String>| host.clone().unwrap_or_else(|| pod_ip.to_owned());
    match check {
        Check::Exec(_) => Err("exec is not asked over the network".to_owned()),
        Check::Tcp { host, port } => {
            let address: SocketAddr = format!("{}:{port}", at(host))
                .parse()
                .map_err(|error| format!("{}:{port}: {error}", at(host)))?;
            match tokio::time::timeout(timeout, tokio::net::TcpStream::connect(address)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("dial tcp {address}: {error}")),
                Err(_) => Err(format!("dial tcp {address}: timeout")),
            }
        }
        Check::Http { https, host, port, path, headers } => {
            let scheme = if *https { "https" } else { "http" };
            let slash = if path.starts_with('/') { "" } else { "/" };
            let url = format!("{scheme}://{}:{port}{slash}{path}", at(host));
            let mut request = http.get(&url).timeout(timeout);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            match request.send().await {
                Ok(answer) if (200..400).contains(&answer.status().as_u16()) => Ok(()),
                Ok(answer) => Err(format!("HTTP probe failed with statuscode: {}", answer.status().as_u16())),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
                    Err(format!("Get {url:?}: {}{}", error.without_url(), cause.unwrap_or_default()))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container() -> Container {
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "status", "containerPort": 8000}]}))
            .unwrap()
    }

    fn read(probe: serde_json::Value) -> Result<Plan, String> {
        plan(&serde_json::from_value(probe).unwrap(), &container())
    }

    #[test]
    fn defaults_and_named_ports() {
        let read = read(json!({"httpGet": {"port": "status", "scheme": "HTTPS"}})).unwrap();
        assert_eq!(
            read,
            Plan {
                check: Check::Http { https: true, host: None, port: 8000, path: "/".into(), headers: vec![] },
                delay: Duration::ZERO,
                period: Duration::from_secs(10),
                timeout: Duration::from_secs(1),
                success: 1,
                failure: 3,
            }
        );
    }

    #[test]
    fn unknown_ports_and_kinds_are_refused() {
        assert!(read(json!({"tcpSocket": {"port": "none"}})).is_err());
        assert!(read(json!({"grpc": {"port": 1}})).is_err());
    }

    #[test]
    fn thresholds() {
        let plan =
            read(json!({"exec": {"command": ["x"]}, "successThreshold": 2, "failureThreshold": 2})).unwrap();
        let mut tally = Tally::default();
        let verdicts: Vec<Verdict> =
            [true, true, false, true, false, false].map(|ok| tally.add(ok, &plan)).to_vec();
        use Verdict::*;
        assert_eq!(verdicts, [Unchanged, Success, Unchanged, Unchanged, Unchanged, Failure]);
    }
}
