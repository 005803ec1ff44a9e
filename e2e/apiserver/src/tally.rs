//! Counts requests: what a client costs an API server, by who asked for what.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::path::RequestInfo;

/// One kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// User name of the caller.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// Plural name, with the subresource after a slash.
    pub resource: String,
}

/// How often each was made since the server started; refused ones count too.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<Call, u64>>);

impl Tally {
    /// One more.
    pub(crate) fn count(&self, info: &RequestInfo, user: &str) {
        let resource = match info.subresource.as_str() {
            "" => info.resource.clone(),
            sub => format!("{}/{sub}", info.resource),
        };
        let call = Call { user: user.to_owned(), verb: info.verb, resource };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(call).or_default() += 1;
    }

    /// The counts of one user, by verb and resource.
    pub fn of(&self, user: &str) -> BTreeMap<(&'static str, String), u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.iter().filter(|(call, _)| call.user == user);
        own.map(|(call, count)| ((call.verb, call.resource.clone()), *count)).collect()
    }
}
