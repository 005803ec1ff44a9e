//! Certificates that the user gives PostgreSQL: which there are, what is wrong with them, and what is told. Pure.
//!
//! They are PostgreSQL's alone. Operator, managers and the repository host know each other by the operator's own authority
//! whatever is given here, so that a wrong or late certificate can never keep them from each other.
//!
//! Instances do not read the Secrets of the user. They read a copy (`<cluster>-server-in-use`, `<cluster>-replication-in-use`)
//! of what was found to be good here: certificate, key and authority change together, a Secret that is deleted or damaged
//! changes nothing, new instances get what the others have, and the key of an authority stays with the operator.

use std::collections::BTreeMap;
use std::fmt;

use howdah_api::certificates::{CertificatesConfiguration, CertificatesStatus};
use howdah_api::conditions::{self, CERTIFICATES_VALID, FALSE, TRUE};
use howdah_api::{Cluster, ClusterStatus, naming};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::observed::Observed;
use super::validate::{Blocks, Problem};
use crate::pki::given::{self, Fault, Kind, Validity};
use crate::pki::issue::Usage;
use crate::pki::{Pair, inspect};

/// Key of an authority's certificates.
pub const CA_CERT: &str = "ca.crt";
/// Key of an authority's key.
pub const CA_KEY: &str = "ca.key";
/// Key of a certificate.
pub const TLS_CERT: &str = "tls.crt";
/// Key of a certificate's key.
pub const TLS_KEY: &str = "tls.key";

/// What a side was given, found to be good.
#[derive(Clone)]
pub enum Given {
    /// A certificate.
    Leaf {
        /// With its key.
        pair: Pair,
        /// Where it comes from.
        authority: String,
    },
    /// An authority with its key: the certificate is made from it.
    Issuer(Pair),
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leaf { .. } => "Leaf",
            Self::Issuer(_) => "Issuer",
        })
    }
}

impl Given {
    /// The certificates of the authority.
    #[must_use]
    pub fn authority(&self) -> &str {
        match self {
            Self::Leaf { authority, .. } => authority,
            Self::Issuer(pair) => &pair.certificate,
        }
    }
}

/// What a person should know, though nothing is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Short reason.
    pub reason: &'static str,
    /// In words.
    pub message: String,
}

/// The server's certificate, or that of clients.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// What was given; `None` when nothing was.
    pub given: Option<Result<Given, Problem>>,
    /// Secrets of authority and certificate, as the specification names them.
    named: (Option<String>, Option<String>),
}

/// What the specification says about certificates, and what its Secrets hold.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// The server's.
    pub server: Side,
    /// The replicas', and the authority of all clients.
    pub client: Side,
    /// Further names for the server certificate.
    pub alt_names: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<Warning>,
}

impl Certificates {
    /// What is wrong.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        [&self.server, &self.client].into_iter().filter_map(|side| side.given.as_ref()?.as_ref().err())
    }

    fn any_given(&self) -> bool {
        self.server.given.is_some() || self.client.given.is_some()
    }
}

/// Names of the Secrets that a look at the certificates of `cluster` needs, besides the operator's own.
#[must_use]
pub fn secret_names(cluster: &Cluster) -> Vec<String> {
    let name = cluster.name_any();
    let spec = cluster.spec.certificates.as_ref();
    let used = cluster.status.as_ref().and_then(|s| s.certificates.as_ref());
    let mut names: Vec<String> =
        spec.into_iter().flat_map(CertificatesConfiguration::secret_names).cloned().collect();
    if spec.is_some_and(CertificatesConfiguration::names_server)
        || used.is_some_and(|u| u.server_is_given(&name))
    {
        names.push(naming::server_in_use(&name));
    }
    if spec.is_some_and(CertificatesConfiguration::names_client)
        || used.is_some_and(|u| u.client_is_given(&name))
    {
        names.push(naming::replication_in_use(&name));
    }
    names
}

