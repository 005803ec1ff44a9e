//! The durable store: one file an object, its description behind its bytes, one rename to commit.
//!
//! `<root>/<bucket>/objects/…#` are objects, `<root>/<bucket>/uploads/<id>/upload.json` and `…/<number>#` are
//! uploads in progress, `<root>/tmp/` holds what is being written. Files are synced before the rename and
//! directories after it, so whatever was acknowledged is there after a crash, and nothing half-written is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{BucketState, Data, Stored, Upload, path};
use crate::error::Error;
use crate::object::ObjectInfo;

/// Ends every file: length of the description as 8 bytes little endian, then this.
const MAGIC: &[u8; 8] = b"HOWDAHS3";

/// The directory of a durable store.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    root: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct UploadFile {
    template: ObjectInfo,
    initiated: DateTime<Utc>,
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Disk { action, path, source }
}

impl Disk {
    /// Opens `root` and reads what it holds.
    pub fn open(root: PathBuf) -> Result<(Self, BTreeMap<String, BucketState>), Error> {
        let tmp = root.join("tmp");
        if tmp.exists() {
            fs::remove_dir_all(&tmp).map_err(at("clean", &tmp))?;
        }
        fs::create_dir_all(&tmp).map_err(at("create", &tmp))?;
        let disk = Self { root };
        let mut buckets = BTreeMap::new();
        for entry in fs::read_dir(&disk.root).map_err(at("list", &disk.root))? {
            let entry = entry.map_err(at("list", &disk.root))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "tmp" && entry.path().join("objects").is_dir() {
                buckets.insert(name.clone(), disk.load_bucket(&name)?);
            }
        }
        Ok((disk, buckets))
    }

    fn load_bucket(&self, bucket: &str) -> Result<BucketState, Error> {
        let mut state = BucketState::new();
        load_objects(&self.objects(bucket), &mut |stored| {
            state.objects.insert(stored.info.key.clone(), Arc::new(stored));
        })?;
        let uploads = self.root.join(bucket).join("uploads");
        for entry in fs::read_dir(&uploads).map_err(at("list", &uploads))? {
            let dir = entry.map_err(at("list", &uploads))?.path();
            let file = dir.join("upload.json");
            // An upload that was being made or removed when the server died was never acknowledged.
            let Ok(bytes) = fs::read(&file) else {
                fs::remove_dir_all(&dir).map_err(at("clean", &dir))?;
                continue;
            };
            let record: UploadFile = serde_json::from_slice(&bytes)
                .map_err(|error| Error::Damaged { path: file.clone(), what: error.to_string() })?;
            let mut upload =
                Upload { template: record.template, initiated: record.initiated, parts: BTreeMap::new() };
            load_objects(&dir, &mut |stored| {
                if let Ok(number) = stored.info.key.parse() {
                    upload.parts.insert(number, Arc::new(stored));
                }
            })?;
            let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            state.uploads.insert(id, upload);
        }
        Ok(state)
    }

    fn objects(&self, bucket: &str) -> PathBuf {
        self.root.join(bucket).join("objects")
    }

