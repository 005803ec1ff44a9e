//! Full, differential and incremental backups: which builds on which, and how they are named.
//!
//! A full backup is Barman's and needs no record. A differential builds on the last full backup, an incremental on
//! the last backup of any type. Both are written below `howdah/incremental/<id>/` ([`crate::Layout::increments`])
//! with a `backup.info` of their own as commit mark, and a `chain.json` that names what they build on; Barman's
//! tools never see them.

use crate::backup_id::BackupId;
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::repository::Repository;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest record that is read.
const MAX_SIZE: u64 = 1 << 20;
/// Longest chain that is believed: more than a backup every minute for a week.
const MAX_ANCESTORS: usize = 16_384;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupType {
    /// Everything.
    #[default]
    Full,
    /// What changed since the last full backup.
    Differential,
    /// What changed since the last backup of any type.
    Incremental,
}

impl BackupType {
    /// The word in statuses and on command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Differential => "differential",
            Self::Incremental => "incremental",
        }
    }

    /// The letter at the end of a label, as pgBackRest writes it.
    pub fn letter(self) -> char {
        match self {
            Self::Full => 'F',
            Self::Differential => 'D',
            Self::Incremental => 'I',
        }
    }
}

impl fmt::Display for BackupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a differential or incremental backup builds on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// `differential` or `incremental`.
    #[serde(rename = "type")]
    pub kind: BackupType,
    /// Ids of all backups that a restore needs before this one: the full backup first, the parent last.
    #[serde(with = "ids")]
    pub ancestors: Vec<BackupId>,
    /// Begin of the parent: blocks changed from here on are in this backup.
    #[serde(rename = "sinceLSN")]
    pub since_lsn: Lsn,
    /// How changed blocks were found: `wal-summaries` or `page-lsn`.
    pub found_by: String,
}

impl Chain {
    /// The full backup at the beginning.
    pub fn full(&self) -> Option<&BackupId> {
        self.ancestors.first()
    }

    /// The backup that this one is the difference to.
    pub fn parent(&self) -> Option<&BackupId> {
        self.ancestors.last()
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        if self.kind == BackupType::Full {
            return Err("a full backup has no chain");
        }
        if self.ancestors.is_empty() || self.ancestors.len() > MAX_ANCESTORS {
            return Err("the number of its ancestors is impossible");
        }
        if self.ancestors.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("its ancestors are not in the order of time");
        }
        if self.kind == BackupType::Differential && self.ancestors.len() != 1 {
            return Err("a differential backup has one ancestor, the full backup");
        }
        Ok(())
    }
}

/// The label of a backup as pgBackRest spells it: `20261121-012341F`, `20261121-012341F_20261122-020000I`.
pub fn label(kind: BackupType, id: &BackupId, full: Option<&BackupId>) -> String {
    let own = format!("{}{}", id.as_str().replace('T', "-"), kind.letter());
    match full {
        Some(full) if kind != BackupType::Full => {
            format!("{}F_{own}", full.as_str().replace('T', "-"))
        }
        _ => own,
    }
}

impl Repository {
    /// What a differential or incremental backup builds on; call it on [`Repository::increments`].
    pub async fn chain(&self, id: &BackupId) -> Result<Chain> {
        let key = self.layout().chain(id);
        let body = self.store().get(&key, MAX_SIZE).await?;
        let corrupt = |why: String| {
            Error::corrupt(why)
                .with_key(self.store().url_of(&key))
                .with_remedy("what this backup builds on is not known: restore another backup")
        };
        let chain: Chain = serde_json::from_slice(&body)
            .map_err(|error| corrupt("it is not the record of a chain".to_owned()).with_source(error))?;
        chain.check().map_err(|why| corrupt(why.to_owned()))?;
        if chain.parent().is_some_and(|parent| parent >= id) {
            return Err(corrupt(format!("backup {id} cannot build on a later one")));
        }
        Ok(chain)
    }

