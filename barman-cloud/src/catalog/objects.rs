//! The objects of one backup: which there are, and whether they are all there.

use crate::backup_id::BackupId;
use crate::backup_info::BackupInfo;
use crate::codec::Compression;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Archive, PartName};
use crate::repository::Repository;
use crate::store::ObjectInfo;
use std::collections::BTreeMap;

/// A part of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartObject {
    /// Its name.
    pub name: PartName,
    /// The object.
    pub object: ObjectInfo,
}

/// Everything under a backup's directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupObjects {
    /// `backup.info`.
    pub info: Option<ObjectInfo>,
    /// Parts, in the order in which they are read.
    pub parts: Vec<PartObject>,
    /// Whatever else is there: annotations, foreign files.
    pub others: Vec<ObjectInfo>,
}

impl BackupObjects {
    /// Bytes stored in the parts.
    pub fn stored_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.object.size).sum()
    }

    /// The parts that a restore reads, archive by archive; each archive must be there from its first part on
    /// without a gap. The last part cannot be known by name: that one is missing shows when the tar of `data`
    /// ends without its backup label.
    pub fn complete(&self, id: &BackupId, info: &BackupInfo) -> Result<BTreeMap<Archive, Vec<PartObject>>> {
        let mut wanted = vec![Archive::Data];
        wanted.extend(info.tablespaces.iter().map(|tablespace| Archive::Tablespace(tablespace.oid)));
        wanted.into_iter().map(|archive| Ok((archive, self.archive(id, archive)?))).collect()
    }

    fn archive(&self, id: &BackupId, archive: Archive) -> Result<Vec<PartObject>> {
        let mut by_codec: BTreeMap<Compression, Vec<PartObject>> = BTreeMap::new();
        for part in self.parts.iter().filter(|part| part.name.archive == archive) {
            by_codec.entry(part.name.compression).or_default().push(part.clone());
        }
        let Some((compression, parts)) = by_codec.pop_last() else {
            let text = format!("backup {id} has no archive {archive}.tar");
            return Err(Error::new(ErrorKind::NotFound, text).with_remedy(LOST));
        };
        if let Some((other, _)) = by_codec.pop_last() {
            // Barman would unpack one over the other.
            let text = format!("backup {id} has {archive}.tar twice, as {other} and as {compression}");
            return Err(Error::corrupt(text).with_remedy("delete the objects of the wrong one"));
        }
        for (index, part) in parts.iter().enumerate() {
            if part.name.index as usize != index {
                let missing = PartName { archive, index: index as u32, compression };
                let text = format!("backup {id} lacks {missing}, though {} is there", part.name);
                return Err(Error::new(ErrorKind::NotFound, text).with_remedy(LOST));
            }
        }
        Ok(parts)
    }
}

const LOST: &str = "the bucket lost an object of the backup: use another backup, or bring the object back";

impl Repository {
    /// The objects under a backup's directory.
    pub async fn backup_objects(&self, id: &BackupId) -> Result<BackupObjects> {
        let dir = self.layout().backup_dir(id);
        let mut objects = BackupObjects::default();
        for object in self.store().list(&dir).await? {
            let direct = object.key.strip_prefix(&dir).and_then(|rest| rest.strip_prefix('/'));
            match direct {
                Some("backup.info") => objects.info = Some(object),
                Some(file) => match PartName::parse(file) {
                    Some(name) => objects.parts.push(PartObject { name, object }),
                    None => objects.others.push(object),
                },
                None => objects.others.push(object),
            }
        }
        objects.parts.sort_by_key(|part| part.name);
        Ok(objects)
    }
}
