//! PostgreSQL's certificates, from Secrets into files that only this pod's user reads.
//!
//! They are the operator's own, or copies of those that the user gives: the operator has looked at these, and changes
//! certificate, key and authority of a copy together. The certificates of the manager itself (`serve::tls`) are always the
//! operator's own.

use std::path::Path;

use howdah_api::certificates::{CertificatesConfiguration, CertificatesStatus};
use howdah_api::{Cluster, naming};

use crate::config::conf::{CLIENT_CA, REPLICATION_CERT, REPLICATION_KEY, SERVER_CA, SERVER_CERT, SERVER_KEY};
use crate::error::{Error, IoContext, Result};
use crate::kube::secrets::SecretValues;
use crate::pg::files::write_if_changed;

/// Key of the certificate authority in each Secret.
const KEY_CA: &str = "ca.crt";
/// Key of the certificate.
const KEY_CERT: &str = "tls.crt";
/// Key of its private key.
const KEY_KEY: &str = "tls.key";

/// Secrets that hold the certificates of the cluster `name`: the operator's own, and copies of what is given.
#[must_use]
pub fn secret_names(cluster: &Cluster, name: &str) -> Vec<String> {
    let mut names = vec![naming::server_secret(name), naming::replication_secret(name)];
    let [server, client] = Side::both(cluster, name);
    names.extend([server, client].into_iter().filter(|side| side.given).map(|side| side.copy));
    names
}

/// The server's certificate, or that of replicas with the authority of all clients.
struct Side {
    /// Whether the specification gives it.
    given: bool,
    /// Whether what it gives was in use before.
    in_use: bool,
    /// Secret of the operator's own.
    own: String,
    /// Secret with the copy of what is given.
    copy: String,
}

impl Side {
    fn both(cluster: &Cluster, name: &str) -> [Self; 2] {
        let spec = cluster.spec.certificates.as_ref();
        let used = cluster.status.as_ref().and_then(|status| status.certificates.as_ref());
        let says = |what: fn(&CertificatesStatus, &str) -> bool| used.is_some_and(|used| what(used, name));
        [
            Self {
                given: spec.is_some_and(CertificatesConfiguration::names_server),
                in_use: says(CertificatesStatus::server_is_given),
                own: naming::server_secret(name),
                copy: naming::server_in_use(name),
            },
            Self {
                given: spec.is_some_and(CertificatesConfiguration::names_client),
                in_use: says(CertificatesStatus::client_is_given),
                own: naming::replication_secret(name),
                copy: naming::replication_in_use(name),
            },
        ]
    }

    /// The Secret to use. What is given and was never good is not there: the operator's own does until it is. A copy that
    /// went away comes back; to change the certificates meanwhile would part this instance from the others.
    fn source(&self, secrets: &SecretValues) -> Result<&str> {
        let filled = secrets.bytes(&self.copy, KEY_CERT).is_ok_and(|pem| !pem.is_empty());
        match self {
            Self { given: true, copy, .. } if filled => Ok(copy),
            Self { given: true, in_use: true, copy, .. } => Err(Error::transient(format!(
                "Secret {copy} is missing or empty; the operator makes it again: look at its log when it does not"
            ))),
            Self { own, .. } => Ok(own),
        }
    }
}

