//! The certificates of a cluster: one authority, and below it the server certificate and the client
//! certificates of replicas and operator. What users give instead is judged in [`given`].

pub mod given;
pub mod inspect;
pub mod issue;

use thiserror::Error;

/// Why a certificate could not be made or read. Never shows key material.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The generator refused.
    #[error("cannot make the {what}")]
    Issue {
        /// Which certificate.
        what: &'static str,
        /// The generator's error.
        #[source]
        source: rcgen::Error,
    },
    /// A stored authority cannot be read.
    #[error(
        "the certificate authority in its Secret cannot be read; delete the Secret to have a new one made"
    )]
    Authority(#[source] rcgen::Error),
}

/// A certificate with its key, PEM encoded.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key, PKCS#8.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}
