//! Whose WAL an archive holds: `howdah/lineage.json`.
//!
//! An archive belongs to one system identifier. Its first server writes it down; a server with another one is
//! refused, the same may go on, also after a restore in place. An archive without the record, written by Barman,
//! is judged by the newest backup in it.

use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::store::Created;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Largest record that is read.
const MAX_SIZE: u64 = 64 << 10;

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    /// System identifier, decimal; a text because JSON numbers lose digits.
    pub system_identifier: String,
    /// When the archive was claimed.
    pub claimed_at: DateTime<Utc>,
    /// Who claimed it, for people who look: for example namespace and name of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed_by: Option<String>,
}

/// What a claim found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody's before.
    New,
    /// Ours already.
    Ours,
}

impl Repository {
    /// The record, or `None` when the archive has none.
    pub async fn lineage(&self) -> Result<Option<Lineage>> {
        let key = self.layout().lineage();
        let Some(body) = self.store().get_if_exists(&key, MAX_SIZE).await? else { return Ok(None) };
        serde_json::from_slice(&body).map(Some).map_err(|error| {
            Error::corrupt("it is not a lineage record")
                .with_key(self.store().url_of(&key))
                .with_source(error)
                .with_remedy("delete the object if the archive belongs to this cluster; it is written again")
        })
    }

    /// Claims the archive for a system. [`ErrorKind::AlreadyExists`] when it belongs to another.
    pub async fn claim(
        &self,
        system_identifier: &str,
        by: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Claim> {
        if let Some(lineage) = self.lineage().await? {
            return self.judge(&lineage.system_identifier, system_identifier).map(|()| Claim::Ours);
        }
        // Without the record nothing else would tell that encryption was forgotten, or comes too late.
        self.check_encryption().await?;
        if let Some(owner) = self.owner_by_backups().await? {
            self.judge(&owner, system_identifier)?;
        }
        let lineage = Lineage {
            system_identifier: system_identifier.to_owned(),
            claimed_at: now,
            claimed_by: by.map(str::to_owned),
        };
        let body = serde_json::to_vec_pretty(&lineage)
            .map_err(|error| Error::new(ErrorKind::Other, "writing the lineage record").with_source(error))?;
        match self.store().create(&self.layout().lineage(), body.into()).await? {
            Created::Yes => Ok(Claim::New),
            Created::Exists => {
                // Somebody else, or another instance of the same cluster, was faster.
                let winner = self.lineage().await?.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unavailable,
                        "the store says that the object exists but does not give it",
                    )
                    .with_key(self.store().url_of(&self.layout().lineage()))
                })?;
                self.judge(&winner.system_identifier, system_identifier).map(|()| Claim::Ours)
            }
        }
    }

    fn judge(&self, owner: &str, system_identifier: &str) -> Result<()> {
        if owner == system_identifier {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::AlreadyExists,
            format!(
                "the archive {} belongs to the server with system identifier {owner}, not {system_identifier}",
                self.url()
            ),
        )
        .with_remedy("give this cluster a destinationPath or serverName of its own"))
    }

    /// System identifier of the newest backup that names one.
    async fn owner_by_backups(&self) -> Result<Option<String>> {
        let catalog = self.catalog().await?;
        Ok(catalog.entries.iter().rev().find_map(|entry| entry.info.as_ref().ok()?.systemid.clone()))
    }
}
