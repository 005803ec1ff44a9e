//! What a request is about, read from its method, path and query.

use std::collections::HashMap;

use http::Method;
use percent_encoding::percent_decode_str;

/// A request for a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Subresource, empty for the object itself.
    pub subresource: String,
    /// What follows the subresource (proxy paths).
    pub rest: String,
    /// Namespace, empty for cluster scope.
    pub namespace: String,
    /// Name, empty for a collection.
    pub name: String,
}

/// Query parameters; the first of a repeated key counts.
#[derive(Clone, Debug, Default)]
pub struct Query(HashMap<String, String>);

impl Query {
    /// Reads the part after `?`.
    pub fn parse(raw: Option<&str>) -> Self {
        let mut map = HashMap::new();
        for (key, value) in url::form_urlencoded::parse(raw.unwrap_or("").as_bytes()) {
            map.entry(key.into_owned()).or_insert(value.into_owned());
        }
        Self(map)
    }

    /// The value of a parameter, when it is given and not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// The value of a parameter even when it is empty.
    pub fn given(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether a boolean parameter is on.
    pub fn flag(&self, key: &str) -> bool {
        matches!(self.0.get(key).map(String::as_str), Some("1" | "true" | "True" | "t" | "T" | "TRUE" | ""))
    }
}

/// Reads a resource path; `None` for anything that is not `/api/…` or `/apis/…` down to a resource.
pub fn parse(method: &Method, path: &str, query: &Query) -> Option<RequestInfo> {
    let parts: Vec<String> = path
        .split('/')
        .filter(|p| !p.is_empty())
        .map(|p| percent_decode_str(p).decode_utf8_lossy().into_owned())
        .collect();
    let mut info = RequestInfo::default();
    let mut rest: &[String] = match parts.first().map(String::as_str) {
        Some("api") if parts.len() > 2 => {
            info.version = parts[1].clone();
            &parts[2..]
        }
        Some("apis") if parts.len() > 3 => {
            info.group = parts[1].clone();
            info.version = parts[2].clone();
            &parts[3..]
        }
        _ => return None,
    };
    if rest[0] == "namespaces" && info.group.is_empty() {
        // `namespaces/x` and its own subresources are the namespace itself, anything longer is inside it.
        let own = rest.len() <= 2 || (rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize"));
        if own {
            info.namespace = rest.get(1).cloned().unwrap_or_default();
        }
        if !own {
            info.namespace = rest[1].clone();
            rest = &rest[2..];
        }
    } else if rest[0] == "namespaces" && rest.len() > 2 {
        info.namespace = rest[1].clone();
        rest = &rest[2..];
    }
    info.resource = rest[0].clone();
    info.name = rest.get(1).cloned().unwrap_or_default();
    info.subresource = rest.get(2).cloned().unwrap_or_default();
    info.rest = rest.get(3..).map(|r| r.join("/")).unwrap_or_default();
    let collection = info.name.is_empty();
    info.verb = match *method {
        Method::GET | Method::HEAD if collection && query.flag_set("watch") => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::GET | Method::HEAD if query.flag_set("watch") && info.subresource.is_empty() => "watch",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => "",
    };
    Some(info)
}

impl Query {
    fn flag_set(&self, key: &str) -> bool {
        matches!(self.0.get(key).map(String::as_str), Some("1" | "true" | "True" | "t" | "T" | "TRUE"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, path: &str, query: &str) -> RequestInfo {
        parse(&method, path, &Query::parse(Some(query))).unwrap()
    }

    #[test]
    fn a_namespace_is_itself_and_what_is_in_it_is_not() {
        let own = info(Method::GET, "/api/v1/namespaces/a", "");
        assert_eq!((own.resource.as_str(), own.name.as_str(), own.verb), ("namespaces", "a", "get"));
        let pods = info(Method::GET, "/api/v1/namespaces/a/pods", "watch=1");
        assert_eq!((pods.resource.as_str(), pods.namespace.as_str(), pods.verb), ("pods", "a", "watch"));
        let status = info(Method::PUT, "/api/v1/namespaces/a/status", "");
        assert_eq!((status.resource.as_str(), status.subresource.as_str()), ("namespaces", "status"));
    }

    #[test]
    fn custom_resources_and_subresources() {
        let i = info(Method::PATCH, "/apis/g.io/v1/namespaces/n/things/x/status", "");
        assert_eq!((i.group.as_str(), i.name.as_str(), i.subresource.as_str()), ("g.io", "x", "status"));
        assert_eq!(info(Method::DELETE, "/apis/g.io/v1/things", "").verb, "deletecollection");
        assert!(parse(&Method::GET, "/apis/g.io/v1", &Query::default()).is_none());
    }
}
