//! Where a backup's own objects are: full ones where Barman looks, the others where it does not.

use super::commit::PartList;
use super::resume::Resume;
use super::run::Run;
use crate::error::Result;
use barman_cloud::{BackupId, BackupType, Chain, Repository};

/// The repository that holds the objects of a backup of this type.
pub fn of(root: &Repository, kind: BackupType) -> Repository {
    match kind {
        BackupType::Full => root.clone(),
        BackupType::Differential | BackupType::Incremental => root.increments(),
    }
}

impl Run {
    /// Finds the interrupted backup. A full one stays full: its parts are of no use to another type.
    pub(super) async fn find_place(&mut self, resume: &Resume) -> Result<()> {
        if self.request.kind == BackupType::Full {
            return Ok(());
        }
        let increments = self.root.increments();
        if has_record(&increments, &resume.id).await? {
            self.request.repository = increments;
        } else if has_record(&self.root, &resume.id).await? {
            self.request.kind = BackupType::Full;
            self.resumed_full = true;
        }
        Ok(())
    }

    /// Goes to where this backup's objects belong. What an interrupted backup of the same id left elsewhere goes.
    pub(super) async fn take_place(&mut self, is_increment: bool) -> Result<()> {
        let kind = if is_increment { self.request.kind } else { BackupType::Full };
        let place = of(&self.root, kind);
        if let Some(resume) = &self.request.resume
            && !is_increment
            && self.request.kind != BackupType::Full
        {
            self.root.increments().delete_backup(&resume.id).await?;
        }
        self.request.repository = place;
        Ok(())
    }

    /// Whether a backup of another type has the id. Types lie in two places, and their manifests in one.
    pub(super) async fn is_taken_elsewhere(&self, id: &BackupId) -> Result<bool> {
        let increments = self.root.increments();
        let own = self.request.repository.layout();
        let other = if own == increments.layout() { &self.root } else { &increments };
        has_record(other, id).await
    }

    /// What this backup builds on; `None` for a full one.
    pub(super) async fn chain(&self, id: &BackupId) -> Result<Option<Chain>> {
        let repository = &self.request.repository;
        if repository.layout() == self.root.layout() {
            return Ok(None);
        }
        Ok(Some(repository.chain(id).await?))
    }

    /// Bytes of the parts of everything that a chain builds on.
    pub(super) async fn bytes_below(&self, chain: &Chain) -> Result<u64> {
        let mut bytes = 0;
        for (index, id) in chain.ancestors.iter().enumerate() {
            let kind = if index == 0 { BackupType::Full } else { BackupType::Incremental };
            let place = of(&self.root, kind);
            bytes += match PartList::load(&place, id).await? {
                Some(list) => list.bytes(),
                None => place.backup_objects(id).await?.stored_bytes(),
            };
        }
        Ok(bytes)
    }
}

async fn has_record(place: &Repository, id: &BackupId) -> Result<bool> {
    match place.store().head(&place.layout().backup_info(id)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
