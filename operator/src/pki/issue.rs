//! Makes certificates. Times come in from outside.

use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{Pair, PkiError};

/// How long an authority is valid.
pub const AUTHORITY_VALIDITY: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// An authority with less time left is replaced; the old one stays trusted until it ends.
pub const AUTHORITY_RENEWAL: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How long the certificates below it are valid.
pub const LEAF_VALIDITY: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A certificate with less time left is replaced.
pub const LEAF_RENEWAL: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Certificates begin this much before they are made, so that clocks may differ a little.
const BACKDATE: SignedDuration = SignedDuration::from_mins(10);

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Presented by a server.
    Server,
    /// Presented by a client.
    Client,
}

fn stamp(params: &mut CertificateParams, now: Timestamp, validity: SignedDuration) {
    let at = |t: Timestamp| {
        let seconds = u64::try_from(t.as_second()).unwrap_or(0);
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    params.not_before = at(now.saturating_sub(BACKDATE).unwrap_or(now));
    params.not_after = at(now.saturating_add(validity).unwrap_or(now));
}

/// A new self-signed authority for `cluster`. The time is part of its name, so that an old and a new one differ.
pub fn authority(cluster: &str, now: Timestamp) -> Result<Pair, PkiError> {
    let wrap = |source| PkiError::Issue { what: "certificate authority", source };
    let key = KeyPair::generate().map_err(wrap)?;
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(wrap)?;
    params.distinguished_name.push(DnType::OrganizationName, "Howdah");
    params.distinguished_name.push(DnType::CommonName, format!("{cluster} {}", now.as_second()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    stamp(&mut params, now, AUTHORITY_VALIDITY);
    let certificate = params.self_signed(&key).map_err(wrap)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A certificate signed by `ca`, for `names` and with the common name `common_name`.
pub fn leaf(
    ca: &Pair,
    common_name: &str,
    names: &[String],
    usage: Usage,
    now: Timestamp,
) -> Result<Pair, PkiError> {
    let what = match usage {
        Usage::Server => "server certificate",
        Usage::Client => "client certificate",
    };
    let wrap = |source| PkiError::Issue { what, source };
    let ca_key = KeyPair::from_pem(&ca.key).map_err(PkiError::Authority)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key).map_err(PkiError::Authority)?;
    let key = KeyPair::generate().map_err(wrap)?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(wrap)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    stamp(&mut params, now, LEAF_VALIDITY);
    let certificate = params.signed_by(&key, &issuer).map_err(wrap)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}