    /// Writes what a backup builds on; call it on [`Repository::increments`], before the backup's record says DONE.
    pub async fn put_chain(&self, id: &BackupId, chain: &Chain) -> Result<()> {
        chain.check().map_err(|why| Error::invalid(format!("backup {id}: {why}")))?;
        let body = serde_json::to_vec_pretty(chain)
            .map_err(|error| Error::invalid("writing the record of a chain").with_source(error))?;
        self.store().put(&self.layout().chain(id), body.into()).await
    }
}

mod ids {
    use crate::backup_id::BackupId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(ids: &[BackupId], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(ids.iter().map(BackupId::as_str))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<BackupId>, D::Error> {
        let texts = Vec::<String>::deserialize(input)?;
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Destination, Store};
    use rstest::rstest;

    fn id(text: &str) -> BackupId {
        text.parse().expect("an id")
    }

    fn repository() -> Repository {
        let store = Store::memory(&Destination::parse("s3://b/p").expect("valid"));
        Repository::new(store, "srv").expect("valid").increments()
    }

    fn chain(kind: BackupType, ancestors: &[&str]) -> Chain {
        let ancestors = ancestors.iter().map(|text| id(text)).collect();
        let since_lsn = "0/2000028".parse().expect("a position");
        Chain { kind, ancestors, since_lsn, found_by: "page-lsn".to_owned() }
    }

    /// S0.37: to the letter.
    #[test]
    fn labels_are_pgbackrests() {
        let (full, later) = (id("20261121T012341"), id("20261122T020000"));
        assert_eq!(label(BackupType::Full, &full, None), "20261121-012341F");
        assert_eq!(label(BackupType::Differential, &later, Some(&full)), "20261121-012341F_20261122-020000D");
        assert_eq!(label(BackupType::Incremental, &later, Some(&full)), "20261121-012341F_20261122-020000I");
    }

    #[tokio::test]
    async fn a_chain_is_read_as_it_was_written() {
        let repository = repository();
        let written = chain(BackupType::Incremental, &["20261121T012341", "20261122T012341"]);
        let own = id("20261123T012341");
        repository.put_chain(&own, &written).await.expect("stored");
        let key = "srv/howdah/incremental/20261123T012341/chain.json";
        let text = repository.store().get(key, 4096).await.expect("there");
        let text = String::from_utf8(text.to_vec()).expect("text");
        assert!(text.contains("\"sinceLSN\": \"0/2000028\""), "{text}");
        assert_eq!(repository.chain(&own).await.expect("read"), written);
        assert_eq!(written.full(), Some(&id("20261121T012341")));
        assert_eq!(written.parent(), Some(&id("20261122T012341")));
    }

    #[rstest]
    #[case::no_chain(r#"{"type":"full","ancestors":["20261121T012341"],"sinceLSN":"0/1","foundBy":"x"}"#)]
    #[case::none(r#"{"type":"incremental","ancestors":[],"sinceLSN":"0/1","foundBy":"x"}"#)]
    #[case::itself(
        r#"{"type":"incremental","ancestors":["20261123T012341"],"sinceLSN":"0/1","foundBy":"x"}"#
    )]
    #[case::order(r#"{"type":"incremental","ancestors":["20261122T012341","20261121T012341"],"sinceLSN":"0/1","foundBy":"x"}"#)]
    #[case::two(r#"{"type":"differential","ancestors":["20261120T012341","20261121T012341"],"sinceLSN":"0/1","foundBy":"x"}"#)]
    #[case::no_json("full")]
    #[case::no_id(r#"{"type":"incremental","ancestors":["../x"],"sinceLSN":"0/1","foundBy":"x"}"#)]
    #[tokio::test]
    async fn a_record_that_cannot_be_is_refused_by_name(#[case] body: &'static str) {
        let (repository, own) = (repository(), id("20261123T012341"));
        repository.store().put(&repository.layout().chain(&own), body.into()).await.expect("stored");
        let report = repository.chain(&own).await.expect_err("refused").report();
        assert!(report.contains("chain.json") && report.contains("restore another backup"), "{report}");
    }
}
