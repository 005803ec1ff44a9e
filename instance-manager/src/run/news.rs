//! News of the archive become events of the Cluster.

use std::sync::Arc;

use kube::runtime::events::EventType;

use super::shared::Shared;

/// Tells them for as long as the process lives.
pub async fn tell(shared: Arc<Shared>) {
    let Some(mut heard) = shared.wal.news() else { return };
    while let Some(news) = heard.recv().await {
        let cluster = shared.cluster();
        let note = format!("{}: {}", shared.env.pod, news.text());
        shared.kube.event(&*cluster, EventType::Warning, news.reason(), &note).await;
    }
}
