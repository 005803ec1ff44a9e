//! Connections that several stores use together.

use super::dialect::Known;
use super::options::{ClientCertificate, Limits};
use super::transport::{self, Transport};
use crate::error::Result;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A pool that stores share when their options name it: those with the same certificates and time limits use the
/// same connections, those of the same bucket know the same about it. Cheap to clone; clones are one pool.
///
/// It keeps nothing alive: with the last store go its connections. Connections belong to the runtime on which they
/// were made, so one pool is for one runtime.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<Pool>>);

#[derive(Default)]
struct Pool {
    transports: Vec<(Settings, Weak<transport::Shared>)>,
    buckets: Vec<(String, Weak<Known>)>,
}

#[derive(Clone, PartialEq, Eq)]
struct Settings {
    ca_pem: Option<Vec<u8>>,
    client_certificate: Option<ClientCertificate>,
    limits: Limits,
}

impl Connections {
    pub(super) fn transport(
        &self,
        ca_pem: &Option<Vec<u8>>,
        own: &Option<ClientCertificate>,
        limits: &Limits,
    ) -> Result<Transport> {
        let settings =
            Settings { ca_pem: ca_pem.clone(), client_certificate: own.clone(), limits: limits.clone() };
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = find(&mut pool.transports, &settings) {
            return Ok(Transport::over(shared));
        }
        let made = Transport::new(ca_pem, own, limits)?;
        pool.transports.push((settings, Arc::downgrade(&made.shared)));
        Ok(made)
    }

    pub(super) fn known(&self, bucket: &str) -> Arc<Known> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = find(&mut pool.buckets, &bucket.to_owned()) {
            return known;
        }
        let made = Arc::default();
        pool.buckets.push((bucket.to_owned(), Arc::downgrade(&made)));
        made
    }
}

/// The live entry under a key; the dead ones are removed.
fn find<K: PartialEq, V>(entries: &mut Vec<(K, Weak<V>)>, key: &K) -> Option<Arc<V>> {
    entries.retain(|(_, entry)| entry.strong_count() > 0);
    entries.iter().find(|(found, _)| found == key)?.1.upgrade()
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// Which connections are used changes nothing about a store: options with the same settings are equal.
impl PartialEq for Connections {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Connections {}