/// Looks at what is given.
#[must_use]
pub fn look(observed: &Observed) -> Certificates {
    let spec = observed.cluster.spec.certificates.clone().unwrap_or_default();
    let mut found = Certificates { alt_names: spec.server_alt_dns_names, ..Certificates::default() };
    let mut sides = [
        (Usage::Server, spec.server_ca_secret, spec.server_tls_secret, Side::default()),
        (Usage::Client, spec.client_ca_secret, spec.replication_tls_secret, Side::default()),
    ];
    for (usage, authority, leaf, side) in &mut sides {
        side.named = (authority.clone(), leaf.clone());
        // A certificate without its authority is refused by the schema.
        let Some(authority) = authority else { continue };
        let looking = Looking { observed, usage: *usage };
        side.given = Some(looking.at(authority, leaf.as_deref(), &mut found.warnings));
    }
    let [(.., server), (.., client)] = sides;
    (found.server, found.client) = (server, client);
    found
}

struct Looking<'a> {
    observed: &'a Observed,
    usage: Usage,
}

impl<'a> Looking<'a> {
    /// Names of the two fields of the specification.
    fn fields(&self) -> (&'static str, &'static str) {
        match self.usage {
            Usage::Server => ("serverCASecret", "serverTLSSecret"),
            Usage::Client => ("clientCASecret", "replicationTLSSecret"),
        }
    }

    fn at(&self, authority: &str, leaf: Option<&str>, warnings: &mut Vec<Warning>) -> Result<Given, Problem> {
        let (ca_field, leaf_field) = self.fields();
        for (name, field) in [(Some(authority), ca_field), (leaf, leaf_field)] {
            if let Some(name) = name
                && own_names(&self.observed.cluster.name_any()).iter().any(|own| own == name)
            {
                let what = "is made by the operator itself; name another one, or leave the field out";
                return Err(self.problem("CertificateInvalid", name, field, what));
            }
        }
        let bundle = self.value(authority, ca_field, CA_CERT)?;
        let of_authority = |fault: Fault| self.fault(authority, ca_field, &fault);
        let now = self.observed.now;
        let valid = given::authority(bundle, now).map_err(of_authority)?;
        self.warn_of_end(authority, ca_field, valid, warnings);
        let Some(leaf) = leaf else {
            let key = self.value(authority, ca_field, CA_KEY).map_err(|problem| Problem {
                message: format!(
                    "{}; without ca.key no certificate can be issued from this authority: add it, or give {leaf_field}",
                    problem.message
                ),
                ..problem
            })?;
            return given::signer(bundle, key).map(Given::Issuer).map_err(of_authority);
        };
        let (pem, key) = (self.value(leaf, leaf_field, TLS_CERT)?, self.value(leaf, leaf_field, TLS_KEY)?);
        let seen = given::leaf(pem, key, bundle, self.usage, now)
            .map_err(|fault| self.fault(leaf, leaf_field, &fault))?;
        self.warn_of_end(leaf, leaf_field, seen.validity, warnings);
        if self.usage == Usage::Server {
            warnings.extend(self.missing_names(leaf, leaf_field, &seen.names));
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Given::Leaf { pair: Pair { certificate: text(pem), key: text(key) }, authority: text(bundle) })
    }

