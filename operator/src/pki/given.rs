//! Judges certificates that somebody else has made, as PostgreSQL and its clients will: what they refuse is told before they
//! get it. Times come in from outside, and no text here holds key material.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use super::Pair;
use super::inspect::dns_names;
use super::issue::Usage;

/// One that has less time left is told of, or a quarter of its whole time when that is less: what renews certificates by
/// itself does so before.
const WARNING: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Longest way from a certificate to its root.
const LONGEST_CHAIN: usize = 10;
/// Which keys can be used.
const KEYS: &str =
    "a PEM private key that is not encrypted: RSA from 2048 bits, ECDSA P-256 or P-384, or Ed25519";

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It cannot be used.
    Invalid,
    /// It could be used before.
    Expired,
}

/// What is wrong with one key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kind.
    pub kind: Kind,
    /// In words that follow the name of the Secret; with the remedy.
    pub text: String,
}

impl Fault {
    fn invalid(text: impl Into<String>) -> Self {
        Self { kind: Kind::Invalid, text: text.into() }
    }
}

/// When something begins and ends to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    begins: Timestamp,
    /// End.
    pub ends: Timestamp,
}

impl Validity {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let at = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        Self { begins: at(validity.not_before.timestamp()), ends: at(validity.not_after.timestamp()) }
    }

    /// Whether it ends so soon that a person should know.
    #[must_use]
    pub fn ends_soon(&self, now: Timestamp) -> bool {
        let quarter = self.ends.duration_since(self.begins).checked_div(4).unwrap_or(WARNING);
        self.ends.duration_since(now) < WARNING.min(quarter)
    }

    fn check(&self, now: Timestamp, what: &str, remedy: &str) -> Result<(), Fault> {
        if self.begins > now {
            let text = format!("{what} is not valid before {}; {remedy}, or look at the clocks", self.begins);
            return Err(Fault::invalid(text));
        }
        if self.ends <= now {
            let text = format!("{what} has ended at {}; {remedy}", self.ends);
            return Err(Fault { kind: Kind::Expired, text });
        }
        Ok(())
    }
}

/// What matters of a certificate that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// When it is valid.
    pub validity: Validity,
    /// DNS names that it is for; the common name when there are none, as libpq has it.
    pub names: Vec<String>,
}

/// The certificates in `pem`, which is in the key `key`.
fn blocks(pem: &[u8], key: &str) -> Result<Vec<Pem>, Fault> {
    let wrong = || {
        let text = format!("key {key} is damaged: it must hold certificates in PEM form; write it again");
        Fault::invalid(text)
    };
    let all = Pem::iter_from_buffer(pem).collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
    let found: Vec<Pem> = all.into_iter().filter(|block| block.label == "CERTIFICATE").collect();
    if found.is_empty() {
        let text = format!("key {key} holds no certificate in PEM form; put it there");
        return Err(Fault::invalid(text));
    }
    Ok(found)
}

fn parsed<'a>(blocks: &'a [Pem], key: &str) -> Result<Vec<X509Certificate<'a>>, Fault> {
    let read = |block: &'a Pem| {
        block.parse_x509().map_err(|_| {
            Fault::invalid(format!("key {key} holds something that is no X.509 certificate; write it again"))
        })
    };
    blocks.iter().map(read).collect()
}

/// Looks at the authority in `bundle` (the key `ca.crt`); tells when the first of its certificates is valid.
///
/// # Errors
/// What is wrong with it.
pub fn authority(bundle: &[u8], now: Timestamp) -> Result<Validity, Fault> {
    let blocks = blocks(bundle, "ca.crt")?;
    let all = parsed(&blocks, "ca.crt")?;
    // A certificate that signs itself may be its own authority.
    let may_sign = |c: &&X509Certificate<'_>| c.is_ca() || self_issued(c);
    let first = all.iter().find(may_sign).ok_or_else(|| {
        Fault::invalid(
            "key ca.crt holds no certificate of an authority; put the one there that signs the others",
        )
    })?;
    let validity = Validity::of(first);
    validity.check(now, "the authority in key ca.crt", "put the new one there")?;
    Ok(validity)
}

