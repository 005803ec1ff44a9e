//! What the manager's socket serves from: a running manager, or whoever else knows repositories.
//!
//! A process without PostgreSQL, such as one that serves repositories from volumes, implements [`Served::stanza`] and
//! [`Served::repositories`] and runs [`super::socket::serve`] on its own socket: then `info`, `list`, `show`, `verify`,
//! `expire --dry-run` and `check` work in its pod.

use std::future::Future;
use std::sync::Arc;

use barman_cloud::SegmentSize;
use barman_cloud::report::{RunningBackup, ServerFacts};
use howdah_api::instance::{InstanceStatus, WalSwitch};
use howdah_engine::{ControlData, PrimaryWal};

use super::role::Running;
use super::shared::Shared;
use super::wal::WalService;
use crate::backup::primary::Primary;
use crate::backup::retention;
use crate::error::{Error, Result};
use crate::inspect::{Expired, NamedRepository};
use crate::pg::sql::MAINTENANCE_DB;

/// The answers behind the socket.
pub trait Served: Send + Sync + 'static {
    /// The WAL services; `None` where there is no PostgreSQL.
    fn wal(&self) -> Option<&WalService> {
        None
    }

    /// Whether the server is a replica now, so that nothing of it is archived.
    fn is_replica(&self) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Its status.
    fn status(&self) -> impl Future<Output = InstanceStatus> + Send {
        async { InstanceStatus::default() }
    }

    /// Name of the cluster.
    fn stanza(&self) -> String {
        String::new()
    }

    /// The repositories of the cluster, in the order in which they are configured.
    fn repositories(&self) -> Vec<NamedRepository> {
        Vec::new()
    }

    /// The database system here, once there is one.
    fn system(&self) -> Option<ServerFacts> {
        None
    }

    /// Bytes in a WAL segment of that system.
    fn segment_size(&self) -> SegmentSize {
        SegmentSize::DEFAULT
    }

    /// The backup that is being taken, and the name of the repository that it goes to.
    fn running_backup(&self) -> Option<(String, RunningBackup)> {
        None
    }

    /// Closes the WAL segment that the primary is writing.
    fn switch_wal(self: &Arc<Self>) -> impl Future<Output = Result<WalSwitch>> + Send {
        async { Err(Error::permanent("there is no PostgreSQL here whose WAL could be switched")) }
    }

    /// The primary of the cluster, for who waits for its WAL in a repository.
    fn primary(self: &Arc<Self>, _repository: &str) -> Option<Arc<dyn PrimaryWal>> {
        None
    }

    /// What retention would delete of a repository; with `confirm`, it is deleted. `None` when the repository has no
    /// retention.
    fn expire(
        &self,
        named: &NamedRepository,
        confirm: bool,
    ) -> impl Future<Output = Result<Option<Expired>>> + Send {
        async move {
            match confirm {
                false => named.planned().await,
                true => Err(Error::permanent(
                    "nothing is deleted from here: run expire --confirm in the pod of the primary",
                )),
            }
        }
    }
}

impl Served for Shared {
    fn wal(&self) -> Option<&WalService> {
        Some(&self.wal)
    }

    /// PostgreSQL asks first after a promotion, before the supervisor knows of it, so PostgreSQL itself is asked.
    async fn is_replica(&self) -> bool {
        if self.server.borrow().running != Some(Running::Standby) {
            return false;
        }
        let asking = async {
            let sql = self.local.connect(MAINTENANCE_DB).await?;
            let row = sql.query_one("SELECT pg_is_in_recovery()", &[]).await?;
            Ok::<bool, crate::error::Error>(row.try_get(0)?)
        };
        asking.await.unwrap_or(true)
    }

    async fn status(&self) -> InstanceStatus {
        crate::serve::status::collect(self).await
    }

    fn stanza(&self) -> String {
        self.env.cluster.clone()
    }

    fn repositories(&self) -> Vec<NamedRepository> {
        crate::inspect::configured(self.stores(), &self.env.cluster, &self.secrets())
    }

    fn system(&self) -> Option<ServerFacts> {
        // Not there before the data directory is filled.
        let control = ControlData::read(&self.env.paths.pgdata).ok()?;
        Some(ServerFacts { system_id: control.system_id.to_string(), version: self.major * 10_000 })
    }

    fn segment_size(&self) -> SegmentSize {
        ControlData::read(&self.env.paths.pgdata).map(|control| control.wal_segment_size).unwrap_or_default()
    }

    fn running_backup(&self) -> Option<(String, RunningBackup)> {
        let backup = self.backup()?;
        let (bytes_done, bytes_total) = (backup.progress.bytes_done(), backup.progress.bytes_total());
        Some((backup.repository, RunningBackup { bytes_done, bytes_total }))
    }

    async fn switch_wal(self: &Arc<Self>) -> Result<WalSwitch> {
        Primary { shared: Arc::clone(self), repository: String::new() }.switch(None).await
    }

    fn primary(self: &Arc<Self>, repository: &str) -> Option<Arc<dyn PrimaryWal>> {
        Some(Arc::new(Primary { shared: Arc::clone(self), repository: repository.to_owned() }))
    }

    async fn expire(&self, named: &NamedRepository, confirm: bool) -> Result<Option<Expired>> {
        match confirm {
            false => named.planned().await,
            true => retention::now(self, named).await,
        }
    }
}
