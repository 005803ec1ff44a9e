//! The ScheduledBackup controller: creates one Backup for each due slot.

pub mod apply;
pub mod build;
pub mod decide;
pub mod fetch;
pub mod retry;
pub mod status;
pub mod validate;

use std::time::Duration;

use kube::runtime::controller::Action;

use crate::context::Context;
use crate::error::Error;
use decide::Decision;
use fetch::Source;

/// Longest time between two looks, so that a change of the machine's clock is noticed.
const LONGEST: Duration = Duration::from_secs(600);
/// Time until the next look while a Backup of this schedule is not done.
const BUSY: Duration = Duration::from_secs(15);

/// One reconciliation of the ScheduledBackup `name`.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Action, Error> {
    let Some(mut observed) = fetch::fetch(ctx, namespace, name, Source::Watch).await? else {
        return Ok(Action::await_change());
    };
    let now = ctx.clock.now();
    let mut validated = validate::validate(&observed.schedule);
    let mut decision = decide::decide(&validated, &observed, now);
    if !matches!(decision, Decision::Rest { .. }) {
        // Something is due: that is decided on what is written now.
        let Some(fresh) = fetch::fetch(ctx, namespace, name, Source::Server).await? else {
            return Ok(Action::await_change());
        };
        observed = fresh;
        validated = validate::validate(&observed.schedule);
        decision = decide::decide(&validated, &observed, now);
    }
    let created = apply::apply(ctx, &observed, &decision).await?;
    status::write(ctx, &validated, &observed, &decision, created, now).await?;
    Ok(match &decision {
        Decision::Rest { until: Some(due) } => {
            let left = due.duration_since(now).unsigned_abs();
            Action::requeue(left.clamp(Duration::from_millis(200), LONGEST))
        }
        Decision::Rest { until: None } => Action::await_change(),
        Decision::Hold { .. } | Decision::Stuck { .. } => Action::requeue(BUSY),
        // The next due time is computed from what was just written.
        Decision::Create { .. } => Action::requeue(Duration::from_millis(200)),
    })
}
