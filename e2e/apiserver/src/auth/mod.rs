//! Who asks: client certificates and bearer tokens.

pub mod rbac;
pub mod reviews;
pub mod tls;
pub mod tokens;

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// An authenticated (or anonymous) caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Name, for example `system:serviceaccount:ns:name`.
    pub name: String,
    /// Unique id, where the identity has one.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else is known, for example the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Self::default()
        }
    }

    /// The owner of a client certificate: common name and organisations.
    pub fn from_certificate(name: &str, organisations: Vec<String>) -> Self {
        let mut groups = organisations;
        groups.push("system:authenticated".into());
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.into(),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
            extra: BTreeMap::new(),
        }
    }

    /// Whether the caller is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The form of review answers.
    pub fn to_json(&self) -> Value {
        let mut user = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            user["uid"] = self.uid.clone().into();
        }
        if !self.extra.is_empty() {
            user["extra"] = json!(self.extra);
        }
        user
    }
}