/// The authority in `bundle` with its key (`ca.crt` and `ca.key`), to issue certificates from.
///
/// # Errors
/// What is wrong with the key.
pub fn signer(bundle: &[u8], key: &[u8]) -> Result<Pair, Fault> {
    let blocks = blocks(bundle, "ca.crt")?;
    let all = parsed(&blocks, "ca.crt")?;
    let unusable = || {
        Fault::invalid(
            "key ca.key is no PKCS#8 private key without a passphrase; convert it: openssl pkcs8 -topk8 -nocrypt -in ca.key",
        )
    };
    let text = std::str::from_utf8(key).map_err(|_| unusable())?;
    rcgen::KeyPair::from_pem(text).map_err(|_| unusable())?;
    let first = all.first().filter(|first| first.is_ca()).ok_or_else(|| {
        Fault::invalid(
            "the first certificate in key ca.crt is none of an authority; put that of ca.key first",
        )
    })?;
    if public_key(key, "ca.key")? != first.public_key().raw {
        let text =
            "key ca.key does not belong to the first certificate in key ca.crt; put that of ca.key first";
        return Err(Fault::invalid(text));
    }
    Ok(Pair { certificate: String::from_utf8_lossy(bundle).into_owned(), key: text.to_owned() })
}

/// What servers and clients have to send with a certificate that was issued by the first certificate of `bundle`: nothing
/// when that is a root, else the way there.
#[must_use]
pub fn intermediates(bundle: &str) -> &str {
    let Ok((_, first)) = x509_parser::pem::parse_x509_pem(bundle.as_bytes()) else { return "" };
    match first.parse_x509() {
        Ok(first) if !self_issued(&first) => bundle,
        _ => "",
    }
}

/// Looks at the certificate in `pem` (the key `tls.crt`) with its key (`tls.key`), which shall come from `authority`
/// (`ca.crt`, which was looked at before).
///
/// # Errors
/// What is wrong with it.
pub fn leaf(pem: &[u8], key: &[u8], authority: &[u8], usage: Usage, now: Timestamp) -> Result<Leaf, Fault> {
    let (chain, trusted) = (blocks(pem, "tls.crt")?, blocks(authority, "ca.crt")?);
    let (chain, trusted) = (parsed(&chain, "tls.crt")?, parsed(&trusted, "ca.crt")?);
    let [first, between @ ..] = chain.as_slice() else {
        return Err(Fault::invalid("key tls.crt holds no certificate; put it there"));
    };
    if public_key(key, "tls.key")? != first.public_key().raw {
        let text = "key tls.key does not belong to the first certificate in key tls.crt; put both there again, the \
                    certificate before its intermediates";
        return Err(Fault::invalid(text));
    }
    let validity = Validity::of(first);
    validity.check(now, "the certificate in key tls.crt", "put a new one there")?;
    chained(first, between, &trusted, now)?;
    used_for(first, usage)?;
    let common_name = first.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    if usage == Usage::Client && common_name != Some(howdah_api::naming::REPLICATION_USER) {
        let text = format!(
            "the certificate in key tls.crt has the common name {:?}; replicas need one with the common name {}",
            common_name.unwrap_or_default(),
            howdah_api::naming::REPLICATION_USER
        );
        return Err(Fault::invalid(text));
    }
    let mut names = dns_names(first);
    if names.is_empty() {
        names.extend(common_name.map(str::to_owned));
    }
    Ok(Leaf { validity, names })
}

/// Whether one of `names`, which may begin with `*.`, is `wanted`.
#[must_use]
pub fn covers(names: &[String], wanted: &str) -> bool {
    let parent = wanted.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| {
        let wild = name.strip_prefix("*.").zip(parent);
        name.eq_ignore_ascii_case(wanted)
            || wild.is_some_and(|(rest, parent)| rest.eq_ignore_ascii_case(parent))
    })
}

fn self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// The public half of a private key, as it stands in certificates.
fn public_key(pem: &[u8], key: &str) -> Result<Vec<u8>, Fault> {
    let wrong = || Fault::invalid(format!("key {key} cannot be used; it must be {KEYS}"));
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| wrong())?;
    let signing = rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| wrong())?;
    Ok(signing.public_key().ok_or_else(wrong)?.as_ref().to_vec())
}

