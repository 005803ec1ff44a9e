//! The `/etc/hosts` of a pod: how Service names become addresses without a DNS server. Pure.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// A name that a pod can look up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceName {
    pub namespace: String,
    pub name: String,
    /// One address for an ordinary service, those of its pods for a headless one.
    pub addresses: Vec<Ipv4Addr>,
}

/// The file for a pod of `namespace`.
pub(crate) fn render(
    namespace: &str,
    own: (Ipv4Addr, &str),
    aliases: &[(String, Vec<String>)],
    services: &[ServiceName],
) -> String {
    let mut text = String::from("# Managed by the node double; rewritten in place as services change.\n");
    text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let _ = writeln!(text, "{}\t{}", own.0, own.1);
    for (address, names) in aliases {
        let _ = writeln!(text, "{address}\t{}", names.join(" "));
    }
    let mut services: Vec<&ServiceName> = services.iter().collect();
    services.sort();
    for service in services {
        let (name, of) = (&service.name, &service.namespace);
        let mut names = Vec::new();
        if of == namespace {
            names.push(name.clone());
        }
        names.push(format!("{name}.{of}"));
        names.push(format!("{name}.{of}.svc"));
        names.push(format!("{name}.{of}.svc.cluster.local"));
        for address in &service.addresses {
            let _ = writeln!(text, "{address}\t{}", names.join(" "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_for_the_own_namespace() {
        let service = |namespace: &str, name: &str, last| ServiceName {
            namespace: namespace.into(),
            name: name.into(),
            addresses: vec![Ipv4Addr::new(127, 64, 0, last)],
        };
        let text = render(
            "team",
            (Ipv4Addr::new(127, 80, 0, 9), "db-1"),
            &[("10.0.0.1".to_owned(), vec!["minio".to_owned()])],
            &[service("team", "db-rw", 2), service("other", "db-rw", 3)],
        );
        let lines: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "127.80.0.9\tdb-1",
                "10.0.0.1\tminio",
                "127.64.0.3\tdb-rw.other db-rw.other.svc db-rw.other.svc.cluster.local",
                "127.64.0.2\tdb-rw db-rw.team db-rw.team.svc db-rw.team.svc.cluster.local",
            ]
        );
    }

    #[test]
    fn headless_services_name_every_pod() {
        let service = ServiceName {
            namespace: "n".into(),
            name: "s".into(),
            addresses: vec![Ipv4Addr::new(127, 80, 0, 1), Ipv4Addr::new(127, 80, 0, 2)],
        };
        let text = render("n", (Ipv4Addr::new(127, 80, 0, 9), "p"), &[], &[service]);
        assert_eq!(text.matches("\ts s.n ").count(), 2);
    }
}
