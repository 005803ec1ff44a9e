//! The data set: `pgbench -s 100`, three million rows of hex text, 20 000 rows of 7.7 kB that do not compress, all
//! times the size. About 2.07 GB at size 1. Kept between runs.

use crate::context::{Context, remove};
use crate::postgres::{Postgres, succeed};
use anyhow::Result;
use std::path::PathBuf;

/// Rows of the parts at a size: pgbench's scale, hex rows, incompressible rows.
fn rows(size: f64) -> (u32, u32, u32) {
    let scaled = |full: f64| (full * size).round().max(1.0) as u32;
    (scaled(100.0), scaled(3_000_000.0), scaled(20_000.0))
}

/// The server with the data set, which is made when this is its first use.
///
/// # Errors
/// When PostgreSQL fails.
pub fn open(context: &Context, size: f64) -> Result<Postgres> {
    let data = directory(context, size);
    let complete = data.with_extension("complete");
    if !complete.exists() {
        eprintln!("making the data set of size {size}");
        remove(&data)?;
        Postgres::init(context, &data)?;
        fill(&Postgres::start(context, &data, &socket(size))?, size)?;
        std::fs::write(&complete, "")?;
    }
    let server = Postgres::start(context, &data, &socket(size))?;
    server.archive_by("/bin/true")?;
    Ok(server)
}

fn directory(context: &Context, size: f64) -> PathBuf {
    context.options.work.join(format!("data-{size}"))
}

fn socket(size: f64) -> String {
    format!("pg-{size}")
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
    fn the_parts_keep_their_proportions() {
        assert_eq!(rows(1.0), (100, 3_000_000, 20_000));
        assert_eq!(rows(0.25), (25, 750_000, 5_000));
        assert_eq!(rows(4.0), (400, 12_000_000, 80_000));
    }
}
