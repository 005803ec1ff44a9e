//! TLS settings of the store client.
//!
//! Trusted are Mozilla's roots, compiled in because minimal images carry no CA bundle, the bundle of the image
//! when there is one, and the user's own authorities. The provider is ring, named explicitly so that nothing
//! depends on what a program installed as its default.

use super::options::ClientCertificate;
use crate::error::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// A client configuration; `extra_ca` is PEM with one or more certificates, `own` is shown to servers that ask.
pub fn client_config(extra_ca: Option<&[u8]>, own: Option<&ClientCertificate>) -> Result<ClientConfig> {
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
        .map_err(|error| Error::new(ErrorKind::Other, "TLS cannot be set up").with_source(error))?
        .with_root_certificates(roots);
    match own {
        None => Ok(config.with_no_client_auth()),
        Some(own) => {
            let (chain, key) = read(own)?;
            config.with_client_auth_cert(chain, key).map_err(|error| unusable(error.to_string()))
        }
    }
}

fn unusable(what: String) -> Error {
    Error::new(ErrorKind::Credentials, format!("the client certificate cannot be used: {what}")).with_remedy(
        "give a PEM certificate chain and the PEM key of its first certificate; those of a cluster are made anew when \
         their Secret is deleted",
    )
}

fn read(own: &ClientCertificate) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = CertificateDer::pem_slice_iter(&own.chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(format!("it is not PEM ({error})")))?;
    if chain.is_empty() {
        return Err(unusable("there is none in it".to_owned()));
    }
    // What was wrong with a key is not told: the message could show a part of it.
    let key =
        PrivateKeyDer::from_pem_slice(&own.key).map_err(|_| unusable("its key is not PEM".to_owned()))?;
    Ok((chain, key))
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
        assert!(client_config(None, None).is_ok());
        assert!(webpki_roots::TLS_SERVER_ROOTS.len() > 50);
    }

    #[rstest]
    #[case::nothing("", "")]
    #[case::rubbish("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "sesame")]
    fn an_unusable_client_certificate_is_an_error(#[case] chain: &str, #[case] key: &str) {
        let own = ClientCertificate::pem(chain, key);
        let error = client_config(None, Some(&own)).expect_err("no certificate");
        assert_eq!(error.kind(), ErrorKind::Credentials);
        assert!(!error.report().contains("sesame") && error.remedy().contains("PEM"), "{}", error.report());
    }

    #[rstest]
    #[case::empty("")]
    #[case::text("not a certificate")]
    #[case::broken("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n")]
    #[case::not_x509("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    fn an_unusable_ca_is_an_error(#[case] pem: &str) {
        let error = client_config(Some(pem.as_bytes()), None).expect_err("no certificate");
        assert_eq!(error.exit_code(), 3);
        assert!(error.remedy().contains("PEM"));
    }
}
