//! The user that PostgreSQL and all measured programs run as.

use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Numbers of a user.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl User {
    /// The caller, or the package's `postgres` when that is root: PostgreSQL refuses root.
    ///
    /// # Errors
    /// When the caller is root and there is no user `postgres`.
    pub fn find() -> Result<Self> {
        let own = Self { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw() };
        if own.uid != 0 {
            return Ok(own);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        parse(&passwd).context("there is no user postgres: run hack/install base")
    }

    /// A command of this user's with a plain environment.
    #[must_use]
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").current_dir("/").uid(self.uid).gid(self.gid);
        command
    }

    /// Makes a directory that belongs to this user.
    ///
    /// # Errors
    /// When it cannot be made or given away.
    pub fn make_dir(self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} away", path.display()))
    }
}

fn parse(passwd: &str) -> Option<User> {
    let entry = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let number = |field: usize| entry.split(':').nth(field)?.parse().ok();
    Some(User { uid: number(2)?, gid: number(3)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_of_postgres() {
        let user = parse("root:x:0:0::/root:/bin/sh\npostgres:x:104:110::/var:/bin/sh\n").unwrap();
        assert_eq!((user.uid, user.gid), (104, 110));
        assert!(parse("root:x:0:0::/root:/bin/sh\n").is_none());
    }
}
