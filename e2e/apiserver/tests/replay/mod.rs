//! Replays transcript steps: fills placeholders of requests in, sends them, and compares the answers.

mod compare;
mod setup;
mod views;

use std::collections::HashMap;

use howdah_lab_apiserver::ApiServer;
use reqwest::{Certificate, Client, Identity, Method};
use serde_json::{Value, json};

/// One answer.
pub struct Answer {
    pub status: u16,
    pub warnings: Vec<String>,
    pub body: Value,
}

/// What is known of an object from earlier answers, oldest first.
#[derive(Default)]
struct Seen {
    versions: Vec<String>,
    uid: String,
}

pub struct Replay {
    server: ApiServer,
    admin: Client,
    anonymous: Client,
    token: String,
    seen: HashMap<String, Seen>,
    continuation: String,
}

/// Steps whose request carries an older version than the latest.
const STALE: &[&str] =
    &["stale resourceVersion", "patch with a stale resourceVersion", "the loser sees a conflict"];

impl Replay {
    pub async fn start() -> Self {
        let server = ApiServer::builder().start().await.unwrap();
        let kubeconfig: Value = serde_saphyr::from_str(&server.admin_kubeconfig().unwrap()).unwrap();
        let user = &kubeconfig["users"][0]["user"];
        let decode = |field: &str| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(user[field].as_str().unwrap()).unwrap()
        };
        let pem = [decode("client-key-data"), decode("client-certificate-data")].concat();
        let authority = Certificate::from_pem(server.ca_pem().as_bytes()).unwrap();
        let builder = || Client::builder().tls_certs_only([authority.clone()]).no_proxy();
        Self {
            admin: builder().identity(Identity::from_pem(&pem).unwrap()).build().unwrap(),
            anonymous: builder().build().unwrap(),
            server,
            token: String::new(),
            seen: HashMap::new(),
            continuation: String::new(),
        }
    }

    pub async fn stop(self) {
        self.server.shutdown().await;
    }

    async fn send(&self, request: &Value, path: &str, body: Option<&Value>) -> reqwest::Response {
        let method = Method::from_bytes(request["method"].as_str().unwrap().as_bytes()).unwrap();
        let client = if request["as"].is_null() { &self.admin } else { &self.anonymous };
        let mut call = client.request(method, format!("{}{path}", self.server.url()));
        match request["as"].as_str() {
            Some("bad token") => call = call.bearer_auth("bad"),
            Some("serviceaccount") => call = call.bearer_auth(&self.token),
            Some("anonymous") | None => {}
            Some(other) => panic!("unknown identity {other}"),
        }
        if let Some(accept) = request["accept"].as_str() {
            call = call.header("accept", accept);
        }
        if let Some(kind) = request["contentType"].as_str() {
            call = call.header("content-type", kind);
        }
        if let Some(body) = body {
            let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
            call = call.body(text);
        }
        call.send().await.unwrap()
    }

    /// A plain call on the side.
    pub async fn call(&self, method: &str, path: &str, kind: &str, body: Value) -> Value {
        let request = json!({"method": method, "contentType": kind});
        let answer = self.send(&request, path, Some(&body)).await;
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.send(&json!({"method": "GET"}), path, None).await;
        answer.json().await.unwrap()
    }

    /// Plays one step; the error says how the answer differs.
    pub async fn step(&mut self, scenario: &str, step: &Value) -> Result<(), String> {
        let name = step["name"].as_str().unwrap();
        setup::before(self, scenario, name).await;
        let request = &step["request"];
        let object = request["path"].as_str().unwrap().split('?').next().unwrap().to_owned();
        let path = self.fill_path(request["path"].as_str().unwrap()).await;
        let body = request.get("body").map(|b| self.fill_body(name, &object, b));
        if step["response"]["stream"].is_array() {
            return self.stream(step, &path).await;
        }
        let mut answer = self.read(self.send(request, &path, body.as_ref()).await).await;
        if step["note"].as_str().is_some_and(|n| n.contains("wait until Established")) {
            for _ in 0..200 {
                if answer.body["status"]["conditions"].as_array().is_some_and(|c| c.len() == 2) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                answer = self.read(self.send(request, &path, None).await).await;
            }
        }
        let before = self.seen.get(&object).and_then(|s| s.versions.last().cloned());
        self.remember(&object, &answer.body);
        compare::answer(step, &answer, before.as_deref())
    }

    async fn read(&self, response: reqwest::Response) -> Answer {
        let status = response.status().as_u16();
        let warnings =
            response.headers().get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect();
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, warnings, body }
    }

    async fn fill_path(&self, path: &str) -> String {
        let mut path = path.replace("<continue>", &self.continuation);
        if path.contains("<rv>") {
            let list = self.get(path.split('?').next().unwrap()).await;
            path = path.replace("<rv>", list["metadata"]["resourceVersion"].as_str().unwrap());
        }
        path
    }

    fn fill_body(&self, step: &str, object: &str, body: &Value) -> Value {
        let seen = self.seen.get(object.trim_end_matches("/status"));
        let latest = |back: usize| seen.and_then(|s| s.versions.iter().rev().nth(back)).cloned();
        let version = match step {
            "replace of what is not there" | "precondition resourceVersion differs" => Some("1".to_owned()),
            stale if STALE.contains(&stale) => latest(1),
            _ => latest(0),
        };
        let uid = match step {
            "uid differs" | "precondition uid differs" => {
                Some("00000000-0000-0000-0000-000000000000".to_owned())
            }
            _ => seen.map(|s| s.uid.clone()),
        };
        fill(body, version.as_deref(), uid.as_deref())
    }

    fn remember(&mut self, object: &str, body: &Value) {
        if let Some(token) = body["metadata"]["continue"].as_str().filter(|t| !t.is_empty()) {
            self.continuation = token.to_owned();
        }
        if body["kind"] == "TokenRequest" {
            self.token = body["status"]["token"].as_str().unwrap().to_owned();
        }
        let (Some(version), Some(uid), Some(name)) = (
            body["metadata"]["resourceVersion"].as_str(),
            body["metadata"]["uid"].as_str(),
            body["metadata"]["name"].as_str(),
        ) else {
            return;
        };
        let object = object.trim_end_matches("/status");
        let key = if object.ends_with(&format!("/{name}")) {
            object.to_owned()
        } else {
            format!("{object}/{name}")
        };
        let seen = self.seen.entry(key).or_default();
        seen.uid = uid.to_owned();
        if seen.versions.last().map(String::as_str) != Some(version) {
            seen.versions.push(version.to_owned());
        }
    }

    /// Plays a watch to its end, with what is done meanwhile.
    async fn stream(&mut self, step: &Value, path: &str) -> Result<(), String> {
        let response = self.send(&step["request"], path, None).await;
        let status = response.status().as_u16();
        if let Some(script) = step["during"].as_str() {
            setup::during(self, script).await;
        }
        let text = response.text().await.unwrap();
        let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        compare::stream(&step["response"]["stream"], status, &events)
    }
}

fn fill(value: &Value, version: Option<&str>, uid: Option<&str>) -> Value {
    match value {
        Value::String(text) => match text.as_str() {
            "<rv>" => version.expect("a version is known").into(),
            "<uid>" => uid.expect("a uid is known").into(),
            "<time>" => "2026-01-02T03:04:05.000000Z".into(),
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(|i| fill(i, version, uid)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), fill(v, version, uid))).collect(),
        other => other.clone(),
    }
}
