//! Whose WAL an archive holds: `howdah/lineage.json`.
//!
//! An archive belongs to one system identifier. Its first server writes it down; a server with another one is
//! refused, the same may go on, also after a restore in place. An archive without the record, written by Barman,
//! is judged by the newest backup in it.
//!
//! A copy of a server has the same system identifier. Who claims an archive by name is refused one that was claimed by
//! another name: a copy must not write into the archive that it came from.
//!
//! Within one system only one server may write at a time. Each primary announces its timeline ([`Announcement`]), and a
//! file is judged by that and by the histories ([`Standing`]): a former primary that does not know of its successor yet
//! is refused.

mod announce;
mod standing;

pub use announce::{Announcement, Reception};
pub use standing::Standing;

use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
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
    /// The highest timeline that a primary announced; `None` when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// Where that timeline began: the one before was left there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin_lsn: Option<Lsn>,
    /// Who announced it: `<instance>/<uid of its pod>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// When it was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_at: Option<DateTime<Utc>>,
}

impl Lineage {
    /// A record without a timeline.
    pub fn new(system_identifier: &str, by: Option<&str>, now: DateTime<Utc>) -> Self {
        Self {
            system_identifier: system_identifier.to_owned(),
            claimed_at: now,
            claimed_by: by.map(str::to_owned),
            timeline: None,
            begin_lsn: None,
            primary: None,
            announced_at: None,
        }
    }

    /// Whether both are of one claim, whoever was the primary when each was read.
    pub fn is_same_claim(&self, other: &Self) -> bool {
        let of = |lineage: &Self| {
            (lineage.system_identifier.clone(), lineage.claimed_at, lineage.claimed_by.clone())
        };
        of(self) == of(other)
    }
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
        Ok(self.marked_lineage().await?.map(|(lineage, _)| lineage))
    }

    /// The record and the mark of its version.
    async fn marked_lineage(&self) -> Result<Option<(Lineage, Option<String>)>> {
        let key = self.layout().lineage();
        let Some((info, body)) = self.store().get_marked(&key, MAX_SIZE).await? else { return Ok(None) };
        let lineage = serde_json::from_slice(&body).map_err(|error| {
            Error::corrupt("it is not a lineage record")
                .with_key(self.store().url_of(&key))
                .with_source(error)
                .with_remedy("delete the object if the archive belongs to this cluster; it is written again")
        })?;
        Ok(Some((lineage, info.etag)))
    }

    /// Claims the archive for a system. [`ErrorKind::AlreadyExists`] when it belongs to another, or `by` is given and it
    /// was claimed by somebody else.
    pub async fn claim(
        &self,
        system_identifier: &str,
        by: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Claim> {
        if let Some(lineage) = self.lineage().await? {
            return self.judge_record(&lineage, system_identifier, by);
        }
        // Without the record nothing else would tell that encryption was forgotten, or comes too late.
        self.check_encryption().await?;
        if let Some(owner) = self.owner_by_backups().await? {
            self.judge(&owner, system_identifier)?;
        }
        let body = rendered(&Lineage::new(system_identifier, by, now))?;
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
                self.judge_record(&winner, system_identifier, by)
            }
        }
    }

    fn judge_record(&self, lineage: &Lineage, system_identifier: &str, by: Option<&str>) -> Result<Claim> {
        self.judge(&lineage.system_identifier, system_identifier)?;
        match (lineage.claimed_by.as_deref(), by) {
            (Some(owner), Some(by)) if owner != by => Err(Error::new(
                ErrorKind::AlreadyExists,
                format!(
                    "the archive {} belongs to {owner}; {by} has the same system identifier {system_identifier}, so it \
                     is a copy, and a copy needs an archive of its own",
                    self.url()
                ),
            )
            .with_remedy(
                "give this cluster another path or serverName; only when the other is gone for good and this one shall \
                 go on in its archive, delete howdah/lineage.json there",
            )),
            _ => Ok(Claim::Ours),
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

fn rendered(lineage: &Lineage) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(lineage)
        .map_err(|error| Error::new(ErrorKind::Other, "writing the lineage record").with_source(error))
}
