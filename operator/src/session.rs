//! The session of one server: rustls keeps many for each of many servers, by name, while all instances of a cluster are
//! asked by one name and none of them knows the sessions of the others.

use std::sync::{Mutex, PoisonError};

use rustls_pki_types::ServerName;
use tokio_rustls::rustls::NamedGroup;
use tokio_rustls::rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};

/// The ticket that a server gave last. Sessions of TLS 1.2 are not taken up again.
#[derive(Debug, Default)]
pub struct LastTicket {
    hint: Mutex<Option<NamedGroup>>,
    ticket: Mutex<Option<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for LastTicket {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        *self.ticket.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
