//! `PUT /v1/manager`: the operator sends another program in the place of this one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::StreamExt;
use howdah_api::naming::{MANAGER_SHA256_HEADER, OPERATOR_CN};

use super::status::{authorised, refuse};
use super::tls::ClientName;
use crate::run::replace::install::{Received, receive};
use crate::run::shared::Shared;

/// Answers 200 when that program runs already, 202 when it takes over, and else says why not.
pub async fn replace(
    State(shared): State<Arc<Shared>>,
    Extension(name): Extension<ClientName>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if let Err(refused) = authorised(&name, &[OPERATOR_CN]) {
        return *refused;
    }
    let announced = headers.get(MANAGER_SHA256_HEADER).and_then(|value| value.to_str().ok());
    let Some(sha256) = announced.filter(|text| is_sha256(text)) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            format!("the header {MANAGER_SHA256_HEADER} must hold the SHA-256 of the program in hexadecimal"),
        );
    };
    let mut pieces = body.into_data_stream();
    let received = receive(&shared, sha256, &mut pieces).await;
    // A client that still sends would not read the answer.
    while let Some(Ok(_)) = pieces.next().await {}
    match received {
        Ok(Received::Runs(program)) => Json(program).into_response(),
        Ok(Received::TakesOver(program)) => (StatusCode::ACCEPTED, Json(program)).into_response(),
        Err(refusal) => {
            let (status, why) = refusal.into_answer();
            tracing::warn!("the instance manager is not replaced: {why}");
            refuse(status, why)
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
