//! Reads certificates back: whether one is still good for what it is needed for.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use super::issue::{AUTHORITY_RENEWAL, LEAF_RENEWAL};

/// Why a certificate has to be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Not readable.
    Unreadable,
    /// Ends soon or has ended.
    Expiring,
    /// Signed by another authority than the present one.
    OtherAuthority,
    /// Names are missing.
    Names,
}

/// Whether the authority in `pem` must be replaced.
#[must_use]
pub fn authority_stale(pem: &[u8], now: Timestamp) -> Option<Stale> {
    with_first(pem, |cert| {
        if !cert.is_ca() {
            return Some(Stale::Unreadable);
        }
        expires_within(cert, now, AUTHORITY_RENEWAL).then_some(Stale::Expiring)
    })
}

/// Whether the certificate in `pem` must be replaced: it has to be signed by `authority`, to name all of
/// `names` and not to end soon.
#[must_use]
pub fn leaf_stale(pem: &[u8], authority: &[u8], names: &[String], now: Timestamp) -> Option<Stale> {
    with_first(pem, |cert| {
        let signed = with_first(authority, |ca| {
            cert.verify_signature(Some(ca.public_key())).err().map(|_| Stale::OtherAuthority)
        });
        if signed.is_some() {
            return signed;
        }
        if expires_within(cert, now, LEAF_RENEWAL) {
            return Some(Stale::Expiring);
        }
        let present = dns_names(cert);
        (!names.iter().all(|n| present.contains(n))).then_some(Stale::Names)
    })
}

/// DNS names of the first certificate of `pem`; none when it cannot be read.
#[must_use]
pub fn names(pem: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::pem::parse_x509_pem(pem) else { return Vec::new() };
    parsed.parse_x509().map(|cert| dns_names(&cert)).unwrap_or_default()
}

/// The certificates of the bundle `pem` that have not ended at `now`, without `except`; PEM encoded.
#[must_use]
pub fn still_valid(pem: &[u8], except: &str, now: Timestamp) -> String {
    let except = except.trim();
    let text = String::from_utf8_lossy(pem);
    let mut kept = String::new();
    for block in text.split_inclusive("-----END CERTIFICATE-----") {
        let block = block.trim();
        if block.is_empty() || block == except {
            continue;
        }
        if with_first(block.as_bytes(), |c| {
            expires_within(c, now, SignedDuration::ZERO).then_some(Stale::Expiring)
        })
        .is_none()
        {
            kept.push_str(block);
            kept.push('\n');
        }
    }
    kept
}

/// When the first certificate of `pem` ends.
#[must_use]
pub fn not_after(pem: &[u8]) -> Option<Timestamp> {
    let (_, parsed) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let cert = parsed.parse_x509().ok()?;
    Timestamp::from_second(cert.validity().not_after.timestamp()).ok()
}

fn with_first(pem: &[u8], look: impl FnOnce(&X509Certificate<'_>) -> Option<Stale>) -> Option<Stale> {
    let Ok((_, parsed)) = x509_parser::pem::parse_x509_pem(pem) else {
        return Some(Stale::Unreadable);
    };
    match Pem::parse_x509(&parsed) {
        Ok(cert) => look(&cert),
        Err(_) => Some(Stale::Unreadable),
    }
}

fn expires_within(cert: &X509Certificate<'_>, now: Timestamp, left: SignedDuration) -> bool {
    let end = cert.validity().not_after.timestamp();
    end <= now.as_second().saturating_add(left.as_secs())
}

pub(super) fn dns_names(cert: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(san)) = cert.subject_alternative_name() else { return Vec::new() };
    san.value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::issue::{self, LEAF_VALIDITY, Usage};
    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).expect("in range")
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn a_leaf_is_good_until_it_nears_its_end() {
        let ca = issue::authority("pg", at(0)).unwrap();
        let wanted = names(&["pg-rw", "pg-rw.ns.svc"]);
        let leaf = issue::leaf(&ca, "pg-rw", &wanted, Usage::Server, at(0)).unwrap();
        let check =
            |day| leaf_stale(leaf.certificate.as_bytes(), ca.certificate.as_bytes(), &wanted, at(day));
        assert_eq!(check(0), None);
        assert_eq!(check(59), None);
        assert_eq!(check(61), Some(Stale::Expiring));
        assert_eq!(not_after(leaf.certificate.as_bytes()), Some(at(0) + LEAF_VALIDITY));
    }

    #[test]
    fn a_leaf_needs_its_authority_and_its_names() {
        let ca = issue::authority("pg", at(0)).unwrap();
        let other = issue::authority("pg", at(1)).unwrap();
        let leaf = issue::leaf(&ca, "pg-rw", &names(&["pg-rw"]), Usage::Server, at(0)).unwrap();
        let pem = leaf.certificate.as_bytes();
        assert_eq!(
            leaf_stale(pem, other.certificate.as_bytes(), &names(&["pg-rw"]), at(0)),
            Some(Stale::OtherAuthority)
        );
        assert_eq!(
            leaf_stale(pem, ca.certificate.as_bytes(), &names(&["pg-rw", "pg-2"]), at(0)),
            Some(Stale::Names)
        );
        assert_eq!(leaf_stale(b"junk", ca.certificate.as_bytes(), &[], at(0)), Some(Stale::Unreadable));
        assert_eq!(authority_stale(pem, at(0)), Some(Stale::Unreadable), "a leaf is no authority");
    }

    #[test]
    fn an_old_authority_stays_in_the_bundle_until_it_ends() {
        let old = issue::authority("pg", at(0)).unwrap();
        let renewal = at(9 * 365 + 1);
        assert_eq!(authority_stale(old.certificate.as_bytes(), at(9 * 365 - 1)), None);
        assert_eq!(authority_stale(old.certificate.as_bytes(), renewal), Some(Stale::Expiring));
        let new = issue::authority("pg", renewal).unwrap();
        let bundle = format!("{}{}", new.certificate, old.certificate);
        let kept = still_valid(bundle.as_bytes(), &new.certificate, renewal);
        assert_eq!(kept.trim(), old.certificate.replace("\r\n", "\n").trim());
        assert_eq!(still_valid(bundle.as_bytes(), &new.certificate, at(10 * 365 + 1)), "");
    }

    #[test]
    fn keys_do_not_show() {
        let ca = issue::authority("pg", at(0)).unwrap();
        assert!(!format!("{ca:?}").contains("PRIVATE"));
    }
}
