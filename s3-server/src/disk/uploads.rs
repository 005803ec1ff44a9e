//! Uploads in parts. The parts of a completed one become the object's bytes where they are: nothing is copied,
//! so completing takes no time and no room, whatever the size.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use s3s::S3Result;
use serde::{Deserialize, Serialize};

use super::open;
use super::path::{self, Kind};
use super::read::part_name;
use super::record::{Assembled, Record};
use super::staging::{DiskStaging, Finished};
use super::tree;
use super::volume::Volume;
use crate::conditions::WriteCondition;
use crate::failure::{no_such_upload, storage_failure};
use crate::object::ObjectInfo;
use crate::store::{Upload, UploadSummary};

/// What an upload will be.
pub(super) const RECORD: &str = "upload.json";

#[derive(Serialize, Deserialize)]
pub(super) struct UploadFile {
    pub template: ObjectInfo,
    pub initiated: DateTime<Utc>,
}

/// Ids are ours: anything else could lead elsewhere.
fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// Reads the record in an upload's directory; `None` when there is no readable one.
pub(super) fn read(dir: &std::path::Path) -> io::Result<Option<UploadFile>> {
    match fs::read(dir.join(RECORD)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Volume {
    fn upload_dir(&self, id: &str) -> S3Result<PathBuf> {
        if is_id(id) { Ok(self.top.join("uploads").join(id)) } else { Err(no_such_upload(id)) }
    }

    /// Begins an upload. It appears with its record or not at all.
    pub fn begin_upload(&self, template: ObjectInfo) -> S3Result<String> {
        self.object_path(&template.key)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let begin = || {
            let made = self.tmp().join(&id);
            fs::create_dir(&made)?;
            open::write(&made.join(RECORD), &UploadFile { initiated: template.modified, template })?;
            let uploads = self.top.join("uploads");
            fs::rename(&made, uploads.join(&id))?;
            tree::sync(&uploads)
        };
        begin().map_err(storage_failure)?;
        Ok(id)
    }

    /// The record of an upload in progress.
    pub fn require_upload(&self, key: &str, id: &str) -> S3Result<(PathBuf, UploadFile)> {
        let dir = self.upload_dir(id)?;
        let record = read(&dir).map_err(storage_failure)?.filter(|record| record.template.key == key);
        Ok((dir, record.ok_or_else(|| no_such_upload(id))?))
    }

    /// An upload in progress with its parts.
    pub fn upload(&self, key: &str, id: &str) -> S3Result<Upload> {
        let (dir, record) = self.require_upload(key, id)?;
        let mut upload =
            Upload { template: record.template, initiated: record.initiated, parts: Default::default() };
        let listed = fs::read_dir(&dir).map_err(|error| gone(id, error))?;
        for entry in listed {
            let entry = entry.map_err(storage_failure)?;
            let number = entry.file_name().to_str().and_then(part_number);
            let Some(number) = number else { continue };
            if let Some(part) = Record::at(&entry.path()).map_err(storage_failure)? {
                upload.parts.insert(number, Arc::new(part.info));
            }
        }
        Ok(upload)
    }

    /// Uploads in progress whose key begins with `prefix`.
    pub fn uploads(&self, prefix: &str) -> S3Result<Vec<UploadSummary>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.top.join("uploads")).map_err(storage_failure)? {
            let entry = entry.map_err(storage_failure)?;
            let record = read(&entry.path()).map_err(storage_failure)?;
            let Some(UploadFile { template, initiated }) = record else { continue };
            if template.key.starts_with(prefix) {
                let id = entry.file_name().to_string_lossy().into_owned();
                found.push(UploadSummary { key: template.key, id, initiated });
            }
        }
        found.sort();
        Ok(found)
    }

    /// Puts a part in its place.
    pub fn place_part(&self, id: &str, number: u32, file: Finished) -> S3Result<()> {
        let dir = self.upload_dir(id)?;
        let _upload = self.lock_upload(id);
        fs::rename(&file.path, dir.join(part_name(number))).map_err(|error| gone(id, error))?;
        let _ = file.path.keep();
        tree::sync(&dir).map_err(|error| gone(id, error))
    }

    /// Makes the object. Its record is placed first and names the parts where they are; then these move beside the
    /// other objects' parts. A crash between the two is mended at the next start.
    pub fn complete_upload(
        &self,
        id: &str,
        info: ObjectInfo,
        numbers: &[u32],
        condition: &WriteCondition,
    ) -> S3Result<()> {
        let dir = self.upload_dir(id)?;
        let _upload = self.lock_upload(id);
        for number in numbers {
            fs::metadata(dir.join(part_name(*number))).map_err(|error| gone(id, error))?;
        }
        let assembled = Some(Assembled { upload: id.to_owned(), numbers: numbers.to_vec() });
        let record = Record { info, assembled };
        let file = DiskStaging::new(&self.tmp()).and_then(|staging| staging.finish(&record));
        self.place(&record, file.map_err(storage_failure)?, condition)?;
        // The object is there: what fails now fails nobody's upload.
        if let Err(error) = self.settle(id, Some(numbers)) {
            tracing::warn!(bucket = self.name, upload = id, %error, "the next start ends this upload");
        }
        Ok(())
    }

    /// Moves the parts of a completed upload to those of the objects, without the parts that it left out.
    pub fn settle(&self, id: &str, numbers: Option<&[u32]>) -> io::Result<()> {
        let (from, to) = (self.top.join("uploads").join(id), self.top.join("parts").join(id));
        if let Some(numbers) = numbers {
            for entry in fs::read_dir(&from)? {
                let entry = entry?;
                let number = entry.file_name().to_str().and_then(part_number);
                if number.is_some_and(|number| !numbers.contains(&number)) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        fs::rename(&from, &to)?;
        tree::sync(&self.top.join("parts"))?;
        tree::sync(&self.top.join("uploads"))
    }

    /// Ends an upload and frees its parts, unless they are an object's already.
    pub fn abort_upload(&self, id: &str) -> S3Result<()> {
        let dir = self.upload_dir(id)?;
        let _upload = self.lock_upload(id);
        let record = read(&dir).map_err(storage_failure)?.ok_or_else(|| no_such_upload(id))?;
        if self.consists_of(&record.template.key, id)? {
            return self.settle(id, None).map_err(storage_failure);
        }
        open::bury(&self.top, id).map_err(storage_failure)
    }
}

/// The number in the name of a part's file.
fn part_number(name: &str) -> Option<u32> {
    match path::parse(name)? {
        (Kind::File, bytes) => std::str::from_utf8(&bytes).ok()?.parse().ok(),
        _ => None,
    }
}

fn gone(id: &str, error: io::Error) -> s3s::S3Error {
    if error.kind() == io::ErrorKind::NotFound { no_such_upload(id) } else { storage_failure(error) }
}
