//! A replica becomes a primary.

use tokio_postgres::Client;

use crate::error::{Error, Result};

/// Promotes the server and waits for it.
///
/// # Errors
/// When it does not take writes within a minute; the promotion goes on. When SQL fails.
pub async fn promote(sql: &Client) -> Result<()> {
    let promoted: bool = sql.query_one("SELECT pg_promote(true, 60)", &[]).await?.try_get(0)?;
    match promoted {
        true => Ok(()),
        false => Err(Error::transient("the promotion is not finished; it goes on")),
    }
}