    fn value(&self, secret: &str, field: &str, key: &str) -> Result<&'a [u8], Problem> {
        let Some(found) = self.observed.secrets.get(secret) else {
            let what = format!("does not exist; create it in the cluster's namespace with the key {key}");
            return Err(self.problem("SecretNotFound", secret, field, &what));
        };
        let value = bytes(found, key);
        if value.is_empty() {
            let what = format!("has no key {key}, or it is empty; add it");
            return Err(self.problem("SecretKeyNotFound", secret, field, &what));
        }
        Ok(value)
    }

    fn fault(&self, secret: &str, field: &str, fault: &Fault) -> Problem {
        let reason = match fault.kind {
            Kind::Invalid => "CertificateInvalid",
            Kind::Expired => "CertificateExpired",
        };
        self.problem(reason, secret, field, &fault.text)
    }

    fn problem(&self, reason: &'static str, secret: &str, field: &str, what: &str) -> Problem {
        // A cluster that runs is not taken down for it, and its instances have a copy of what was good.
        let (blocks, end) = match self.observed.initialised() {
            true => (
                Blocks::Certificates,
                "; meanwhile PostgreSQL goes on with the certificates that it has; see docs/runbook/certificates.md",
            ),
            false => (Blocks::Instances, ""),
        };
        let what = match what.starts_with("key ") || what.starts_with("the ") || what.starts_with("an ") {
            true => format!(": {what}"),
            false => format!(" {what}"),
        };
        Problem { blocks, reason, message: format!("Secret {secret} (certificates.{field}){what}{end}") }
    }

    fn warn_of_end(&self, secret: &str, field: &str, validity: Validity, warnings: &mut Vec<Warning>) {
        if validity.ends_soon(self.observed.now) {
            warnings.push(Warning {
                reason: "CertificateExpiring",
                message: format!(
                    "the certificate in Secret {secret} (certificates.{field}) ends at {}; whoever made it must put a new one there before",
                    validity.ends
                ),
            });
        }
    }

    /// Clients that look at the name reach nothing through a service that the certificate does not name.
    fn missing_names(&self, secret: &str, field: &str, names: &[String]) -> Option<Warning> {
        let (cluster, namespace) =
            (self.observed.cluster.name_any(), self.observed.cluster.namespace().unwrap_or_default());
        let services =
            [naming::service_rw(&cluster), naming::service_ro(&cluster), naming::service_r(&cluster)];
        let named = |service: &String| {
            let forms = super::build::secrets::service_names(service.clone(), &namespace);
            forms.iter().any(|form| given::covers(names, form))
        };
        let missing: Vec<String> = services.into_iter().filter(|service| !named(service)).collect();
        (!missing.is_empty()).then(|| Warning {
            reason: "ServerNamesMissing",
            message: format!(
                "the certificate in Secret {secret} (certificates.{field}) is for {}, not for the services {}: clients with \
                 sslmode=verify-full cannot use these; make one with names such as {}.{namespace}.svc",
                names.join(", "),
                missing.join(", "),
                missing[0]
            ),
        })
    }
}

/// Secrets that the operator writes.
fn own_names(cluster: &str) -> [String; 7] {
    [
        naming::ca_secret(cluster),
        naming::server_secret(cluster),
        naming::replication_secret(cluster),
        naming::operator_secret(cluster),
        naming::server_in_use(cluster),
        naming::replication_in_use(cluster),
        naming::repo_host(cluster),
    ]
}

fn bytes<'a>(secret: &'a Secret, key: &str) -> &'a [u8] {
    secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[], |value| value.0.as_slice())
}

/// Folds what is in use, and the condition, into `status`.
pub fn fold(found: &Certificates, observed: &Observed, now: Timestamp, status: &mut ClusterStatus) {
    status.certificates = in_use(found, observed);
    if !found.any_given() {
        status.conditions.retain(|condition| condition.type_ != CERTIFICATES_VALID);
        return;
    }
    let (value, reason, message) = verdict(found);
    let generation = observed.cluster.metadata.generation;
    let now = Time(crate::clock::to_seconds(now));
    conditions::set(&mut status.conditions, CERTIFICATES_VALID, value, reason, &message, generation, now);
}

/// When the first of the certificates that PostgreSQL uses ends, Unix seconds.
#[must_use]
pub fn first_end(status: &ClusterStatus) -> Option<i64> {
    status.certificates.as_ref()?.expirations.values().map(|time| time.0.as_second()).min()
}

