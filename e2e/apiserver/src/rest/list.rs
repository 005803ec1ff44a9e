//! Get and list: selectors, paging, and the forms a client may ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Reply, Request, shown};
use crate::registry::ResourceDef;
use crate::selectors::field::FieldSelector;
use crate::selectors::label::LabelSelector;
use crate::status::{ApiError, ApiResult};
use crate::store::{Key, Store};
use crate::table::{self, Form};

/// The selectors of a request.
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads them.
    pub fn of(request: &Request<'_>) -> ApiResult<Self> {
        let extra = request.def.custom.as_ref().map(|c| c.selectable.clone()).unwrap_or_default();
        let storage = &request.def.storage;
        let mut fields = request.query.get("fieldSelector").unwrap_or_default().to_owned();
        if !request.info.name.is_empty() {
            // Watching one object by its path.
            fields = format!("{fields},metadata.name={}", request.info.name);
        }
        Ok(Self {
            labels: LabelSelector::parse(request.query.get("labelSelector").unwrap_or_default())?,
            fields: FieldSelector::parse(&fields, &storage.group, &storage.resource, &extra)?,
        })
    }

    /// Whether an object is chosen.
    pub fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

/// An item of a list: built-in lists leave out kind and version.
pub fn item(def: &ResourceDef, object: &Value) -> Value {
    let mut item = shown(def, object);
    if !def.is_custom()
        && let Some(map) = item.as_object_mut()
    {
        map.remove("kind");
        map.remove("apiVersion");
    }
    item
}

/// Reads one object.
pub fn get(request: &mut Request<'_>) -> ApiResult<Reply> {
    let form = table::form(&request.accept)?;
    let object = request.existing(&request.state.store())?;
    let shown = shown(&request.def, &object);
    let body = match form {
        Form::Object => shown,
        Form::Metadata => table::metadata_only(&shown, "PartialObjectMetadata"),
        Form::Table => {
            let version = object["metadata"]["resourceVersion"].clone();
            table::table(&request.def, &[shown], json!({"resourceVersion": version}), includes(request))
        }
    };
    Ok(Reply::Json(StatusCode::OK, body))
}

/// What table rows carry beside their cells.
pub fn includes(request: &Request<'_>) -> table::Include {
    match request.query.get("includeObject") {
        Some("None") => table::Include::None,
        Some("Object") => table::Include::Object,
        _ => table::Include::Metadata,
    }
}

/// The objects a list or deletion of a collection is about.
pub fn select(request: &Request<'_>, store: &Store) -> ApiResult<Vec<(Key, Arc<Value>)>> {
    let selection = Selection::of(request)?;
    let namespace = if request.def.namespaced { request.info.namespace.as_str() } else { "" };
    Ok(store
        .list(&request.def.storage, namespace)
        .filter(|(_, object)| selection.matches(object))
        .map(|(k, o)| (k.clone(), o.clone()))
        .collect())
}

/// Where a page ends.
struct Page {
    version: u64,
    after: (String, String),
}

impl Page {
    fn write(&self) -> String {
        let (namespace, name) = &self.after;
        URL_SAFE_NO_PAD.encode(
            json!({"v": "meta.k8s.io/v1", "rv": self.version, "ns": namespace, "start": name}).to_string(),
        )
    }

    fn read(token: &str) -> ApiResult<Self> {
        let bad = || ApiError::bad_request(format!("continue key is not valid: {token:?}"));
        let raw = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
        let value: Value = serde_json::from_slice(&raw).map_err(|_| bad())?;
        let text = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(bad);
        Ok(Self { version: value["rv"].as_u64().ok_or_else(bad)?, after: (text("ns")?, text("start")?) })
    }
}

/// Lists a collection.
pub fn list(request: &mut Request<'_>) -> ApiResult<Reply> {
    let form = table::form(&request.accept)?;
    let limit = match request.query.get("limit") {
        None => None,
        Some(text) => {
            let limit: usize = text.parse().map_err(|_| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            })?;
            Some(limit).filter(|l| *l > 0)
        }
    };
    if request.query.get("resourceVersionMatch") == Some("Exact")
        && request.query.get("resourceVersion").is_none()
    {
        return Err(ApiError::bad_request(
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    let page = request.query.get("continue").map(Page::read).transpose()?;
    let store = request.state.store();
    let mut version = store.version();
    let mut chosen = match &page {
        Some(page) => {
            version = page.version;
            if !store.reaches(version) {
                return Err(ApiError::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results.",
                ));
            }
            past(request, &store, version)?
        }
        None => match request.query.get("resourceVersion").and_then(|v| v.parse().ok()) {
            Some(exact) if request.query.get("resourceVersionMatch") == Some("Exact") => {
                if !store.reaches(exact) {
                    return Err(ApiError::expired(format!(
                        "The resourceVersion for the provided list is too old. ({exact})"
                    )));
                }
                version = exact;
                past(request, &store, exact)?
            }
            Some(least) if least > version => {
                return Err(ApiError::too_large_version(least, version));
            }
            _ => select(request, &store)?,
        },
    };
    drop(store);
    if let Some(page) = &page {
        chosen.retain(|(key, _)| (&key.namespace, &key.name) > (&page.after.0, &page.after.1));
    }
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if request.def.is_custom() {
        metadata["continue"] = "".into();
    }
    if let Some(limit) = limit
        && chosen.len() > limit
    {
        let remaining = chosen.len() - limit;
        chosen.truncate(limit);
        if let Some((last, _)) = chosen.last() {
            let page = Page { version, after: (last.namespace.clone(), last.name.clone()) };
            metadata["continue"] = page.write().into();
        }
        let selected =
            request.query.get("labelSelector").is_some() || request.query.get("fieldSelector").is_some();
        if !selected {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let def = &request.def;
    let body = match form {
        Form::Object => {
            let items: Vec<Value> = chosen.iter().map(|(_, o)| item(def, o)).collect();
            json!({"kind": def.list_kind, "apiVersion": def.api_version(), "metadata": metadata, "items": items})
        }
        Form::Metadata => {
            let items: Vec<Value> = chosen
                .iter()
                .map(|(_, o)| table::metadata_only(&shown(def, o), "PartialObjectMetadata"))
                .collect();
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": items})
        }
        Form::Table => {
            let items: Vec<Value> = chosen.iter().map(|(_, o)| shown(def, o)).collect();
            table::table(def, &items, metadata, includes(request))
        }
    };
    Ok(Reply::Json(StatusCode::OK, body))
}

/// The chosen objects as they were at a version: what happened since is undone.
fn past(request: &Request<'_>, store: &Store, version: u64) -> ApiResult<Vec<(Key, Arc<Value>)>> {
    let selection = Selection::of(request)?;
    let namespace = if request.def.namespaced { request.info.namespace.as_str() } else { "" };
    let mut objects: BTreeMap<Key, Arc<Value>> =
        store.list(&request.def.storage, namespace).map(|(k, o)| (k.clone(), o.clone())).collect();
    let events =
        store.since(version).map_err(|_| ApiError::expired("The provided continue parameter is too old"))?;
    let events: Vec<_> = events.filter(|e| e.key.gr == request.def.storage).collect();
    for event in events.into_iter().rev() {
        if !namespace.is_empty() && event.key.namespace != namespace {
            continue;
        }
        match &event.previous {
            Some(previous) => {
                objects.insert(event.key.clone(), previous.clone());
            }
            None => {
                objects.remove(&event.key);
            }
        }
    }
    objects.retain(|_, o| selection.matches(o));
    Ok(objects.into_iter().collect())
}
