//! Certificates of the cluster, from Secrets into files that only this pod's user reads.

use std::path::Path;

use howdah_api::naming;

use crate::config::conf::{CA, REPLICATION_CERT, REPLICATION_KEY, SERVER_CERT, SERVER_KEY};
use crate::error::{Error, IoContext, Result};
use crate::kube::secrets::SecretValues;
use crate::pg::files::write_if_changed;

/// Key of the certificate authority in each Secret.
const KEY_CA: &str = "ca.crt";
/// Key of the certificate.
const KEY_CERT: &str = "tls.crt";
/// Key of its private key.
const KEY_KEY: &str = "tls.key";

/// Secrets that hold the certificates of `cluster`.
#[must_use]
pub fn secret_names(cluster: &str) -> [String; 2] {
    [naming::server_secret(cluster), naming::replication_secret(cluster)]
}

/// Writes the files that differ; returns whether any did.
///
/// # Errors
/// When a Secret or a key is missing, or a file cannot be written.
pub fn write(secrets: &SecretValues, cluster: &str, dir: &Path) -> Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    let [server, replication] = secret_names(cluster);
    let files = [
        (CA, &server, KEY_CA),
        (SERVER_CERT, &server, KEY_CERT),
        (SERVER_KEY, &server, KEY_KEY),
        (REPLICATION_CERT, &replication, KEY_CERT),
        (REPLICATION_KEY, &replication, KEY_KEY),
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

    fn secrets(ca: &str) -> SecretValues {
        let mut values = SecretValues::default();
        for name in secret_names("pg") {
            let data =
                [(KEY_CA, ca), (KEY_CERT, "-----BEGIN CERTIFICATE-----"), (KEY_KEY, "-----BEGIN KEY-----")];
            values.insert(&name, data.map(|(k, v)| (k.to_owned(), v.into())).into());
        }
        values
    }

    #[test]
    fn written_once_private_and_again_when_changed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("certificates");
        assert!(write(&secrets("-----BEGIN A"), "pg", &dir).unwrap());
        assert!(!write(&secrets("-----BEGIN A"), "pg", &dir).unwrap());
        assert!(write(&secrets("-----BEGIN B"), "pg", &dir).unwrap());
        let mode = std::fs::metadata(dir.join(SERVER_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn rubbish_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let error = write(&secrets("rubbish"), "pg", dir.path()).unwrap_err().to_string();
        assert!(error.contains("\"ca.crt\" of Secret pg-server is not PEM"), "{error}");
        assert!(!dir.path().join(SERVER_CERT).exists());
    }
}
