//! What all requests share.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::auth::tokens::Tokens;
use crate::faults::Faults;
use crate::openapi::Documents;
use crate::registry::Registry;
use crate::store::Store;
use crate::tally::Tally;

/// The range Service addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// First address.
    pub base: Ipv4Addr,
    /// Length of the prefix.
    pub prefix: u8,
}

impl ServiceCidr {
    /// Reads `127.64.0.0/16`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let wrong = || anyhow::anyhow!("service range {text:?} is not of the form 127.64.0.0/16");
        let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let (base, prefix) = (base.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?);
        if !(8..=30).contains(&prefix) {
            return Err(wrong());
        }
        Ok(Self { base, prefix })
    }

    /// The address at this distance from the first; `None` outside the range.
    pub fn address(&self, offset: u32) -> Option<Ipv4Addr> {
        // The last one is the broadcast address.
        let size = 1_u32 << (32 - u32::from(self.prefix));
        (offset > 0 && offset < size - 1).then(|| Ipv4Addr::from(u32::from(self.base) + offset))
    }

    /// Whether an address is in the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX << (32 - u32::from(self.prefix));
        u32::from(address) & mask == u32::from(self.base) & mask
    }

    /// Address of the `kubernetes` service.
    pub fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + 1)
    }
}

/// State of one server.
pub struct State {
    store: Mutex<Store>,
    registry: RwLock<Arc<Registry>>,
    /// Tokens of service accounts.
    pub tokens: Tokens,
    /// Faults that requests meet.
    pub faults: Faults,
    /// Requests so far.
    pub tally: Tally,
    /// OpenAPI documents.
    pub documents: Documents,
    /// Certificate authority of the server, PEM.
    pub ca_pem: String,
    /// Range of Service addresses.
    pub services: ServiceCidr,
    /// Client for kubelets.
    pub kubelet: crate::rest::proxy::KubeletClient,
}

impl State {
    /// A server without objects.
    pub fn new(
        capacity: usize,
        ca_pem: String,
        services: ServiceCidr,
        kubelet: crate::rest::proxy::KubeletClient,
    ) -> Self {
        Self {
            store: Mutex::new(Store::new(capacity)),
            registry: RwLock::new(Arc::new(Registry::builtin())),
            tokens: Tokens::new(),
            faults: Faults::default(),
            tally: Tally::default(),
            documents: Documents::default(),
            ca_pem,
            services,
            kubelet,
        }
    }

    /// The objects, locked.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resources served now.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the resources served.
    pub fn change_registry(&self, change: impl FnOnce(&mut Registry)) {
        let mut slot = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        let mut registry = (**slot).clone();
        change(&mut registry);
        *slot = Arc::new(registry);
        self.documents.forget();
    }
}

/// A time as the API writes it: seconds, UTC.
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Now, as the API writes it.
pub fn now() -> String {
    timestamp(Utc::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_ranges() {
        let range = ServiceCidr::parse("127.64.0.0/16").unwrap();
        assert_eq!(range.first(), Ipv4Addr::new(127, 64, 0, 1));
        assert_eq!(range.address(256), Some(Ipv4Addr::new(127, 64, 1, 0)));
        assert_eq!(range.address(65535), None);
        assert!(
            range.contains(Ipv4Addr::new(127, 64, 9, 9)) && !range.contains(Ipv4Addr::new(127, 65, 0, 1))
        );
        assert!(ServiceCidr::parse("127.64.0.0").is_err() && ServiceCidr::parse("127.0.0.0/40").is_err());
    }
}