    /// Where things being written are.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub fn create_bucket(&self, bucket: &str) -> Result<(), Error> {
        for dir in [self.objects(bucket), self.root.join(bucket).join("uploads")] {
            fs::create_dir_all(&dir).map_err(at("create", &dir))?;
        }
        sync_up(&self.objects(bucket), &self.root).map_err(at("sync", &self.root))
    }

    pub fn delete_bucket(&self, bucket: &str) -> io::Result<()> {
        fs::remove_dir_all(self.root.join(bucket))?;
        sync_up(&self.root, &self.root)
    }

    pub fn object_path(&self, bucket: &str, key: &str) -> PathBuf {
        self.objects(bucket).join(path::of_key(key))
    }

    pub fn part_path(&self, bucket: &str, upload: &str, number: u32) -> PathBuf {
        self.root.join(bucket).join("uploads").join(upload).join(format!("{number:05}#"))
    }

    /// Writes down that an upload began.
    pub fn create_upload(&self, bucket: &str, id: &str, upload: &Upload) -> io::Result<()> {
        let dir = self.root.join(bucket).join("uploads").join(id);
        fs::create_dir_all(&dir)?;
        let record = UploadFile { template: upload.template.clone(), initiated: upload.initiated };
        let mut file = File::create(dir.join("upload.json.tmp"))?;
        file.write_all(&serde_json::to_vec(&record)?)?;
        file.sync_all()?;
        fs::rename(dir.join("upload.json.tmp"), dir.join("upload.json"))?;
        sync_up(&dir, &self.root)
    }

    /// Forgets an upload and its parts. The record goes first: without it the rest is garbage.
    pub fn remove_upload(&self, bucket: &str, id: &str) -> io::Result<()> {
        let dir = self.root.join(bucket).join("uploads").join(id);
        match fs::remove_file(dir.join("upload.json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        fs::remove_dir_all(&dir)
    }

    /// Puts a finished file in its place.
    pub fn place(&self, from: &Path, to: &Path) -> io::Result<()> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(from, to)
    }

    /// Removes an object's file and the directories it leaves empty.
    pub fn remove(&self, bucket: &str, file: &Path) -> io::Result<()> {
        fs::remove_file(file)?;
        let top = self.objects(bucket);
        let mut dir = file.parent();
        while let Some(parent) = dir.filter(|parent| *parent != top && parent.starts_with(&top)) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
            dir = parent.parent();
        }
        Ok(())
    }

    /// Makes renames and removals at `file` durable.
    pub fn settle(&self, file: &Path) -> io::Result<()> {
        let mut dir = file.parent().unwrap_or(&self.root);
        while !dir.exists() {
            dir = dir.parent().unwrap_or(&self.root);
        }
        sync_up(dir, &self.root)
    }
}

/// Syncs `dir` and its parents up to and including `top`.
fn sync_up(dir: &Path, top: &Path) -> io::Result<()> {
    let mut current = Some(dir);
    while let Some(path) = current.filter(|path| path.starts_with(top)) {
        match File::open(path) {
            Ok(handle) => handle.sync_all()?,
            // Emptied and removed by another request: its own sync covers that.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        current = path.parent();
    }
    Ok(())
}

/// The bytes that follow the body of a file.
pub(crate) fn trailer(info: &ObjectInfo) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(info)?;
    let length = bytes.len() as u64;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(MAGIC);
    Ok(bytes)
}

fn read_info(path: &Path) -> Result<ObjectInfo, Error> {
    let damaged = |what: &str| Error::Damaged { path: path.to_owned(), what: what.to_owned() };
    let mut file = File::open(path).map_err(at("open", path))?;
    let length = file.metadata().map_err(at("stat", path))?.len();
    if length < 16 {
        return Err(damaged("shorter than its trailer"));
    }
    file.seek(SeekFrom::End(-16)).map_err(at("read", path))?;
    let mut tail = [0u8; 16];
    file.read_exact(&mut tail).map_err(at("read", path))?;
    let (size, magic) = tail.split_at(8);
    if magic != MAGIC {
        return Err(damaged("no trailer"));
    }
    let mut number = [0u8; 8];
    number.copy_from_slice(size);
    let description = u64::from_le_bytes(number);
    let Some(body) = length.checked_sub(16).and_then(|rest| rest.checked_sub(description)) else {
        return Err(damaged("trailer longer than the file"));
    };
    file.seek(SeekFrom::Start(body)).map_err(at("read", path))?;
    let mut json = Vec::new();
    file.take(description).read_to_end(&mut json).map_err(at("read", path))?;
    let info: ObjectInfo = serde_json::from_slice(&json).map_err(|error| damaged(&error.to_string()))?;
    if info.size != body {
        return Err(damaged("body shorter or longer than its description says"));
    }
    Ok(info)
}

fn load_objects(dir: &Path, found: &mut dyn FnMut(Stored)) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let entry = entry.map_err(at("list", dir))?;
        let path = entry.path();
        if entry.file_type().map_err(at("stat", &path))?.is_dir() {
            load_objects(&path, found)?;
        } else if entry.file_name().to_string_lossy().ends_with('#') {
            let info = Arc::new(read_info(&path)?);
            found(Stored { info, data: Data::File(path) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x#");
        let info = ObjectInfo { size: 5, ..ObjectInfo::new("x") };
        let mut bytes = b"hello".to_vec();
        bytes.extend(trailer(&info).unwrap());
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read_info(&path).unwrap(), info);
        fs::write(&path, &bytes[1..]).unwrap();
        assert!(matches!(read_info(&path), Err(Error::Damaged { .. })));
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(read_info(&path), Err(Error::Damaged { .. })));
    }
}
