//! The verbs: what a request does to the objects.

pub mod body;
pub mod create;
pub mod delete;
pub mod list;
pub mod patch;
pub mod proxy;
pub mod scale;
pub mod special;
pub mod update;
pub mod watch;
mod write;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::auth::User;
use crate::path::{Query, RequestInfo};
use crate::registry::ResourceDef;
use crate::state::State;
use crate::status::{ApiError, ApiResult};
use crate::store::{Key, Store};
use std::sync::Arc;

/// An answer.
pub enum Reply {
    /// A JSON object.
    Json(StatusCode, Value),
    /// A stream of watch events.
    Watch(watch::Stream),
    /// A stream from elsewhere.
    Stream(&'static str, proxy::ByteStream),
}

/// One request, as far as the verbs need it.
pub struct Request<'a> {
    /// The server.
    pub state: &'a Arc<State>,
    /// The resource.
    pub def: Arc<ResourceDef>,
    /// What is asked.
    pub info: RequestInfo,
    /// Query parameters.
    pub query: Query,
    /// Who asks.
    pub user: User,
    /// First part of the `User-Agent`, the manager of fields where none is named.
    pub agent: String,
    /// `Content-Type` of the body, without parameters.
    pub content_type: String,
    /// `Accept`.
    pub accept: String,
    /// The body.
    pub body: Bytes,
    /// Warnings for the client.
    pub warnings: Vec<String>,
}

impl Request<'_> {
    /// Whether nothing is to be stored.
    pub fn dry_run(&self) -> ApiResult<bool> {
        match self.query.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }

    /// Name under which the writer owns fields.
    pub fn manager(&self) -> String {
        self.query.get("fieldManager").map_or_else(|| self.agent.clone(), str::to_owned)
    }

    /// Where the object of this request lives.
    pub fn key(&self) -> Key {
        self.key_of(&self.info.name)
    }

    /// Where an object of this name lives.
    pub fn key_of(&self, name: &str) -> Key {
        let namespace = if self.def.namespaced { self.info.namespace.clone() } else { String::new() };
        Key { gr: self.def.storage.clone(), namespace, name: name.into() }
    }

    /// No object of that name.
    pub fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.def.group, &self.def.plural, name)
    }

    /// The stored object of this request.
    pub fn existing(&self, store: &Store) -> ApiResult<Arc<Value>> {
        store.get(&self.key()).cloned().ok_or_else(|| self.not_found(&self.info.name))
    }
}

/// An object as a version of its resource shows it.
pub fn shown(def: &ResourceDef, object: &Value) -> Value {
    let mut object = object.clone();
    if def.group == "events.k8s.io" {
        crate::strategy::events::from_core(&mut object);
    }
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), def.api_version().into());
        map.insert("kind".into(), def.kind.clone().into());
    }
    object
}

/// Letters that a generated name ends with: no vowels, no look-alikes.
pub fn random_suffix(length: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..length).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

/// Success without an object.
pub fn success(details: Value) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Serves a request for a resource.
pub async fn serve(request: &mut Request<'_>) -> ApiResult<Reply> {
    let info = &request.info;
    if !info.subresource.is_empty() {
        let known = request.def.subresource(&info.subresource).ok_or_else(ApiError::no_such_path)?;
        let verb = if info.verb == "deletecollection" { "delete" } else { info.verb };
        if !known.verbs.contains(&verb) {
            return Err(ApiError::method_not_allowed());
        }
    } else if !request.def.verbs.contains(&info.verb) {
        return Err(ApiError::method_not_allowed());
    }
    if let Some(warning) = request.def.custom.as_ref().and_then(|c| c.deprecation.clone()) {
        request.warnings.push(warning);
    }
    match (request.info.subresource.as_str(), request.info.verb) {
        ("", "get") | ("status" | "ephemeralcontainers" | "resize", "get") => list::get(request),
        ("", "list") => list::list(request),
        ("", "watch") => watch::start(request),
        ("", "create") if crate::registry::builtin::is_review(&request.def.group, &request.def.plural) => {
            special::review(request)
        }
        ("", "create") => create::create(request),
        ("", "update") | ("status" | "finalize" | "ephemeralcontainers" | "resize", "update") => {
            update::replace(request)
        }
        ("", "patch") | ("status" | "ephemeralcontainers" | "resize", "patch") => patch::patch(request),
        ("", "delete") => delete::delete(request),
        ("", "deletecollection") => delete::collection(request),
        ("scale", verb) => scale::serve(request, verb),
        ("binding", "create") => special::bind(request),
        ("eviction", "create") => special::evict(request),
        ("token", "create") => special::token(request),
        ("log", "get") => proxy::log(request).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}
