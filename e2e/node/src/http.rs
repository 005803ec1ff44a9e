//! What the kubelet serves: container logs for the API server's log proxy, over HTTPS, and a lab's own call
//! with which other processes kill containers: `POST /lab/kill/<namespace>/<pod>/<container>`, by default with
//! SIGKILL and to PID 1, otherwise with `?signal=SIGTERM` and to the oldest process named `&process=postgres`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::Utc;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use nix::sys::signal::Signal;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::logs::{self, Options};
use crate::pod::Live;
use crate::shared::Shared;

/// A bound endpoint, before it serves.
pub(crate) struct Endpoint {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pub address: SocketAddr,
}

fn setup(reason: impl std::fmt::Display) -> Error {
    Error::Setup { what: "the kubelet's HTTPS endpoint", reason: reason.to_string() }
}

impl Endpoint {
    /// Binds a free port with a certificate made for the occasion.
    pub async fn bind(ip: IpAddr, node: &str) -> Result<Self, Error> {
        let listener = TcpListener::bind((ip, 0)).await.map_err(setup)?;
        let address = listener.local_addr().map_err(setup)?;
        let made =
            rcgen::generate_simple_self_signed(vec![node.to_owned(), "localhost".to_owned(), ip.to_string()])
                .map_err(setup)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(setup)?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .map_err(setup)?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)), address })
    }

    /// Serves until `stop`.
    pub async fn serve(self, shared: Arc<Shared>, stop: CancellationToken) {
        let router = Router::new()
            .route("/healthz", get(|| async { "ok" }))
            .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs))
            .route("/lab/kill/{namespace}/{pod}/{container}", post(kill))
            .with_state(shared);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (acceptor, router, stop) = (self.acceptor.clone(), router.clone(), stop.clone());
            tokio::spawn(async move {
                let work = async {
                    let stream = acceptor.accept(stream).await.map_err(std::io::Error::other)?;
                    hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                        .await
                        .map_err(std::io::Error::other)
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    result = work => if let Err(error) = result {
                        tracing::debug!(%error, "a connection to the kubelet ended early");
                    }
                }
            });
        }
    }
}

type Refusal = (StatusCode, String);

/// Which signal, to whom.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Blow {
    signal: Option<String>,
    process: Option<String>,
}

async fn kill(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(blow): Query<Blow>,
) -> Result<&'static str, Refusal> {
    let signal = blow
        .signal
        .as_deref()
        .map_or(Ok(Signal::SIGKILL), str::parse)
        .map_err(|_| (StatusCode::BAD_REQUEST, "signal: give a name such as SIGKILL".to_owned()))?;
    let pod = shared
        .find_pod(&namespace, &name)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod {namespace}/{name} is not on this node")))?;
    let sent = match blow.process.as_deref() {
        Some(process) => pod.signal_process(&container, process, signal),
        None => pod.signal(&container, signal),
    };
    sent.map(|()| "ok").map_err(|error| (StatusCode::NOT_FOUND, error.to_string()))
}

async fn container_logs(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(options): Query<Options>,
) -> Result<Response, Refusal> {
    let not_found = |what: String| (StatusCode::NOT_FOUND, what);
    let pod = shared
        .find_pod(&namespace, &name)
        .ok_or_else(|| not_found(format!("pod {namespace}/{name} is not on this node")))?;
    let (run, live) =
        {
            let state = pod.state();
            let record =
                state.init.iter().chain(&state.main).find(|record| record.name == container).ok_or_else(
                    || not_found(format!("container {container} in pod {name} is not available")),
                )?;
            if record.id.is_none() {
                let waiting = format!("container {container:?} in pod {name:?} is waiting to start");
                return Err((StatusCode::BAD_REQUEST, waiting));
            }
            (record.restarts, state.live.get(&container).cloned())
        };
    let run = if options.previous { run.checked_sub(1) } else { Some(run) };
    let path = run.map(|run| logs::path(&shared.pod_dir(&pod.uid), &container, run));
    let Some(path) = path.filter(|path| path.exists()) else {
        let which = if options.previous { "previous terminated " } else { "" };
        return Err((
            StatusCode::BAD_REQUEST,
            format!("{which}container {container:?} in pod {name:?} not found"),
        ));
    };
    let failed = |error: std::io::Error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let live = live.filter(|_| options.follow && !options.previous);
    let Some(live) = live else {
        let text = tokio::fs::read_to_string(&path).await.map_err(failed)?;
        return Ok(plain(Body::from(logs::select(&text, &options, Utc::now()))));
    };
    let (lines, inbox) = mpsc::channel::<Result<Bytes, std::io::Error>>(16);
    tokio::spawn(follow(path, live, options, lines));
    let stream =
        futures::stream::unfold(
            inbox,
            |mut inbox| async move { inbox.recv().await.map(|item| (item, inbox)) },
        );
    Ok(plain(Body::from_stream(stream)))
}

fn plain(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

/// Sends what is written and what will be, until the container ends or nobody listens.
async fn follow(
    path: std::path::PathBuf,
    live: Live,
    options: Options,
    lines: mpsc::Sender<Result<Bytes, std::io::Error>>,
) {
    let mut progress = live.log.progress();
    let mut seen = 0usize;
    let mut first = true;
    loop {
        let (_, ended) = *progress.borrow_and_update();
        match tokio::fs::read_to_string(&path).await {
            Ok(text) => {
                // Only whole lines: the rest comes with the next news.
                let whole = text.rfind('\n').map_or(0, |at| at + 1);
                let fresh = text.get(seen..whole).unwrap_or_default();
                seen = whole.max(seen);
                let chosen = if first {
                    logs::select(fresh, &options, Utc::now())
                } else {
                    fresh.lines().filter_map(|line| logs::present(line, &options, Utc::now())).collect()
                };
                first = false;
                if !chosen.is_empty() && lines.send(Ok(chosen.into())).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = lines.send(Err(error)).await;
                return;
            }
        }
        if ended {
            return;
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return },
            () = lines.closed() => return,
        }
    }
}
