//! What the primary does for a repository beside backups: it tries out what the store can do, and sees to it that the
//! data keys of an encrypted one are wrapped by the current passphrase.

use std::collections::BTreeMap;
use std::sync::Arc;

use barman_cloud::store::{CipherMode, Finding, Outcome};
use chrono::Utc;
use howdah_api::encryption::{Cipher, EncryptionStatus};
use howdah_api::repository::NamedStore;
use howdah_api::store_probe::{StoreFinding, StoreProbe};
use howdah_engine::Repository;

use super::catalogue::open;
use crate::error::Result;
use crate::kube::secrets::SecretValues;
use crate::run::shared::Shared;
use crate::time::kube;

/// What is known of a repository from that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// What its store can do.
    pub probe: Option<StoreProbe>,
    /// How it is encrypted.
    pub encryption: Option<EncryptionStatus>,
    /// Why its keys cannot be used or were not rotated.
    pub encryption_error: Option<String>,
}

/// With which settings each repository was looked at.
#[derive(Default)]
pub struct Looked(BTreeMap<String, (NamedStore, Arc<SecretValues>)>);

impl Looked {
    /// Whether there is something to do: settings or Secrets are others, or something did not work.
    fn is_due(&mut self, named: &NamedStore, secrets: &Arc<SecretValues>, known: &Care) -> bool {
        let works = known.probe.as_ref().is_some_and(|probe| probe.works) && known.encryption_error.is_none();
        let (named, secrets) = (named.clone(), Arc::clone(secrets));
        let same = self.0.get(&named.name).is_some_and(|(n, s)| n.store == named.store && *s == secrets);
        self.0.insert(named.name.clone(), (named, secrets));
        !(works && same)
    }
}

/// Looks after every repository for which something is to be done.
pub async fn care(shared: &Shared, looked: &mut Looked) {
    for named in shared.stores() {
        let known = shared.care(&named.name);
        if !looked.is_due(&named, &shared.secrets(), &known) {
            continue;
        }
        // Without its Secrets nothing can be tried; the archiver says which one is missing.
        let Ok(repository) = open(shared, &named) else { continue };
        let found = repository.store().conformance(&repository.layout().probe()).await;
        let probe = told(&found);
        for finding in probe.findings.iter().filter(|finding| finding.outcome == Outcome::Failed.as_str()) {
            let StoreFinding { operation, message, remedy, .. } = finding;
            let remedy = remedy.as_deref().unwrap_or_default();
            tracing::warn!(repository = named.name, "the store fails {operation}: {message}. {remedy}");
        }
        let mut care = Care { probe: Some(probe), ..Care::default() };
        match keys(&repository, &named).await {
            Ok(status) => care.encryption = status,
            Err(error) => {
                tracing::warn!(repository = named.name, "encryption: {}", error.report());
                care.encryption = known.encryption;
                care.encryption_error = Some(error.report());
            }
        }
        shared.set_care(&named.name, care);
    }
}

/// Wraps data keys anew when there is a former passphrase.
async fn keys(repository: &Repository, named: &NamedStore) -> Result<Option<EncryptionStatus>> {
    let Some(found) = repository.check_encryption().await? else { return Ok(None) };
    let cipher = match found.mode {
        CipherMode::Aes256Gcm => Cipher::Aes256Gcm,
        CipherMode::Aes256Cbc => Cipher::Aes256Cbc,
    };
    let former = named.store.encryption.as_ref().is_some_and(|given| !given.former_passphrases.is_empty());
    if found.key_id.is_none() || !(former || found.rotation_due) {
        return Ok(Some(EncryptionStatus { cipher, key_id: found.key_id, rotated: true }));
    }
    let rotated = repository.rotate_keys().await?;
    if rotated.rewrapped > 0 {
        tracing::info!(
            repository = named.name,
            keys = rotated.rewrapped,
            key = rotated.key_id,
            "rotated keys"
        );
    }
    Ok(Some(EncryptionStatus { cipher, key_id: Some(rotated.key_id), rotated: true }))
}

/// Findings in the words of the status.
fn told(found: &[Finding]) -> StoreProbe {
    let (good, rest): (Vec<_>, Vec<_>) = found.iter().partition(|finding| finding.outcome == Outcome::Ok);
    StoreProbe {
        time: Some(kube(Utc::now())),
        works: !rest.iter().any(|finding| finding.outcome == Outcome::Failed),
        supported: good.iter().map(|finding| finding.operation.as_str().to_owned()).collect(),
        findings: rest
            .iter()
            .map(|finding| StoreFinding {
                operation: finding.operation.as_str().to_owned(),
                outcome: finding.outcome.as_str().to_owned(),
                message: finding.message.clone(),
                remedy: finding.remedy.clone(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use howdah_api::object_store::BarmanObjectStore;

    fn named(path: &str) -> NamedStore {
        let store = BarmanObjectStore { destination_path: path.into(), ..BarmanObjectStore::default() };
        NamedStore::new("repo1", store)
    }

    #[test]
    fn a_store_is_looked_at_again_when_it_changed_or_failed() {
        let secrets = Arc::new(SecretValues::default());
        let probe = |works| Some(StoreProbe { works, ..StoreProbe::default() });
        let good = Care { probe: probe(true), ..Care::default() };
        let mut looked = Looked::default();
        assert!(looked.is_due(&named("s3://b/p"), &secrets, &Care::default()), "never");
        assert!(!looked.is_due(&named("s3://b/p"), &secrets, &good));
        assert!(looked.is_due(&named("s3://b/q"), &secrets, &good), "another place");
        let mut other = SecretValues::default();
        other.insert("creds", BTreeMap::from([("key".to_owned(), b"2".to_vec())]));
        assert!(looked.is_due(&named("s3://b/q"), &Arc::new(other.clone()), &good), "another key");
        let bad = Care { probe: probe(false), ..Care::default() };
        assert!(looked.is_due(&named("s3://b/q"), &Arc::new(other.clone()), &bad), "it failed");
        let bad = Care { encryption_error: Some("wrong passphrase".into()), ..good };
        assert!(looked.is_due(&named("s3://b/q"), &Arc::new(other), &bad), "keys failed");
    }
}
