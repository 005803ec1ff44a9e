//! Deleting a backup, so that a crash at any point leaves nothing that is taken for a complete one.

use super::Keep;
use crate::backup_id::BackupId;
use crate::backup_info::{BackupInfo, MAX_SIZE};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Repository;
use crate::store::{ObjectInfo, Undeleted};
use bytes::Bytes;

/// What became of a deletion.
#[derive(Debug, Default)]
pub struct Removal {
    /// Objects that were deleted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that the store does not delete.
    pub undeleted: Vec<Undeleted>,
    /// Nothing was deleted, and the backup is what it was before.
    pub untouched: bool,
}

impl Removal {
    /// Whether nothing of the backup is left.
    pub fn is_whole(&self) -> bool {
        self.undeleted.is_empty()
    }
}

impl Repository {
    /// Deletes a backup with all its objects and what is in its manifest directory; WAL stays. Refuses one that is
    /// kept. Whether others build on it the caller must know.
    pub async fn delete_backup(&self, id: &BackupId) -> Result<()> {
        match self.remove_backup(id).await?.undeleted.into_iter().next() {
            Some(undeleted) => Err(undeleted.error),
            None => Ok(()),
        }
    }

    /// The same, and tells of objects that the store does not delete. The rest goes all the same; but when the store
    /// deletes nothing at all of the data, the backup stays what it was.
    ///
    /// The order makes a crash harmless: the record first stops saying DONE, then the objects go, what says on which
    /// backups it builds after them, the record last, so that a second call finds the rest.
    pub async fn remove_backup(&self, id: &BackupId) -> Result<Removal> {
        self.refuse_kept(id).await?;
        let mut objects = self.backup_objects(id).await?;
        let mut removal = Removal::default();
        let before = match &objects.info {
            Some(_) => self.unmark(id).await?,
            None => None,
        };
        if before.is_some() {
            // A backup that is not complete cannot be kept; one that was kept in between comes back.
            if let Err(error) = self.refuse_kept(id).await {
                self.mark_again(id, before).await?;
                return Err(error);
            }
        }
        let record = objects.info.take();
        let chain = self.layout().chain(id);
        let (chain, others): (Vec<_>, Vec<_>) = objects.others.into_iter().partition(|o| o.key == chain);
        let side = self.store().list(&self.layout().manifest_dir(id)).await?;
        let parts = objects.parts.into_iter().map(|part| part.object).collect();
        self.remove(parts, &mut removal).await?;
        if removal.objects == 0 && !removal.undeleted.is_empty() {
            self.mark_again(id, before).await?;
            removal.untouched = true;
            return Ok(removal);
        }
        self.remove(others.into_iter().chain(side).collect(), &mut removal).await?;
        for last in [chain, record.into_iter().collect()] {
            if removal.undeleted.is_empty() {
                self.remove(last, &mut removal).await?;
            }
        }
        Ok(removal)
    }

    async fn refuse_kept(&self, id: &BackupId) -> Result<()> {
        let Some(keep) = self.keep(id).await? else { return Ok(()) };
        Err(kept(id, keep))
    }

    /// Makes the record say that the backup is no longer complete; gives what it was when it said so.
    async fn unmark(&self, id: &BackupId) -> Result<Option<Bytes>> {
        let before = match self.store().get_if_exists(&self.layout().backup_info(id), MAX_SIZE).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => None,
            other => other?,
        };
        // Unreadable records do not say DONE either.
        let info = before.as_ref().and_then(|bytes| BackupInfo::parse_bytes(bytes).ok());
        let Some(mut info) = info.filter(BackupInfo::is_done) else { return Ok(None) };
        info.fail("being deleted");
        self.put_backup_info(id, &info).await?;
        Ok(before)
    }

    async fn mark_again(&self, id: &BackupId, before: Option<Bytes>) -> Result<()> {
        match before {
            Some(before) => self.store().put(&self.layout().backup_info(id), before).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, objects: Vec<ObjectInfo>, removal: &mut Removal) -> Result<()> {
        let keys: Vec<String> = objects.iter().map(|object| object.key.clone()).collect();
        let undeleted = self.store().delete_each(&keys).await?;
        let gone = |object: &&ObjectInfo| undeleted.iter().all(|undeleted| undeleted.key != object.key);
        for object in objects.iter().filter(gone) {
            removal.objects += 1;
            removal.bytes += object.size;
        }
        removal.undeleted.extend(undeleted);
        Ok(())
    }
}

fn kept(id: &BackupId, keep: Keep) -> Error {
    Error::new(ErrorKind::Invalid, format!("backup {id} is kept ({})", keep.as_str()))
        .with_remedy("release it first: barman-cloud-backup-keep --release")
}
