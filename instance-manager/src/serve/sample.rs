//! What PostgreSQL says about itself, in one query, and about its replicas, in another.

use howdah_api::instance::{InstanceRole, ReplicaState};
use tokio::time::{Duration, timeout};

use crate::error::{Error, Result};
use crate::pg::sql::MAINTENANCE_DB;
use crate::run::shared::Shared;

/// How long PostgreSQL may take to answer.
const ANSWER: Duration = Duration::from_secs(4);

/// One look at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Role.
    pub role: InstanceRole,
    /// `server_version_num`.
    pub server_version: Option<i32>,
    /// System identifier.
    pub system_id: Option<String>,
    /// Timeline.
    pub timeline: Option<u32>,
    /// Write position, or last received one.
    pub received_lsn: Option<String>,
    /// Last replayed position.
    pub replayed_lsn: Option<String>,
    /// When the last replayed transaction ended, in Unix seconds.
    pub replayed_time: Option<i64>,
    /// Whether a WAL receiver streams.
    pub streaming: bool,
    /// Whether a parameter waits for a restart.
    pub pending_restart: bool,
    /// Whether one of those that a replica must not have lower than its primary is to become lower.
    pub pending_restart_lowers: bool,
    /// `synchronous_standby_names`, on a primary.
    pub synchronous_standby_names: Option<String>,
    /// Who streams from it, on a primary.
    pub replicas: Vec<ReplicaState>,
}

/// Works on PostgreSQL 13 to 18, on primaries and replicas.
const QUERY: &str = "
SELECT r.recovering,
       current_setting('server_version_num')::int4,
       (SELECT system_identifier::text FROM pg_control_system()),
       CASE WHEN r.recovering
            THEN greatest((SELECT max(received_tli) FROM pg_stat_wal_receiver),
                          (SELECT timeline_id FROM pg_control_checkpoint()),
                          (SELECT min_recovery_end_timeline FROM pg_control_recovery()))::int8
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 END,
       CASE WHEN r.recovering THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text ELSE pg_current_wal_lsn()::text END,
       CASE WHEN r.recovering THEN pg_last_wal_replay_lsn()::text END,
       EXISTS (SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'),
       EXISTS (SELECT 1 FROM pg_settings WHERE pending_restart),
       CASE WHEN NOT r.recovering THEN current_setting('synchronous_standby_names') END,
       CASE WHEN EXISTS (SELECT 1 FROM pg_settings WHERE pending_restart)
            THEN EXISTS (SELECT 1 FROM pg_settings s JOIN pg_file_settings f USING (name)
                         WHERE s.pending_restart AND f.setting ~ '^[0-9]+$' AND f.setting::int8 < s.setting::int8
                           AND name IN ('max_connections', 'max_locks_per_transaction', 'max_prepared_transactions',
                                        'max_wal_senders', 'max_worker_processes'))
            ELSE false END,
       CASE WHEN r.recovering THEN floor(extract(epoch FROM pg_last_xact_replay_timestamp()))::int8 END
FROM (SELECT pg_is_in_recovery() AS recovering) r";

/// By name, so that the same state is the same answer.
const REPLICAS: &str = "
SELECT application_name, coalesce(state, ''), coalesce(sync_state, ''), flush_lsn::text
FROM pg_stat_replication
ORDER BY application_name, pid";

/// Looks once.
///
/// # Errors
/// When PostgreSQL does not answer in time.
pub async fn sample(shared: &Shared) -> Result<Sample> {
    let asking = async {
        let sql = shared.local.connect(MAINTENANCE_DB).await?;
        let row = sql.query_one(QUERY, &[]).await?;
        let recovering: bool = row.try_get(0)?;
        let mut replicas = Vec::new();
        if !recovering {
            for row in sql.query(REPLICAS, &[]).await? {
                replicas.push(ReplicaState {
                    name: row.try_get(0)?,
                    state: row.try_get(1)?,
                    sync_state: row.try_get(2)?,
                    flush_lsn: row.try_get(3)?,
                });
            }
        }
        Ok(Sample {
            role: if recovering { InstanceRole::Replica } else { InstanceRole::Primary },
            server_version: row.try_get(1)?,
            system_id: row.try_get(2)?,
            timeline: row.try_get::<_, Option<i64>>(3)?.and_then(|t| u32::try_from(t).ok()),
            received_lsn: row.try_get(4)?,
            replayed_lsn: row.try_get(5)?,
            replayed_time: row.try_get(10)?,
            streaming: row.try_get(6)?,
            pending_restart: row.try_get(7)?,
            pending_restart_lowers: row.try_get(9)?,
            synchronous_standby_names: row.try_get(8)?,
            replicas,
        })
    };
    timeout(ANSWER, asking).await.map_err(|_| Error::transient("PostgreSQL does not answer in time"))?
}
