//! Secrets that the operator makes: logins and certificates. Random bytes and the time come in from outside.

use std::collections::BTreeMap;

use howdah_api::{Cluster, naming};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::child_meta;
use crate::controllers::cluster::certificates::{CA_CERT, CA_KEY, Given, Side, TLS_CERT, TLS_KEY};
use crate::controllers::cluster::observed::Observed;
use crate::controllers::cluster::validate::Validated;
use crate::pki::given;
use crate::pki::inspect::{self, Stale};
use crate::pki::issue::{self, Usage};
use crate::pki::{Pair, PkiError};

/// A Secret to write, and how.
pub struct Write {
    /// The Secret.
    pub secret: Secret,
    /// What is there already stays (logins); else it is replaced (certificates).
    pub keep_existing: bool,
    /// Why.
    pub reason: String,
}

/// Secrets that are missing or have to be renewed. `password` makes a fresh password at each call.
pub fn secrets(
    validated: &Validated,
    observed: &Observed,
    latest_serial: i32,
    now: Timestamp,
    password: &mut dyn FnMut() -> String,
) -> Result<Vec<Write>, PkiError> {
    let mut writes = logins(validated, observed, password);
    writes.extend(certificates(validated, observed, latest_serial, now)?);
    writes.extend(copies(validated, observed, latest_serial, now)?);
    Ok(writes)
}

fn logins(validated: &Validated, observed: &Observed, password: &mut dyn FnMut() -> String) -> Vec<Write> {
    let cluster = &observed.cluster;
    let spec = &cluster.spec;
    let mut wanted: Vec<(String, String, String)> = Vec::new();
    if spec.superuser_access() && spec.superuser_secret.is_none() {
        wanted.push((naming::superuser_secret(&validated.name), "postgres".into(), "postgres".into()));
    }
    if let Some(app) = &validated.application
        && app.secret.is_none()
    {
        wanted.push((naming::app_secret(&validated.name), app.owner.clone(), app.database.clone()));
    }
    wanted
        .into_iter()
        .filter(|(name, ..)| !observed.secrets.contains_key(name))
        .map(|(name, user, database)| Write {
            secret: login(cluster, name, &user, &database, &password()),
            keep_existing: true,
            reason: format!("login of {user}"),
        })
        .collect()
}

fn login(cluster: &Cluster, name: String, user: &str, database: &str, password: &str) -> Secret {
    let host = naming::service_rw(&cluster.name_any());
    let namespace = cluster.namespace().unwrap_or_default();
    let port = naming::POSTGRES_PORT;
    let encode = percent_encode;
    let uri = format!(
        "postgresql://{}:{}@{host}.{namespace}:{port}/{}",
        encode(user),
        encode(password),
        encode(database)
    );
    let field = |s: &str| s.replace('\\', "\\\\").replace(':', "\\:");
    let pgpass = format!("{host}:{port}:{}:{}:{}\n", field(database), field(user), field(password));
    let data = [
        ("username", user.to_owned()),
        ("password", password.to_owned()),
        ("dbname", database.to_owned()),
        ("host", host.clone()),
        ("port", port.to_string()),
        ("uri", uri),
        ("pgpass", pgpass),
    ];
    secret(cluster, name, "kubernetes.io/basic-auth", data.map(|(k, v)| (k, v.into_bytes())))
}

/// Everything but unreserved characters as `%XX` (RFC 3986).
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn secret<const N: usize>(
    cluster: &Cluster,
    name: String,
    type_: &str,
    data: [(&str, Vec<u8>); N],
) -> Secret {
    Secret {
        metadata: child_meta(cluster, name),
        type_: Some(type_.to_owned()),
        data: Some(data.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v))).collect::<BTreeMap<_, _>>()),
        ..Secret::default()
    }
}

fn bytes<'a>(observed: &'a Observed, secret: &str, key: &str) -> &'a [u8] {
    observed
        .secrets
        .get(secret)
        .and_then(|s| s.data.as_ref())
        .and_then(|d| d.get(key))
        .map_or(&[], |v| v.0.as_slice())
}

