//! A recovery without end: the first instance of a replica cluster (`spec.replica`), until it is promoted.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::shared::Shared;
use crate::bootstrap::recovery_file::RecoveryFile;
use crate::error::Result;
use crate::kube::secrets::SecretValues;
use crate::pg::promote;

/// How often PostgreSQL is asked whether somebody else has promoted it.
const LOOK: Duration = Duration::from_secs(5);

/// How long nothing is told again about a source that cannot be read.
const TELL_AGAIN: Duration = Duration::from_secs(300);

/// What is known about it while its server lives.
pub struct Following {
    source: String,
    secrets: SecretValues,
    looked: Instant,
    told: Option<Instant>,
}

impl Following {
    /// Begins; the archive is served with `secrets`.
    #[must_use]
    pub fn new(file: &RecoveryFile, secrets: &SecretValues) -> Self {
        Self {
            source: file.place.describe(),
            secrets: used(file, secrets),
            looked: Instant::now(),
            told: None,
        }
    }

    /// The place that is followed, for people.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What the instance does, for people.
    #[must_use]
    pub fn message(&self, trouble: Option<&str>) -> String {
        match trouble {
            None => format!("follows {}", self.source),
            Some(why) => format!("follows {}, which cannot be read at present: {why}", self.source),
        }
    }

    /// What is wrong with the archive; `None` when PostgreSQL itself is to be looked at: it shall be promoted, or has not
    /// been looked at for a while.
    pub fn look(&mut self, shared: &Shared) -> Option<Option<String>> {
        if shared.cluster().spec.follows().is_none() || self.looked.elapsed() > LOOK {
            self.looked = Instant::now();
            return None;
        }
        Some(shared.wal.following().and_then(|wal| wal.trouble()))
    }

    /// Whether people are to be told that the archive cannot be read: once, and again after a while.
    pub fn tells(&mut self) -> bool {
        let tells = self.told.is_none_or(|told| told.elapsed() > TELL_AGAIN);
        if tells {
            self.told = Some(Instant::now());
        }
        tells
    }

    /// Goes on with other credentials when these have changed.
    ///
    /// # Errors
    /// When they cannot be used.
    pub async fn read_again(&mut self, shared: &Shared, secrets: &SecretValues) -> Result<()> {
        let Some(file) = RecoveryFile::read(&shared.env.paths)? else { return Ok(()) };
        let used = used(&file, secrets);
        if used == self.secrets {
            return Ok(());
        }
        shared.wal.stop_serving().await;
        shared.wal.serve_recovery(&file, secrets)?;
        self.secrets = used;
        tracing::info!("the archive that is followed is read with its new credentials");
        Ok(())
    }
}

fn used(file: &RecoveryFile, secrets: &SecretValues) -> SecretValues {
    secrets.only(file.places().flat_map(|place| place.store.secret_names()))
}

/// The server shall take writes.
///
/// # Errors
/// As [`promote::promote`].
pub async fn promote(shared: &Shared, sql: &Client) -> Result<()> {
    if let Some(wal) = shared.wal.following() {
        wal.end();
    }
    tracing::info!("spec.replica is no longer enabled: the server is promoted");
    promote::promote(sql).await
}
