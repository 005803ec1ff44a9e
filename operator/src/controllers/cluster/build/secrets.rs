//! Secrets that the operator makes: logins and certificates. Random bytes and the time come in from outside.

use std::collections::BTreeMap;

use howdah_api::{Cluster, naming};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::child_meta;
use crate::controllers::cluster::observed::Observed;
use crate::controllers::cluster::validate::Validated;
use crate::pki::inspect::{self, Stale};
use crate::pki::issue::{self, Usage};
use crate::pki::{Pair, PkiError};

/// Key of the authority's certificates.
const CA_CERT: &str = "ca.crt";
/// Key of the authority's key.
const CA_KEY: &str = "ca.key";
/// Key of a certificate.
const TLS_CERT: &str = "tls.crt";
/// Key of a certificate's key.
const TLS_KEY: &str = "tls.key";

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

/// Names that the server certificate must bear: the services in all forms, and the instances.
#[must_use]
pub fn server_names(validated: &Validated, latest_serial: i32) -> Vec<String> {
    let (cluster, namespace) = (&validated.name, &validated.namespace);
    let mut names = Vec::new();
    for service in [naming::service_rw(cluster), naming::service_ro(cluster), naming::service_r(cluster)] {
        names.extend(service_names(service, namespace));
    }
    names.extend((1..=latest_serial).map(|serial| naming::instance(cluster, serial)));
    names
}

/// Names that the certificate of the repository host must bear.
#[must_use]
pub fn repo_host_names(validated: &Validated) -> Vec<String> {
    let names = service_names(naming::repo_host(&validated.name), &validated.namespace);
    names.into_iter().chain([naming::repo_host_pod(&validated.name)]).collect()
}

/// A service in all forms.
fn service_names(service: String, namespace: &str) -> [String; 4] {
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
        let reason = if observed.secrets.contains_key(&secret_name) {
            let pem = bytes(observed, &secret_name, TLS_CERT);
            inspect::leaf_stale(pem, authority.certificate.as_bytes(), &names, now).map(why).or_else(|| {
                (bytes(observed, &secret_name, CA_CERT) != bundle).then_some("the authority changed")
            })
        } else {
            Some("there is none")
        };
        let Some(reason) = reason else { continue };
        let pair = issue::leaf(&authority, &common_name, &names, usage, now)?;
        let data = [
            (TLS_CERT, pair.certificate.into_bytes()),
            (TLS_KEY, pair.key.into_bytes()),
            (CA_CERT, bundle.clone()),
        ];
        writes.push(Write {
            secret: secret(cluster, secret_name, "kubernetes.io/tls", data),
            keep_existing: false,
            reason: format!("new certificate for {common_name}: {reason}"),
        });
    }
    Ok(writes)
}

fn why(stale: Stale) -> &'static str {
    match stale {
        Stale::Unreadable => "it cannot be read",
        Stale::Expiring => "it ends soon",
        Stale::OtherAuthority => "the authority changed",
        Stale::Names => "names were added",
    }
}