/// Writes the files that differ; returns whether any did.
///
/// # Errors
/// When a Secret or a key is missing, or a file cannot be written.
pub fn write(secrets: &SecretValues, cluster: &Cluster, name: &str, dir: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let [server, client] = Side::both(cluster, name);
    let (server, client) = (server.source(secrets)?, client.source(secrets)?);
    let files = [
        (SERVER_CA, server, KEY_CA),
        (SERVER_CERT, server, KEY_CERT),
        (SERVER_KEY, server, KEY_KEY),
        (CLIENT_CA, client, KEY_CA),
        (REPLICATION_CERT, client, KEY_CERT),
        (REPLICATION_KEY, client, KEY_KEY),
    ];
    // All or nothing: a certificate without its key helps nobody.
    let contents =
        files.iter().map(|(_, secret, key)| pem(secrets, secret, key)).collect::<Result<Vec<_>>>()?;
    std::fs::create_dir_all(dir).at("cannot make", dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .at("cannot set the mode of", dir)?;
    let mut changed = false;
    for ((file, ..), content) in files.iter().zip(contents) {
        changed |= write_if_changed(&dir.join(file), content, 0o600)?;
    }
    Ok(changed)
}

fn pem<'a>(secrets: &'a SecretValues, secret: &str, key: &str) -> Result<&'a [u8]> {
    let bytes = secrets.bytes(secret, key)?;
    if bytes.windows(11).any(|w| w == b"-----BEGIN ") {
        return Ok(bytes);
    }
    Err(Error::permanent(format!(
        "key {key:?} of Secret {secret} is not PEM: delete the Secret so that the operator makes it anew"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fill(secrets: &mut SecretValues, name: &str, text: &str) {
        let data = [KEY_CA, KEY_CERT, KEY_KEY].map(|key| (key.to_owned(), text.as_bytes().to_vec()));
        secrets.insert(name, data.into());
    }

    fn secrets(text: &str) -> SecretValues {
        let mut values = SecretValues::default();
        for name in secret_names(&Cluster::default(), "pg") {
            fill(&mut values, &name, text);
        }
        values
    }

    fn given() -> Cluster {
        let mut cluster = Cluster::default();
        cluster.spec.certificates = Some(CertificatesConfiguration {
            server_ca_secret: Some("theirs".into()),
            server_tls_secret: Some("theirs".into()),
            ..CertificatesConfiguration::default()
        });
        cluster
    }

    #[test]
    fn written_once_private_and_again_when_changed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("certificates");
        let cluster = Cluster::default();
        assert!(write(&secrets("-----BEGIN A"), &cluster, "pg", &dir).unwrap());
        assert!(!write(&secrets("-----BEGIN A"), &cluster, "pg", &dir).unwrap());
        assert!(write(&secrets("-----BEGIN B"), &cluster, "pg", &dir).unwrap());
        let mode = std::fs::metadata(dir.join(SERVER_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn rubbish_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            write(&secrets("rubbish"), &Cluster::default(), "pg", dir.path()).unwrap_err().to_string();
        assert!(error.contains("\"ca.crt\" of Secret pg-server is not PEM"), "{error}");
        assert!(!dir.path().join(SERVER_CERT).exists());
    }

    #[test]
    fn what_is_given_is_taken_from_the_copy_and_only_while_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let holds = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
        let mut values = secrets("-----BEGIN OWN");
        let mut cluster = given();
        assert_eq!(secret_names(&cluster, "pg"), ["pg-server", "pg-replication", "pg-server-in-use"]);

        // Not yet good: the operator has made no copy.
        write(&values, &cluster, "pg", dir.path()).unwrap();
        assert_eq!(holds(SERVER_CERT), "-----BEGIN OWN");
        fill(&mut values, "pg-server-in-use", "-----BEGIN GIVEN");
        assert!(write(&values, &cluster, "pg", dir.path()).unwrap());
        assert_eq!([SERVER_CERT, SERVER_CA].map(holds), ["-----BEGIN GIVEN", "-----BEGIN GIVEN"]);
        assert_eq!([CLIENT_CA, REPLICATION_CERT].map(holds), ["-----BEGIN OWN", "-----BEGIN OWN"]);

        // Somebody deletes the copy.
        let used = CertificatesStatus { server_tls_secret: Some("theirs".into()), ..Default::default() };
        cluster.status.get_or_insert_default().certificates = Some(used);
        let error = write(&secrets("-----BEGIN OWN"), &cluster, "pg", dir.path()).unwrap_err();
        assert!(!error.is_permanent() && error.to_string().contains("Secret pg-server-in-use is missing"));
        assert_eq!(holds(SERVER_CERT), "-----BEGIN GIVEN");

        cluster.spec.certificates = None;
        assert!(write(&values, &cluster, "pg", dir.path()).unwrap());
        assert_eq!(holds(SERVER_CERT), "-----BEGIN OWN");
    }
}