/// Follows the signatures from `first` over `between` to a root among `trusted`: OpenSSL ends at nothing less.
fn chained(
    first: &X509Certificate<'_>,
    between: &[X509Certificate<'_>],
    trusted: &[X509Certificate<'_>],
    now: Timestamp,
) -> Result<(), Fault> {
    let mut current = first;
    for _ in 0..LONGEST_CHAIN {
        let issued = |issuer: &&X509Certificate<'_>| {
            issuer.subject().as_raw() == current.issuer().as_raw()
                && current.verify_signature(Some(issuer.public_key())).is_ok()
        };
        let (found, place) = match trusted.iter().find(issued) {
            Some(found) => (found, "ca.crt"),
            None => match between.iter().find(issued) {
                Some(found) => (found, "tls.crt"),
                None => break,
            },
        };
        let what = format!("an authority of the certificate, in key {place},");
        Validity::of(found).check(now, &what, "put the new one there")?;
        if place == "ca.crt" && self_issued(found) {
            return Ok(());
        }
        current = found;
    }
    Err(Fault::invalid(format!(
        "the certificate in key tls.crt does not lead to a root in key ca.crt of its authority: nothing there signed {}; put \
         the intermediates behind the certificate and the root into ca.crt, or a certificate of that authority into tls.crt",
        current.subject()
    )))
}

/// A certificate that says what it is for must be for this.
fn used_for(certificate: &X509Certificate<'_>, usage: Usage) -> Result<(), Fault> {
    let Ok(Some(extension)) = certificate.extended_key_usage() else { return Ok(()) };
    let (fits, word) = match usage {
        Usage::Server => (extension.value.server_auth, "serverAuth"),
        Usage::Client => (extension.value.client_auth, "clientAuth"),
    };
    if fits || extension.value.any {
        return Ok(());
    }
    let text =
        format!("the certificate in key tls.crt is not for {word}; make one with that extended key usage");
    Err(Fault::invalid(text))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::issue::{self, LEAF_VALIDITY};
    use super::*;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    fn made(usage: Usage, name: &str) -> (Pair, Pair) {
        let ca = issue::authority("pg", at(0)).unwrap();
        let names = ["pg-rw".to_owned(), "*.park.svc".to_owned()];
        let names = if usage == Usage::Server { &names[..] } else { &[] };
        let leaf = issue::leaf(&ca, name, names, usage, at(0)).unwrap();
        (ca, leaf)
    }

    fn judged(ca: &Pair, leaf: &Pair, usage: Usage, day: i64) -> Result<Leaf, Fault> {
        super::leaf(
            leaf.certificate.as_bytes(),
            leaf.key.as_bytes(),
            ca.certificate.as_bytes(),
            usage,
            at(day),
        )
    }

    fn said<T: std::fmt::Debug>(result: Result<T, Fault>, kind: Kind, words: &str) {
        let fault = result.unwrap_err();
        assert_eq!(fault.kind, kind, "{fault:?}");
        assert!(fault.text.contains(words), "{words:?} is not in {:?}", fault.text);
        assert!(!fault.text.contains("PRIVATE"), "{}", fault.text);
    }

    #[test]
    fn a_good_one_says_what_it_is_for() {
        let (ca, pair) = made(Usage::Server, "pg-rw");
        let leaf = judged(&ca, &pair, Usage::Server, 1).unwrap();
        assert_eq!((leaf.validity.ends, leaf.names.len()), (at(0) + LEAF_VALIDITY, 2));
        let (ca, pair) = made(Usage::Client, "streaming_replica");
        assert_eq!(judged(&ca, &pair, Usage::Client, 1).unwrap().names, ["streaming_replica"]);
        assert!(authority(ca.certificate.as_bytes(), at(0)).is_ok());
        assert!(signer(ca.certificate.as_bytes(), ca.key.as_bytes()).is_ok());
        assert_eq!(intermediates(&ca.certificate), "");
        assert_eq!(intermediates(&pair.certificate), pair.certificate, "no root");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        let (ca, pair) = made(Usage::Server, "pg-rw");
        let (other_ca, other) = made(Usage::Server, "pg-rw");
        said(
            judged(&other_ca, &pair, Usage::Server, 1),
            Kind::Invalid,
            "does not lead to a root in key ca.crt",
        );
        let mixed = Pair { certificate: pair.certificate.clone(), key: other.key.clone() };
        said(judged(&ca, &mixed, Usage::Server, 1), Kind::Invalid, "tls.key does not belong to");
        said(judged(&ca, &pair, Usage::Server, 91), Kind::Expired, "has ended at 2027-04-15");
        said(judged(&ca, &pair, Usage::Server, -1), Kind::Invalid, "is not valid before");
        said(judged(&ca, &pair, Usage::Client, 1), Kind::Invalid, "not for clientAuth");
        let (ca, client) = made(Usage::Client, "somebody");
        said(judged(&ca, &client, Usage::Client, 1), Kind::Invalid, "the common name \"somebody\"");
        let junk = Pair { certificate: "junk".into(), key: client.key.clone() };
        said(judged(&ca, &junk, Usage::Client, 1), Kind::Invalid, "tls.crt holds no certificate");
        let cut = Pair { certificate: client.certificate[..120].to_owned(), key: client.key.clone() };
        said(judged(&ca, &cut, Usage::Client, 1), Kind::Invalid, "tls.crt is damaged");
        let junk = Pair { certificate: client.certificate.clone(), key: "junk".into() };
        said(judged(&ca, &junk, Usage::Client, 1), Kind::Invalid, "tls.key cannot be used");
    }

    #[test]
    fn an_authority_must_be_one_and_have_its_own_key() {
        let (ca, pair) = made(Usage::Client, "streaming_replica");
        let (other, _) = made(Usage::Client, "streaming_replica");
        said(authority(pair.certificate.as_bytes(), at(0)), Kind::Invalid, "no certificate of an authority");
        said(authority(ca.certificate.as_bytes(), at(3651)), Kind::Expired, "ca.crt has ended");
        said(
            signer(ca.certificate.as_bytes(), other.key.as_bytes()),
            Kind::Invalid,
            "ca.key does not belong",
        );
        said(signer(ca.certificate.as_bytes(), b"junk"), Kind::Invalid, "openssl pkcs8 -topk8");
        // Two of them, as while one takes the place of the other.
        let both = format!("{}{}", other.certificate, ca.certificate);
        assert!(authority(both.as_bytes(), at(0)).is_ok());
        let both = Pair { certificate: both, key: String::new() };
        assert!(judged(&both, &pair, Usage::Client, 1).is_ok());
    }

    #[test]
    fn a_chain_over_an_intermediate_ends_at_a_root() {
        use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
        let ca = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = ca("root").self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(ca("root"), root_key);
        let middle = ca("middle").signed_by(&key, &root_issuer).unwrap();
        let signing = Pair { certificate: middle.pem(), key: key.serialize_pem() };
        let pair = issue::leaf(&signing, "pg-rw", &["pg-rw".to_owned()], Usage::Server, at(0)).unwrap();
        let root = Pair { certificate: root.pem(), key: String::new() };
        said(judged(&root, &pair, Usage::Server, 1), Kind::Invalid, "nothing there signed CN=pg-rw");
        let whole =
            Pair { certificate: format!("{}{}", pair.certificate, middle.pem()), key: pair.key.clone() };
        assert!(judged(&root, &whole, Usage::Server, 1).is_ok());
        let middle_only = Pair { certificate: middle.pem(), key: String::new() };
        said(judged(&middle_only, &pair, Usage::Server, 1), Kind::Invalid, "does not lead to a root");
        assert_eq!(intermediates(&middle.pem()), middle.pem());
    }

    #[rstest]
    #[case::itself("pg-rw", true)]
    #[case::in_any_case("PG-RW", true)]
    #[case::one_label("pg-rw.park.svc", true)]
    #[case::two_labels("x.pg-rw.park.svc", false)]
    #[case::another("pg-ro", false)]
    fn names(#[case] wanted: &str, #[case] expected: bool) {
        assert_eq!(covers(&["pg-rw".to_owned(), "*.park.svc".to_owned()], wanted), expected);
    }

    #[rstest]
    #[case::three_months(90, 80, false)]
    #[case::its_last_week(90, 84, true)]
    #[case::half_a_short_one(4, 2, false)]
    #[case::the_end_of_a_short_one(4, 3, true)]
    fn soon(#[case] days: i64, #[case] today: i64, #[case] expected: bool) {
        let validity = Validity { begins: at(0), ends: at(days) };
        let an_hour = SignedDuration::from_hours(1);
        assert_eq!(validity.ends_soon(at(today) + an_hour), expected);
    }
}
