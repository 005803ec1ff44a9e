//! The backups of a chain, each looked at before anything is fetched.

use crate::backup::commit::{PartList, stored_parts};
use crate::backup::place;
use crate::error::{Error, ErrorKind, Result};
use barman_cloud::catalog::{self, Inventory, PartObject};
use barman_cloud::{Archive, BackupId, BackupInfo, Repository};
use std::collections::BTreeMap;

/// One backup of a chain: everything that it should have is there.
#[derive(Debug)]
pub struct Member {
    pub id: BackupId,
    /// Where its objects are.
    pub repository: Repository,
    pub info: BackupInfo,
    pub parts: BTreeMap<Archive, Vec<PartObject>>,
    /// What the backup itself says of its parts.
    pub list: Option<PartList>,
    pub has_manifest: bool,
}

impl Member {
    /// Bytes of its parts.
    pub fn stored_bytes(&self) -> u64 {
        self.parts.values().flatten().map(|part| part.object.size).sum()
    }

    /// Number of its parts.
    pub fn count(&self) -> usize {
        self.parts.values().map(Vec::len).sum()
    }
}

/// Looks at backup `id` and all that it builds on, the full one first. Fails when something of one of them is missing.
pub async fn load(root: &Repository, inventory: &Inventory, id: &BackupId) -> Result<Vec<Member>> {
    let ancestors = inventory.get(id).map(catalog::Member::ancestors).unwrap_or_default();
    let mut members = Vec::with_capacity(ancestors.len() + 1);
    for one in ancestors.iter().chain([id]) {
        let member = member(root, inventory, one).await;
        let member =
            member.and_then(|member| if ancestors.is_empty() { Ok(member) } else { with_lists(member) });
        members.push(
            member.map_err(|error| if one == id { error } else { of_chain(error, id, one, inventory) })?,
        );
    }
    Ok(members)
}

/// A chain is put together by the manifests of its backups.
fn with_lists(member: Member) -> Result<Member> {
    if member.has_manifest && member.list.is_some() {
        return Ok(member);
    }
    let url = member.repository.store().url_of(&member.repository.layout().manifest_dir(&member.id));
    Err(Error::new(ErrorKind::Missing, format!("{url} lacks the manifest or the list of parts")))
}

/// Says of an error about one backup of a chain what it means for the chain.
fn of_chain(error: Error, id: &BackupId, bad: &BackupId, inventory: &Inventory) -> Error {
    match error.kind() {
        ErrorKind::Missing | ErrorKind::Corrupt => {
            let others = inventory
                .restorable()
                .rev()
                .filter(|(member, _)| member.id != *bad && !member.ancestors().contains(bad))
                .map(|(member, _)| member.id.to_string());
            let text = format!("backup {id} builds on backup {bad}, and {error}");
            Error::new(error.kind(), text).with_remedy(remedy(others.take(5).collect()))
        }
        _ => error,
    }
}

fn remedy(others: Vec<String>) -> String {
    let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
    format!("bring back what is missing from a copy; backups that can be restored without it: {others}")
}

/// Fails unless everything that a backup builds on is complete by its record.
pub fn check_chain(root: &Repository, inventory: &Inventory, member: &catalog::Member) -> Result<()> {
    let broken = |kind, text: String| {
        let others = inventory.restorable().rev().map(|(member, _)| member.id.to_string());
        Err(Error::new(kind, text).with_remedy(remedy(others.take(5).collect())))
    };
    if let Some(Err(error)) = &member.chain {
        let text = format!("what backup {} builds on is not known: {}", member.id, error.report());
        return broken(ErrorKind::Corrupt, text);
    }
    for (index, id) in member.ancestors().iter().enumerate() {
        let state = match inventory.get(id) {
            None => "is missing".to_owned(),
            Some(ancestor) if ancestor.done().is_some() => {
                if ancestor.ancestors() == &member.ancestors()[..index] {
                    continue;
                }
                "builds on others than it should".to_owned()
            }
            Some(ancestor) => match (&ancestor.info, &ancestor.chain) {
                (Err(error), _) | (_, Some(Err(error))) => format!("cannot be read: {}", error.report()),
                (Ok(info), _) => format!("is not complete: its status is {}", info.status.as_str()),
            },
        };
        let text = format!("backup {} builds on backup {id}, which {state} in {}", member.id, root.url());
        return broken(ErrorKind::Missing, text);
    }
    Ok(())
}

async fn member(root: &Repository, inventory: &Inventory, id: &BackupId) -> Result<Member> {
    let gone = || Error::new(ErrorKind::Missing, format!("backup {id} is not in {}", root.url()));
    let known = inventory.get(id).ok_or_else(gone)?;
    let info = known.done().ok_or_else(gone)?.clone();
    let repository = place::of(root, known.kind);
    let (parts, list) = parts(&repository, id, &info).await?;
    let has_manifest = match repository.store().head(&repository.layout().manifest(id)).await {
        Ok(_) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(error.into()),
    };
    Ok(Member { id: id.clone(), repository, info, parts, list, has_manifest })
}

async fn parts(
    repository: &Repository,
    id: &BackupId,
    info: &BackupInfo,
) -> Result<(BTreeMap<Archive, Vec<PartObject>>, Option<PartList>)> {
    let objects = repository.backup_objects(id).await?;
    let parts = objects.complete(id, info).map_err(|error| match error.kind() {
        barman_cloud::ErrorKind::NotFound => {
            Error::new(ErrorKind::Missing, format!("{}: {error}", repository.url()))
                .with_remedy(error.remedy())
        }
        _ => error.into(),
    })?;
    let list = PartList::load(repository, id).await?;
    if let Some(list) = &list {
        list.compare(id, repository, &stored_parts(repository, id).await?)?;
    }
    if let Some(empty) = parts.values().flatten().find(|part| part.object.size == 0) {
        let url = repository.store().url_of(&empty.object.key);
        return Err(Error::new(ErrorKind::Corrupt, format!("{url} is empty")));
    }
    Ok((parts, list))
}
