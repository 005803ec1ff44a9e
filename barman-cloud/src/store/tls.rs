//! TLS settings of the store client.
//!
//! Trusted are Mozilla's roots, compiled in because minimal images carry no CA bundle, the bundle of the image
//! when there is one, and the user's own authorities. The provider is ring, named explicitly so that nothing
//! depends on what a program installed as its default.

use crate::error::{Error, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// A client configuration; `extra_ca` is PEM with one or more certificates.
pub fn client_config(extra_ca: Option<&[u8]>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // Unreadable entries of the image's bundle are its own affair: the roots above remain.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = extra_ca {
        add_user_roots(&mut roots, pem)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(crate::ErrorKind::Other, "TLS cannot be set up").with_source(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_user_roots(roots: &mut RootCertStore, pem: &[u8]) -> Result<()> {
    let wrong = |what: String| {
        Error::invalid(format!("the CA certificate of the endpoint {what}")).with_remedy(
            "put a PEM bundle (BEGIN CERTIFICATE … END CERTIFICATE) under the key that endpointCA names",
        )
    };
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| wrong(format!("is not valid PEM: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(format!("cannot be used: {error}")))?;
        count += 1;
    }
    if count == 0 { Err(wrong("holds no certificate".to_owned())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn public_roots_are_always_there() {
        assert!(client_config(None).is_ok());
        assert!(webpki_roots::TLS_SERVER_ROOTS.len() > 50);
    }

    #[rstest]
    #[case::empty("")]
    #[case::text("not a certificate")]
    #[case::broken("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n")]
    #[case::not_x509("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    fn an_unusable_ca_is_an_error(#[case] pem: &str) {
        let error = client_config(Some(pem.as_bytes())).expect_err("no certificate");
        assert_eq!(error.exit_code(), 3);
        assert!(error.remedy().contains("PEM"));
    }
}
