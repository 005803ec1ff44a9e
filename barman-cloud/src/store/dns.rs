//! Name resolution without the C library.
//!
//! The binaries are static, so the system's resolver (NSS) is not there. `/etc/hosts` is read at each look-up,
//! because pods get theirs rewritten; everything else is asked of the servers in `/etc/resolv.conf`.

use hickory_resolver::TokioResolver;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Resolves names by `/etc/hosts` and DNS. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<Inner>,
}

struct Inner {
    hosts: PathBuf,
    dns: OnceLock<TokioResolver>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("hosts", &self.inner.hosts).finish_non_exhaustive()
    }
}

impl Resolver {
    /// A resolver on the system's files.
    pub fn new() -> Self {
        Self::with_hosts("/etc/hosts")
    }

    /// A resolver on another hosts file.
    pub fn with_hosts(hosts: impl Into<PathBuf>) -> Self {
        Self { inner: Arc::new(Inner { hosts: hosts.into(), dns: OnceLock::new() }) }
    }

    /// The addresses of a host: an address as text, a name in the hosts file, `localhost`, or DNS with the
    /// search list. Fails with [`io::ErrorKind::NotFound`] when there is none.
    pub async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        // A small local file, read in microseconds; a missing one is an empty one.
        let hosts = tokio::fs::read_to_string(&self.inner.hosts).await.unwrap_or_default();
        let found = in_hosts(&hosts, host);
        if !found.is_empty() {
            return Ok(found);
        }
        if is_localhost(host) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let answer = self.dns()?.lookup_ip(host).await.map_err(|error| {
            let kind =
                if error.is_no_records_found() { io::ErrorKind::NotFound } else { io::ErrorKind::TimedOut };
            io::Error::new(kind, format!("looking up {host}: {error}"))
        })?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
        }
        Ok(addresses)
    }

    fn dns(&self) -> io::Result<&TokioResolver> {
        if let Some(resolver) = self.inner.dns.get() {
            return Ok(resolver);
        }
        let failed = |error| io::Error::other(format!("reading /etc/resolv.conf: {error}"));
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(failed)?;
        Ok(self.inner.dns.get_or_init(|| resolver))
    }
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Addresses of a name in the text of a hosts file, in order.
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.trim_end_matches('.');
    text.lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address: IpAddr = words.next()?.parse().ok()?;
            words.any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(host)).then_some(address)
        })
        .collect()
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.lookup(name.as_str()).await?;
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HOSTS: &str =
        "127.0.0.1 localhost\n# 10.0.0.9 gone\n10.0.0.7\tstore.example  Store # note\n::1 store\nbad line\n";

    #[rstest]
    #[case("store", &["10.0.0.7", "::1"])]
    #[case("STORE.example.", &["10.0.0.7"])]
    #[case("gone", &[])]
    #[case("note", &[])]
    fn hosts_file(#[case] name: &str, #[case] addresses: &[&str]) {
        let expected: Vec<IpAddr> = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        assert_eq!(in_hosts(HOSTS, name), expected);
    }

    #[tokio::test]
    async fn the_hosts_file_is_read_again_each_time() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let resolver = Resolver::with_hosts(file.path());
        for address in ["127.0.0.5", "127.0.0.6"] {
            std::fs::write(file.path(), format!("{address} the-store\n")).expect("writing");
            let found = resolver.lookup("the-store").await.expect("in the file");
            assert_eq!(found, [address.parse::<IpAddr>().expect("an address")]);
        }
    }

    #[tokio::test]
    async fn addresses_and_localhost_need_no_files() {
        let resolver = Resolver::with_hosts("/nonexistent");
        assert_eq!(resolver.lookup("[::1]").await.expect("an address"), [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert_eq!(resolver.lookup("127.0.0.3").await.expect("an address").len(), 1);
        assert!(resolver.lookup("localhost").await.expect("known").contains(&Ipv4Addr::LOCALHOST.into()));
    }
}