/// Names that the server certificate must bear: the services in all forms, the instances, and those that the user adds.
#[must_use]
pub fn server_names(validated: &Validated, latest_serial: i32) -> Vec<String> {
    let (cluster, namespace) = (&validated.name, &validated.namespace);
    let mut names = Vec::new();
    for service in [naming::service_rw(cluster), naming::service_ro(cluster), naming::service_r(cluster)] {
        names.extend(service_names(service, namespace));
    }
    names.extend((1..=latest_serial).map(|serial| naming::instance(cluster, serial)));
    names.extend(validated.certificates.alt_names.iter().cloned());
    names
}

/// Names that the certificate of the repository host must bear.
#[must_use]
pub fn repo_host_names(validated: &Validated) -> Vec<String> {
    let names = service_names(naming::repo_host(&validated.name), &validated.namespace);
    names.into_iter().chain([naming::repo_host_pod(&validated.name)]).collect()
}

/// A service in all forms.
#[must_use]
pub fn service_names(service: String, namespace: &str) -> [String; 4] {
    [
        format!("{service}.{namespace}"),
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        service,
    ]
}

fn certificates(
    validated: &Validated,
    observed: &Observed,
    latest_serial: i32,
    now: Timestamp,
) -> Result<Vec<Write>, PkiError> {
    let cluster = &observed.cluster;
    let name = &validated.name;
    let mut writes = Vec::new();
    let ca_name = naming::ca_secret(name);
    let present = bytes(observed, &ca_name, CA_CERT);
    let stale = if observed.secrets.contains_key(&ca_name) {
        inspect::authority_stale(present, now).map(why)
    } else {
        Some("there is none")
    };
    let (authority, bundle) = match stale {
        None => {
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            let key = text(bytes(observed, &ca_name, CA_KEY));
            (Pair { certificate: text(present), key }, present.to_vec())
        }
        Some(reason) => {
            let made = issue::authority(name, now)?;
            let bundle =
                format!("{}{}", made.certificate, inspect::still_valid(present, &made.certificate, now));
            let data = [(CA_CERT, bundle.clone().into_bytes()), (CA_KEY, made.key.clone().into_bytes())];
            writes.push(Write {
                secret: secret(cluster, ca_name, "Opaque", data),
                // A first authority must not replace one that another process made at the same moment.
                keep_existing: reason == "there is none",
                reason: format!("new certificate authority: {reason}"),
            });
            (made, bundle.into_bytes())
        }
    };
    let mut leaves = vec![
        (
            naming::server_secret(name),
            naming::service_rw(name),
            server_names(validated, latest_serial),
            Usage::Server,
        ),
        (naming::replication_secret(name), naming::REPLICATION_USER.to_owned(), Vec::new(), Usage::Client),
        (naming::operator_secret(name), naming::OPERATOR_CN.to_owned(), Vec::new(), Usage::Client),
    ];
    if !validated.volume_repositories.is_empty() {
        let host = naming::repo_host(name);
        leaves.push((host.clone(), host, repo_host_names(validated), Usage::Server));
    }
    for (secret_name, common_name, names, usage) in leaves {
        let leaf = Leaf { secret: secret_name, common_name, names, usage };
        writes.extend(leaf.renewed(cluster, observed, &authority, &bundle, now)?);
    }
    Ok(writes)
}

/// A certificate that the operator issues.
struct Leaf {
    secret: String,
    common_name: String,
    names: Vec<String>,
    usage: Usage,
}