fn verdict(found: &Certificates) -> (&'static str, &'static str, String) {
    let problems = found.problems().map(|p| (p.reason, p.message.as_str()));
    let warnings = found.warnings.iter().map(|w| (w.reason, w.message.as_str()));
    let all: Vec<(&'static str, &str)> = problems.chain(warnings).collect();
    let Some((reason, _)) = all.first() else {
        return (TRUE, "CertificatesValid", "the certificates that were provided are valid".to_owned());
    };
    let message = all.iter().map(|(_, message)| *message).collect::<Vec<_>>().join("; ");
    (FALSE, *reason, message)
}

/// Names of the Secrets of a side that are in use.
type Names = (Option<String>, Option<String>);

fn in_use(found: &Certificates, observed: &Observed) -> Option<CertificatesStatus> {
    let cluster = observed.cluster.name_any();
    let before = observed.status().certificates.unwrap_or_default();
    let secret = |name: &str| observed.secrets.get(name);
    let (server_copy, client_copy) = (naming::server_in_use(&cluster), naming::replication_in_use(&cluster));
    let own = |leaf: String| (Some(naming::ca_secret(&cluster)), Some(leaf));
    let own_server = own(naming::server_secret(&cluster));
    let own_client = own(naming::replication_secret(&cluster));
    let was = |given: bool, names: Names| given.then_some(names);
    let server = names(
        &found.server,
        (&server_copy, secret(&server_copy)),
        was(
            before.server_is_given(&cluster),
            (before.server_ca_secret.clone(), before.server_tls_secret.clone()),
        ),
        own_server.clone(),
    );
    let client = names(
        &found.client,
        (&client_copy, secret(&client_copy)),
        was(
            before.client_is_given(&cluster),
            (before.client_ca_secret.clone(), before.replication_tls_secret.clone()),
        ),
        own_client.clone(),
    );
    let mut expirations = BTreeMap::new();
    for (names, own, copy) in [(&server, own_server, &server_copy), (&client, own_client, &client_copy)] {
        // What counts is what PostgreSQL has, and that is in the copy.
        let copy = (*names != own).then_some(copy);
        for (name, key) in [(&names.0, CA_CERT), (&names.1, TLS_CERT)] {
            let Some(name) = name else { continue };
            let pem = secret(copy.unwrap_or(name)).map(|s| bytes(s, key));
            let Some(ends) = pem.and_then(inspect::not_after) else { continue };
            let known = expirations.entry(name.clone()).or_insert(Time(ends));
            known.0 = known.0.min(ends);
        }
    }
    if expirations.is_empty() {
        // Nothing was made yet.
        return observed.status().certificates;
    }
    Some(CertificatesStatus {
        server_ca_secret: server.0,
        server_tls_secret: server.1,
        client_ca_secret: client.0,
        replication_tls_secret: client.1,
        server_alt_dns_names: found.alt_names.clone(),
        expirations,
    })
}

/// What is given is in use when the copy has it; until then it is what was in use before.
fn names(
    side: &Side,
    (copy_name, copy): (&String, Option<&Secret>),
    before: Option<Names>,
    own: Names,
) -> Names {
    let has = |key: &str, wanted: &str| copy.is_some_and(|copy| bytes(copy, key) == wanted.as_bytes());
    let filled = copy.is_some_and(|copy| !bytes(copy, TLS_CERT).is_empty());
    let taken_up = match &side.given {
        Some(Ok(Given::Leaf { pair, authority })) => {
            has(TLS_CERT, &pair.certificate) && has(TLS_KEY, &pair.key) && has(CA_CERT, authority)
        }
        Some(Ok(issuer @ Given::Issuer(_))) => filled && has(CA_CERT, issuer.authority()),
        Some(Err(_)) => false,
        // The copy is emptied when nothing is given any more.
        None if filled => return before.unwrap_or(own),
        None => return own,
    };
    if !taken_up {
        return before.unwrap_or(own);
    }
    let (authority, leaf) = side.named.clone();
    (authority, leaf.or_else(|| Some(copy_name.clone())))
}
