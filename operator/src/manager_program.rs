//! The instance manager that belongs to this operator: the program in its own image, which pods are given.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A program file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerProgram {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

impl ManagerProgram {
    /// The program at `path`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = std::fs::File::open(path)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0u8; 256 << 10]);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        Ok(Self { path: path.to_owned(), sha256: hex::encode(hash.finalize()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, "abc").unwrap();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(ManagerProgram::read(&path).unwrap().sha256, sha256);
        assert!(ManagerProgram::read(&dir.path().join("none")).is_err());
    }
}
