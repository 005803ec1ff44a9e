//! Manifests that tests apply, as JSON (which `kubectl apply` takes as well as YAML).

use serde_json::{Value, json};

/// Merges `patch` into `base`, objects deeply, everything else replaced; `null` removes.
pub fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, patch) => *base = patch,
    }
}

/// Where a cluster's backups go.
#[derive(Clone, Debug)]
pub struct Store {
    /// Endpoint as pods see it.
    pub endpoint: String,
    /// Bucket.
    pub bucket: String,
    /// Secret with the keys `ACCESS_KEY_ID` and `ACCESS_SECRET_KEY`.
    pub secret: String,
}

impl Store {
    /// The `barmanObjectStore` section.
    #[must_use]
    pub fn section(&self) -> Value {
        json!({
            "destinationPath": format!("s3://{}/", self.bucket),
            "endpointURL": self.endpoint,
            "s3Credentials": {
                "accessKeyId": {"name": self.secret, "key": "ACCESS_KEY_ID"},
                "secretAccessKey": {"name": self.secret, "key": "ACCESS_SECRET_KEY"},
            },
        })
    }
}

/// A Cluster with one instance; `spec` is merged into it.
#[must_use]
pub fn cluster(name: &str, image: &str, store: Option<&Store>, spec: Value) -> Value {
    let mut base = json!({
        "instances": 1,
        "imageName": image,
        "storage": {"size": "1Gi"},
        "postgresql": {"parameters": {"shared_buffers": "32MB", "max_connections": "30"}},
    });
    if let Some(store) = store {
        merge(&mut base, json!({"backup": {"barmanObjectStore": store.section(), "target": "primary"}}));
    }
    merge(&mut base, spec);
    object("Cluster", name, base)
}

/// A Backup of `cluster` with an immediate checkpoint.
#[must_use]
pub fn backup(name: &str, cluster: &str) -> Value {
    object("Backup", name, json!({"cluster": {"name": cluster}, "immediateCheckpoint": true}))
}

/// One of our objects.
#[must_use]
pub fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "postgresql.k8s.enterprisedb.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    })
}
