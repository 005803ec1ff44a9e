//! The command line: what the operator is told from outside. Every option is an environment variable too.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// PostgreSQL on Kubernetes with backups that can be proved.
#[derive(Parser, Debug, Clone)]
#[command(name = "operator", version, about)]
pub struct Cli {
    /// Namespaces to watch, separated by commas. Empty: all of them.
    #[arg(long, env = "WATCH_NAMESPACE", default_value = "")]
    pub watch_namespace: String,

    /// PostgreSQL image of clusters that name none.
    #[arg(long, env = "POSTGRES_IMAGE_NAME", default_value = "docker.io/library/postgres:17")]
    pub postgres_image_name: String,

    /// This operator's own image; pods copy the instance manager out of it.
    #[arg(long, env = "OPERATOR_IMAGE_NAME", default_value = "ghcr.io/howdah/howdah:latest")]
    pub operator_image_name: String,

    /// The instance manager in that image, as this process sees it.
    #[arg(long, env = "INSTANCE_MANAGER_PATH", default_value = howdah_api::naming::MANAGER_IN_IMAGE)]
    pub instance_manager_path: std::path::PathBuf,

    /// Replace instance managers of another version while PostgreSQL runs. Turned off, pods are replaced instead.
    #[arg(long, env = "ENABLE_INSTANCE_MANAGER_INPLACE_UPDATES", default_value_t = true, action = clap::ArgAction::Set)]
    pub instance_manager_inplace_updates: bool,

    /// Namespace the operator runs in; its leader lease lives there.
    #[arg(long, env = "OPERATOR_NAMESPACE", default_value = "howdah-system")]
    pub operator_namespace: String,

    /// Name of this process in the lease and in events.
    #[arg(long, env = "POD_NAME", default_value = "")]
    pub pod_name: String,

    /// Work only while holding the lease. Turn off when only one process can run.
    #[arg(long, env = "LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_election: bool,

    /// Address of `/metrics`.
    #[arg(long, env = "METRICS_ADDRESS", default_value = "0.0.0.0:8080")]
    pub metrics_address: std::net::SocketAddr,

    /// Address of `/healthz` and `/readyz`.
    #[arg(long, env = "HEALTH_ADDRESS", default_value = "0.0.0.0:8081")]
    pub health_address: std::net::SocketAddr,

    /// Address of this pod. When it is a loopback address, the pod shares its network with others, and servers
    /// that would listen on all addresses listen on this one alone.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<std::net::IpAddr>,

    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,kube=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub log_level: String,

    /// How it is logged.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// Reconciliations of one kind that may run at the same time.
    #[arg(long, env = "MAX_CONCURRENT_RECONCILES", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_concurrent_reconciles: u16,

    /// What to do instead of running the operator.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Commands for people; they use the kubeconfig of whoever runs them.
#[derive(Subcommand, Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes another instance of a cluster the primary, and follows the change.
    Switchover(Switchover),
}

/// Which cluster, and which instance.
#[derive(Args, Debug, Clone, PartialEq, Eq)]
pub struct Switchover {
    /// Name of the Cluster.
    pub cluster: String,

    /// The replica that shall become the primary. Left out: the most advanced one.
    pub instance: Option<String>,

    /// Namespace of the Cluster. Default: that of the kubeconfig's context.
    #[arg(short, long)]
    pub namespace: Option<String>,

    /// Longest time to wait for the new primary, in seconds.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub wait: u64,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Cli {
    /// Where a server really listens; see `pod_ip`.
    #[must_use]
    pub fn listen(&self, address: std::net::SocketAddr) -> std::net::SocketAddr {
        match self.pod_ip {
            Some(ip) if ip.is_loopback() && address.ip().is_unspecified() => (ip, address.port()).into(),
            _ => address,
        }
    }

    /// The namespaces to watch; empty means all.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        let mut list: Vec<String> = self
            .watch_namespace
            .split(',')
            .map(str::trim)
            .filter(|n| !n.is_empty() && *n != "*")
            .map(str::to_owned)
            .collect();
        list.sort();
        list.dedup();
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Cli {
        Cli::try_parse_from(std::iter::once("operator").chain(args.iter().copied())).unwrap()
    }

    #[test]
    fn namespaces_are_a_list_or_all() {
        assert_eq!(parse(&["--watch-namespace", " b,a , b,"]).namespaces(), ["a", "b"]);
        assert!(parse(&["--watch-namespace", ""]).namespaces().is_empty());
        assert!(parse(&["--watch-namespace", "*"]).namespaces().is_empty());
    }

    #[test]
    fn a_loopback_pod_listens_on_its_own_address_alone() {
        let listen = |args: &[&str]| {
            let cli = parse(args);
            cli.listen(cli.health_address).to_string()
        };
        assert_eq!(listen(&[]), "0.0.0.0:8081");
        assert_eq!(listen(&["--pod-ip", "10.1.2.3"]), "0.0.0.0:8081");
        assert_eq!(listen(&["--pod-ip", "127.80.0.4"]), "127.80.0.4:8081");
        assert_eq!(listen(&["--pod-ip", "127.80.0.4", "--health-address", "127.0.0.1:1"]), "127.0.0.1:1");
    }

    #[test]
    fn leader_election_can_be_turned_off() {
        assert!(parse(&[]).leader_election);
        assert!(!parse(&["--leader-election=false"]).leader_election);
    }

    #[test]
    fn updates_in_place_can_be_turned_off() {
        assert!(parse(&[]).instance_manager_inplace_updates);
        assert!(!parse(&["--instance-manager-inplace-updates=false"]).instance_manager_inplace_updates);
    }

    #[test]
    fn a_switchover_names_the_cluster_and_perhaps_the_instance() {
        assert_eq!(parse(&[]).command, None);
        let Some(Command::Switchover(found)) = parse(&["switchover", "pg", "pg-2", "-n", "shop"]).command
        else {
            panic!("a command");
        };
        assert_eq!((found.cluster.as_str(), found.instance.as_deref()), ("pg", Some("pg-2")));
        assert_eq!((found.namespace.as_deref(), found.wait), (Some("shop"), 300));
        assert!(Cli::try_parse_from(["operator", "switchover"]).is_err());
    }

    #[test]
    fn help_text() {
        use clap::CommandFactory;
        let mut command = Cli::command().mut_args(|a| a.hide_env_values(true));
        insta::assert_snapshot!(command.render_long_help());
    }
}
