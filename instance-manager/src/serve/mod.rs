//! The three servers of the manager: `status` (HTTPS with client certificates), `probes` and `metrics`.

pub mod listen;
pub mod manager;
pub mod metrics;
pub mod probes;
pub mod sample;
pub mod status;
pub mod tls;

use std::sync::Arc;

use howdah_api::naming;

use crate::error::Result;
use crate::run::shared::Shared;

/// Starts all three.
///
/// # Errors
/// When an address is taken or the certificates cannot be used.
pub async fn start(shared: &Arc<Shared>) -> Result<()> {
    let port = |p: i32| u16::try_from(p).unwrap_or_default();
    let ip = shared.env.listen_ip();
    let status = listen::bind(ip, port(naming::STATUS_PORT)).await?;
    let probes = listen::bind(ip, port(naming::PROBES_PORT)).await?;
    let metrics = listen::bind(ip, port(naming::METRICS_PORT)).await?;
    let tls = tls::Reloading::start(shared)?;
    tokio::spawn(listen::serve_tls(status, tls, status::router(shared.clone())));
    tokio::spawn(listen::serve_plain(probes, probes::router(shared.clone())));
    tokio::spawn(listen::serve_plain(metrics, metrics::router(shared.clone())));
    Ok(())
}