impl Leaf {
    /// The Secret with a new certificate from `authority`, when it needs one; `bundle` is what it is verified with.
    fn renewed(
        self,
        cluster: &Cluster,
        observed: &Observed,
        authority: &Pair,
        bundle: &[u8],
        now: Timestamp,
    ) -> Result<Option<Write>, PkiError> {
        let Self { secret: secret_name, common_name, names, usage } = self;
        let reason = if observed.secrets.contains_key(&secret_name) {
            let pem = bytes(observed, &secret_name, TLS_CERT);
            let instance = |name: &String| naming::serial_of(&cluster.name_any(), name).is_some();
            inspect::leaf_stale(pem, authority.certificate.as_bytes(), &names, now)
                .map(why)
                .or_else(|| {
                    (bytes(observed, &secret_name, CA_CERT) != bundle).then_some("the authority changed")
                })
                // Names of instances that are gone do no harm.
                .or_else(|| {
                    let present = inspect::names(pem);
                    present
                        .iter()
                        .any(|name| !names.contains(name) && !instance(name))
                        .then_some("names were taken away")
                })
        } else {
            Some("there is none")
        };
        let Some(reason) = reason else { return Ok(None) };
        let pair = issue::leaf(authority, &common_name, &names, usage, now)?;
        let chain = format!("{}{}", pair.certificate, given::intermediates(&authority.certificate));
        let data =
            [(TLS_CERT, chain.into_bytes()), (TLS_KEY, pair.key.into_bytes()), (CA_CERT, bundle.to_vec())];
        Ok(Some(Write {
            secret: secret(cluster, secret_name, "kubernetes.io/tls", data),
            keep_existing: false,
            reason: format!("new certificate for {common_name}: {reason}"),
        }))
    }
}

/// Copies for the instances of what was given and found to be good. While it is not, what they have stays.
fn copies(
    validated: &Validated,
    observed: &Observed,
    latest_serial: i32,
    now: Timestamp,
) -> Result<Vec<Write>, PkiError> {
    let name = &validated.name;
    let server = Leaf {
        secret: naming::server_in_use(name),
        common_name: naming::service_rw(name),
        names: server_names(validated, latest_serial),
        usage: Usage::Server,
    };
    let client = Leaf {
        secret: naming::replication_in_use(name),
        common_name: naming::REPLICATION_USER.to_owned(),
        names: Vec::new(),
        usage: Usage::Client,
    };
    let mut writes = Vec::new();
    for (side, leaf) in [(&validated.certificates.server, server), (&validated.certificates.client, client)] {
        writes.extend(copy(side, leaf, observed, now)?);
    }
    Ok(writes)
}

fn copy(side: &Side, leaf: Leaf, observed: &Observed, now: Timestamp) -> Result<Option<Write>, PkiError> {
    let cluster = &observed.cluster;
    let (pair, authority, reason) = match &side.given {
        Some(Err(_)) => return Ok(None),
        Some(Ok(Given::Issuer(authority))) => {
            return leaf.renewed(cluster, observed, authority, authority.certificate.as_bytes(), now);
        }
        Some(Ok(Given::Leaf { pair, authority })) => {
            (pair.clone(), authority.clone(), "the certificates that were provided are others")
        }
        // What was given once does not lie about for ever.
        None if !bytes(observed, &leaf.secret, TLS_CERT).is_empty() => {
            let none = Pair { certificate: String::new(), key: String::new() };
            (none, String::new(), "no certificates are provided any more")
        }
        None => return Ok(None),
    };
    let data = [
        (TLS_CERT, pair.certificate.into_bytes()),
        (TLS_KEY, pair.key.into_bytes()),
        (CA_CERT, authority.into_bytes()),
    ];
    if data.iter().all(|(key, value)| bytes(observed, &leaf.secret, key) == value.as_slice()) {
        return Ok(None);
    }
    Ok(Some(Write {
        secret: secret(cluster, leaf.secret, "kubernetes.io/tls", data),
        keep_existing: false,
        reason: reason.to_owned(),
    }))
}

fn why(stale: Stale) -> &'static str {
    match stale {
        Stale::Unreadable => "it cannot be read",
        Stale::Expiring => "it ends soon",
        Stale::OtherAuthority => "the authority changed",
        Stale::Names => "names were added",
    }
}
