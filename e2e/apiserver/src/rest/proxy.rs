//! Logs: fetched from the kubelet of the pod's node, over HTTPS.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::StatusCode;
use serde_json::Value;

use super::{Reply, Request};
use crate::status::{ApiError, ApiResult};
use crate::store::{GroupResource, Key};

/// Bytes from elsewhere.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// A client for kubelets, with the server's own client certificate.
#[derive(Clone)]
pub struct KubeletClient(reqwest::Client);

impl KubeletClient {
    /// A client that shows this certificate. Kubelets serve certificates of their own making, so theirs are not
    /// checked.
    pub fn new(identity: &crate::auth::tls::Pair) -> anyhow::Result<Self> {
        let pem = format!("{}{}", identity.key, identity.certificate);
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .identity(reqwest::Identity::from_pem(pem.as_bytes())?)
            .no_proxy()
            .build()?;
        Ok(Self(client))
    }
}

/// The log of a container.
pub async fn log(request: &mut Request<'_>) -> ApiResult<Reply> {
    let (container, base) = {
        let store = request.state.store();
        let pod = request.existing(&store)?;
        let container = container(request, &pod)?;
        let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        if node.is_empty() {
            return Err(ApiError::bad_request(format!(
                "pod {:?} does not have a host assigned",
                request.info.name
            )));
        }
        let key = Key { gr: GroupResource::new("", "nodes"), namespace: String::new(), name: node.clone() };
        let node = store.get(&key).cloned().ok_or_else(|| ApiError::not_found("", "nodes", &node))?;
        (container, kubelet(&node)?)
    };
    let url = log_url(
        request,
        &format!("{base}/containerLogs/{}/{}/{container}", request.info.namespace, request.info.name),
    );
    let answer = request
        .state
        .kubelet
        .0
        .get(&url)
        .send()
        .await
        .map_err(|e| ApiError::internal(format!("Get {url:?}: {}", chain(&e))))?;
    let status = answer.status();
    if !status.is_success() {
        let text = answer.text().await.unwrap_or_default();
        return Err(if status == StatusCode::NOT_FOUND || status == StatusCode::BAD_REQUEST {
            ApiError::bad_request(text)
        } else {
            ApiError::internal(text)
        });
    }
    let stream = answer.bytes_stream().map(|part| part.map_err(std::io::Error::other));
    Ok(Reply::Stream("text/plain", Box::pin(stream)))
}

/// The kubelet's address of a log, with the options of the request.
fn log_url(request: &Request<'_>, base: &str) -> String {
    let mut parameters = url::form_urlencoded::Serializer::new(String::new());
    for name in ["follow", "previous", "tailLines", "limitBytes", "sinceSeconds", "sinceTime", "timestamps"] {
        if let Some(value) = request.query.get(name) {
            parameters.append_pair(name, value);
        }
    }
    let parameters = parameters.finish();
    if parameters.is_empty() { base.to_owned() } else { format!("{base}?{parameters}") }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

fn container(request: &Request<'_>, pod: &Value) -> ApiResult<String> {
    let names: Vec<&str> = ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .filter_map(|c| c["name"].as_str())
        .collect();
    let main: Vec<&str> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str())
        .collect();
    match request.query.get("container") {
        Some(name) if names.contains(&name) => Ok(name.to_owned()),
        Some(name) => {
            Err(ApiError::bad_request(format!("container {name} is not valid for pod {}", request.info.name)))
        }
        None if main.len() == 1 => Ok(main[0].to_owned()),
        None => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {}, choose one of: [{}]",
            request.info.name,
            names.join(" ")
        ))),
    }
}

fn kubelet(node: &Value) -> ApiResult<String> {
    let address = node["status"]["addresses"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|a| a["type"] == "InternalIP")
        .and_then(|a| a["address"].as_str());
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    match (address, port) {
        (Some(address), Some(port)) => Ok(format!("https://{address}:{port}")),
        _ => Err(ApiError::internal(format!(
            "node {:?} does not say where its kubelet is (status.addresses, status.daemonEndpoints.kubeletEndpoint.Port)",
            node["metadata"]["name"].as_str().unwrap_or_default()
        ))),
    }
}
