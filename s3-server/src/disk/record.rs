//! The description of an object behind its bytes in one file: one rename places both.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::object::ObjectInfo;

/// Ends every file: length of the description as 8 bytes little endian, then this.
const MAGIC: &[u8; 8] = b"HOWDAHS3";
/// Length of what follows the description.
const END: u64 = 16;
/// Most descriptions are shorter: one read fetches them.
const USUAL: u64 = 4096;

/// What a file says of its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub info: ObjectInfo,
    /// Where the bytes are when they are not before the description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assembled: Option<Assembled>,
}

/// An object made of the parts of an upload, which stay files of their own: completing an upload copies nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Assembled {
    /// Id of the upload.
    pub upload: String,
    /// Numbers of its parts in order; their sizes are in [`ObjectInfo::parts`].
    pub numbers: Vec<u32>,
}

impl Record {
    /// An object whose bytes are in the same file.
    pub fn whole(info: ObjectInfo) -> Self {
        Self { info, assembled: None }
    }

    /// The bytes that follow the body.
    pub fn trailer(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        let length = bytes.len() as u64;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(MAGIC);
        Ok(bytes)
    }

    /// Reads the description of an open file; `path` is for the message.
    pub fn read(file: &File, path: &Path) -> io::Result<Self> {
        let damaged = |what: &str| {
            let text = format!(
                "{} is damaged ({what}): restore it from another copy of the volume, or remove it",
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let length = file.metadata()?.len();
        let mut tail = vec![0; usize::try_from(length.min(USUAL)).unwrap_or_default()];
        let begin = length - tail.len() as u64;
        file.read_exact_at(&mut tail, begin)?;
        let Some((rest, end)) = tail.split_last_chunk::<16>() else { return Err(damaged("too short")) };
        let (size, magic) = end.split_at(8);
        if magic != MAGIC {
            return Err(damaged("no description"));
        }
        let size = u64::from_le_bytes(size.try_into().map_err(io::Error::other)?);
        let Some(body) = length.checked_sub(END).and_then(|rest| rest.checked_sub(size)) else {
            return Err(damaged("its description is longer than the file"));
        };
        let fetched;
        let json = if size <= rest.len() as u64 {
            // At most USUAL.
            &rest[rest.len() - size as usize..]
        } else {
            let mut whole = vec![0; usize::try_from(size).map_err(io::Error::other)?];
            file.read_exact_at(&mut whole, body)?;
            fetched = whole;
            &fetched[..]
        };
        let record: Self = serde_json::from_slice(json).map_err(|error| damaged(&error.to_string()))?;
        let expected = if record.assembled.is_some() { 0 } else { record.info.size };
        if expected != body {
            return Err(damaged("its bytes are more or fewer than the description says"));
        }
        Ok(record)
    }

    /// Reads the description of the file at `path`; `None` when there is no file.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => Self::read(&file, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x#");
        let info = ObjectInfo { size: 5, ..ObjectInfo::new("x") };
        let record = Record::whole(info);
        let mut bytes = b"hello".to_vec();
        bytes.extend(record.trailer().unwrap());
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Record::at(&path).unwrap(), Some(record));
        for wrong in [&bytes[1..], &bytes[..bytes.len() - 1], &bytes[..3], b""] {
            std::fs::write(&path, wrong).unwrap();
            let error = Record::at(&path).unwrap_err();
            assert!(error.to_string().contains("x# is damaged"), "{error}");
        }
    }

    #[test]
    fn a_long_description_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x#");
        let info = ObjectInfo { size: 1 << 40, parts: vec![1 << 30; 1024], ..ObjectInfo::new("x") };
        let assembled = Some(Assembled { upload: "u".into(), numbers: (1..=1024).collect() });
        let record = Record { info, assembled };
        std::fs::write(&path, record.trailer().unwrap()).unwrap();
        assert_eq!(Record::at(&path).unwrap(), Some(record));
    }
}
