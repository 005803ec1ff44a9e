//! What the manager's socket serves from: a running manager, or whoever else hosts the WAL services.

use std::future::Future;

use howdah_api::instance::InstanceStatus;

use super::role::Running;
use super::shared::Shared;
use super::wal::WalService;
use crate::pg::sql::MAINTENANCE_DB;

/// The answers behind the socket.
pub trait Served: Send + Sync + 'static {
    /// The WAL services.
    fn wal(&self) -> &WalService;

    /// Whether the server is a replica now, so that nothing of it is archived.
    fn is_replica(&self) -> impl Future<Output = bool> + Send;

    /// Its status.
    fn status(&self) -> impl Future<Output = InstanceStatus> + Send;
}

impl Served for Shared {
    fn wal(&self) -> &WalService {
        &self.wal
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
}
