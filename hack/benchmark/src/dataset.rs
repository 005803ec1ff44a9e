//! The data set: `pgbench -s 100`, three million rows of hex text, 20 000 rows of 7.7 kB that do not compress, all
//! times the size. About 2.07 GB at size 1. Kept between runs.

use crate::context::{Context, remove};
use crate::machine;
use crate::postgres::{Postgres, succeed};
use crate::tools::Tool;
use anyhow::Result;
use std::path::PathBuf;

/// Rows of the parts at a size: pgbench's scale, hex rows, incompressible rows.
fn rows(size: f64) -> (u32, u32, u32) {
    let scaled = |full: f64| (full * size).round().max(1.0) as u32;
    (scaled(100.0), scaled(3_000_000.0), scaled(20_000.0))
}

/// Which data set on which PostgreSQL.
#[derive(Clone, Debug)]
pub struct Bed {
    /// Size; 1 is 2.07 GB.
    pub size: f64,
    /// Folder of PostgreSQL's programs.
    pub bin: PathBuf,
}

impl Bed {
    /// The data set at a size, for all but pgBackRest.
    #[must_use]
    pub fn new(context: &Context, size: f64) -> Self {
        Self { size, bin: context.options.postgres.clone() }
    }

    /// The data set for a rival: pgBackRest may not know the newest PostgreSQL, barman-cloud is slow.
    #[must_use]
    pub fn of(context: &Context, rival: &dyn Tool) -> Self {
        let options = &context.options;
        match rival.name() {
            "pgBackRest" => Self { size: options.size(), bin: options.postgres_pgbackrest.clone() },
            "barman-cloud" => Self::new(context, options.barman_size()),
            _ => Self::new(context, options.size()),
        }
    }

    /// A name for files: version and size.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", major(&machine::version(&self.bin.join("postgres"), "--version")), self.size)
    }

    /// The server with the data set, which is made when this is its first use.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub fn open(&self, context: &Context) -> Result<Postgres> {
        let name = self.name();
        let file = |kind: &str| context.options.work.join(format!("{kind}-{name}"));
        let (data, complete, socket) = (file("data"), file("complete"), format!("pg-{name}"));
        if !complete.exists() {
            eprintln!("making data set {name}");
            remove(&data)?;
            Postgres::init(context, &self.bin, &data)?;
            fill(&Postgres::start(context, &self.bin, &data, &socket)?, self.size)?;
            std::fs::write(&complete, "")?;
        }
        let server = Postgres::start(context, &self.bin, &data, &socket)?;
        server.archive_by("/bin/true")?;
        Ok(server)
    }
}

/// `18` of `postgres (PostgreSQL) 18.6`.
fn major(version: &str) -> &str {
    let number = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    number.and_then(|number| number.split('.').next()).unwrap_or("unknown")
}

fn fill(server: &Postgres, size: f64) -> Result<()> {
    let (scale, hex, noise) = rows(size);
    let mut pgbench = server.client("pgbench");
    succeed(pgbench.args(["-i", "-q", "-s", &scale.to_string(), "postgres"]))?;
    server.sql(&[
        "SELECT setseed(0.5)",
        &format!(
            "CREATE TABLE hex AS SELECT g AS id, md5(random()::text) || md5(random()::text) || md5(random()::text) \
             AS text FROM generate_series(1, {hex}) g"
        ),
        "CREATE TABLE noise (id int, bytes bytea)",
        "ALTER TABLE noise ALTER bytes SET STORAGE PLAIN",
        // 120 digests of 64 bytes; the condition makes them anew for each row.
        &format!(
            "INSERT INTO noise SELECT g, (SELECT string_agg(sha512(random()::text::bytea), ''::bytea) \
             FROM generate_series(1, 120) WHERE g > 0) FROM generate_series(1, {noise}) g"
        ),
        "VACUUM (FREEZE, ANALYZE)",
        "CHECKPOINT",
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_a_major_number() {
        assert_eq!(major("postgres (PostgreSQL) 18.6"), "18");
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), "15");
        assert_eq!(major("none"), "unknown");
    }

    #[test]
    fn the_parts_keep_their_proportions() {
        assert_eq!(rows(1.0), (100, 3_000_000, 20_000));
        assert_eq!(rows(0.25), (25, 750_000, 5_000));
        assert_eq!(rows(4.0), (400, 12_000_000, 80_000));
    }
}
