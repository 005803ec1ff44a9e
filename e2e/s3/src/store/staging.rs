//! A body on its way in: written as it arrives, finished with its description, then placed or dropped.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempPath;
use tokio::io::AsyncWriteExt;

use super::{Backend, Data, SINK_KEEPS, Stored, disk};
use crate::object::ObjectInfo;

/// A body being received.
pub(crate) enum Staging {
    Memory(Vec<Bytes>),
    File { file: tokio::fs::File, path: TempPath },
    Sink { kept: Vec<Bytes>, size: u64 },
}

/// A whole body that is in no bucket yet. Dropping it removes its file.
pub(crate) enum Staged {
    Ready(Data),
    File(TempPath),
}

fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> impl Future<Output = io::Result<T>> {
    let task = tokio::task::spawn_blocking(work);
    async move { task.await.map_err(io::Error::other)? }
}

impl Staging {
    pub fn new(backend: &Backend) -> io::Result<Self> {
        Ok(match backend {
            Backend::Memory => Self::Memory(Vec::new()),
            Backend::Sink => Self::Sink { kept: Vec::new(), size: 0 },
            Backend::Disk(disk) => {
                let (file, path) = tempfile::NamedTempFile::new_in(disk.tmp())?.into_parts();
                Self::File { file: tokio::fs::File::from_std(file), path }
            }
        })
    }

    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Memory(chunks) => chunks.push(bytes),
            Self::File { file, .. } => file.write_all(&bytes).await?,
            Self::Sink { kept, size } => {
                *size += bytes.len() as u64;
                if *size <= SINK_KEEPS {
                    kept.push(bytes);
                } else {
                    kept.clear();
                }
            }
        }
        Ok(())
    }

    /// Ends the body. A file is on the disk when this returns.
    pub async fn finish(self, info: &ObjectInfo) -> io::Result<Staged> {
        Ok(match self {
            Self::Memory(chunks) => Staged::Ready(Data::Memory(chunks)),
            Self::Sink { kept, size } if size <= SINK_KEEPS => Staged::Ready(Data::Memory(kept)),
            Self::Sink { .. } => Staged::Ready(Data::Dropped),
            Self::File { mut file, path } => {
                file.write_all(&disk::trailer(info)?).await?;
                file.flush().await?;
                file.sync_all().await?;
                Staged::File(path)
            }
        })
    }
}

impl Staged {
    /// Joins `parts` to one body described by `info`.
    pub async fn join(backend: &Backend, parts: Vec<Arc<Stored>>, info: &ObjectInfo) -> io::Result<Self> {
        let Backend::Disk(disk) = backend else {
            let mut chunks = Vec::new();
            for part in &parts {
                match &part.data {
                    Data::Memory(bytes) => chunks.extend(bytes.iter().cloned()),
                    Data::File(_) | Data::Dropped => return Ok(Self::Ready(Data::Dropped)),
                }
            }
            return Ok(Self::Ready(Data::Memory(chunks)));
        };
        let (tmp, trailer) = (disk.tmp(), disk::trailer(info)?);
        blocking(move || {
            let (mut file, path) = tempfile::NamedTempFile::new_in(tmp)?.into_parts();
            for part in &parts {
                if let Data::File(source) = &part.data {
                    copy_body(source, part.info.size, &mut file)?;
                }
            }
            file.write_all(&trailer)?;
            file.sync_all()?;
            Ok(Self::File(path))
        })
        .await
    }
}

fn copy_body(source: &Path, size: u64, to: &mut File) -> io::Result<()> {
    // File to file lets the kernel copy without passing the bytes through this process.
    let copied = io::copy(&mut File::open(source)?.take(size), to)?;
    if copied == size {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} is cut short", source.display())))
    }
}
