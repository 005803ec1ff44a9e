//! Backup and restore of an encrypted repository against the same without encryption, in turns.
//!
//! Every run here is a process of its own and makes the key from the passphrase anew; an instance manager does so once
//! for a passphrase. How long that takes alone is measured first, printed, and taken from the encrypted runs' times.

use crate::context::{Context, remove};
use crate::dataset::Bed;
use crate::postgres::Postgres;
use crate::report::{Figure, Sample};
use crate::service::Service;
use crate::stats::median_ratio;
use crate::target::Verdict;
use crate::tools::Tool;
use crate::tools::howdah::{Howdah, PREFIX};
use anyhow::Result;
use barman_cloud::store::MIN_ITERATIONS;
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use std::num::NonZeroU32;
use std::time::Instant;

const CODECS: [&str; 2] = ["lz4", "zstd"];
const CIPHERS: [&str; 2] = ["aes-256-gcm", "aes-256-cbc"];
/// Most that encryption may take, as a part of the time without it: at most a tenth of the throughput is lost.
const WALL: f64 = 1.0 / 0.9;

/// All of it; each ratio is the median of as many pairs as are asked for.
///
/// # Errors
/// When a run fails.
pub async fn run(context: &Context) -> Result<(Vec<Figure>, Vec<Verdict>)> {
    let (mut figures, mut verdicts) = (Vec::new(), Vec::new());
    let derivation = derivation();
    eprintln!("making a key from a passphrase: {derivation:.2} s, taken from each encrypted run");
    let server = Bed::new(context, context.options.size()).open(context)?;
    for codec in CODECS {
        for cipher in CIPHERS {
            let (mut backups, mut restores) = (Vec::new(), Vec::new());
            for _ in 0..context.options.pairs {
                let (backup, restore) = both(context, &server, codec, "").await?;
                let (backup_encrypted, restore_encrypted) = both(context, &server, codec, cipher).await?;
                backups.push((backup_encrypted, backup));
                restores.push((restore_encrypted, restore));
            }
            for (what, pairs) in [("backup", backups), ("restore", restores)] {
                let name = format!("{what}, {codec}, {cipher}");
                for (encrypted, plain) in &pairs {
                    figures.push(Figure { name: format!("{what}, {codec}, plain"), sample: *plain });
                    figures.push(Figure { name: name.clone(), sample: *encrypted });
                }
                let walls: Vec<_> = pairs
                    .iter()
                    .map(|(encrypted, plain)| (encrypted.wall - derivation, plain.wall))
                    .collect();
                verdicts.push(Verdict::at_most(&name, "plain", "wall", median_ratio(&walls), WALL));
            }
        }
    }
    Ok((figures, verdicts))
}

/// Seconds that a key takes: the quickest of three, so that nothing is taken off too much.
fn derivation() -> f64 {
    let once = || {
        let (begun, mut key) = (Instant::now(), [0_u8; 48]);
        let rounds = NonZeroU32::new(MIN_ITERATIONS).unwrap_or(NonZeroU32::MIN);
        derive(PBKDF2_HMAC_SHA256, rounds, b"sixteen bytes of", b"passphrase", &mut key);
        std::hint::black_box(key);
        begun.elapsed().as_secs_f64()
    };
    (0..3).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// A backup and the restore of it, into and from an empty repository.
async fn both(
    context: &Context,
    server: &Postgres,
    codec: &str,
    cipher: &'static str,
) -> Result<(Sample, Sample)> {
    context.s3.clear(PREFIX).await?;
    context.cipher.set(cipher);
    let service = Service::start(context, &server.data, "lz4", context.options.jobs, None)?;
    server.archive_by(&service.archive_command(context))?;
    server.sql(&["CHECKPOINT"])?;
    let backup = Howdah.backup(context, server, codec).run(context)?.sample();
    let target = context.fresh("restored")?;
    let restore = Howdah.restore(context, &target, codec).await?.run(context)?.sample();
    super::backup::verify(server, &target)?;
    remove(&target)?;
    server.archive_by("/bin/true")?;
    drop(service);
    context.cipher.set("");
    eprintln!("{codec} {cipher}: {:.2} s and {:.2} s", backup.wall, restore.wall);
    Ok((backup, restore))
}
