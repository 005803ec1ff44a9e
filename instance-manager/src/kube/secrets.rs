//! Values of Secrets, in memory only. Nothing here prints one.

use std::collections::BTreeMap;
use std::fmt;

use howdah_api::common::SecretKeySelector;
use serde::{Deserialize, Serialize};

use super::Kubernetes;
use super::client::bounded;
use crate::error::{Error, Result};

/// Contents of the Secrets that were read, by name and key. They can be written only so that one process hands them to its
/// successor, in memory (`run::replace`).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValues(BTreeMap<String, BTreeMap<String, Vec<u8>>>);

impl fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SecretValues {
    /// Adds a Secret.
    pub fn insert(&mut self, name: &str, data: BTreeMap<String, Vec<u8>>) {
        self.0.insert(name.to_owned(), data);
    }

    /// Those of these names that are there.
    #[must_use]
    pub fn only<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let there = |name: &str| Some((name.to_owned(), self.0.get(name)?.clone()));
        Self(names.into_iter().filter_map(there).collect())
    }

    /// Whether the Secret was found.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value of `key` in Secret `name`.
    ///
    /// # Errors
    /// Names the Secret or the key that is missing, and the keys that are there.
    pub fn bytes(&self, name: &str, key: &str) -> Result<&[u8]> {
        let data = self.0.get(name).ok_or_else(|| missing(name))?;
        data.get(key).map(Vec::as_slice).ok_or_else(|| {
            let keys: Vec<&str> = data.keys().map(String::as_str).collect();
            Error::permanent(format!(
                "Secret {name} has no key {key:?} (it has: {}): add the key, or name another one",
                if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
            ))
        })
    }

    /// The value as text, without white space around it (a line break at the end is a common accident).
    ///
    /// # Errors
    /// As [`SecretValues::bytes`]; also when the value is empty or no UTF-8.
    pub fn text(&self, name: &str, key: &str) -> Result<&str> {
        let text = std::str::from_utf8(self.bytes(name, key)?).map_err(|_| {
            Error::permanent(format!("key {key:?} of Secret {name} is not text: write it again"))
        })?;
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::permanent(format!("key {key:?} of Secret {name} is empty: give it a value")));
        }
        Ok(text)
    }

    /// What `selector` names, as text.
    ///
    /// # Errors
    /// As [`SecretValues::text`].
    pub fn selected(&self, selector: &SecretKeySelector) -> Result<&str> {
        self.text(&selector.name, &selector.key)
    }
}

fn missing(name: &str) -> Error {
    Error::permanent(format!("Secret {name} does not exist in this namespace: create it"))
}

impl Kubernetes {
    /// Reads Secrets by name. One that does not exist is left out; asking for its values then says so.
    ///
    /// # Errors
    /// When the API does not answer or refuses.
    pub async fn read_secrets<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<SecretValues> {
        let api = self.secrets();
        let mut values = SecretValues::default();
        for name in names {
            if values.contains(name) {
                continue;
            }
            if let Some(secret) = bounded("Secret", name, api.get_opt(name)).await? {
                let data = secret.data.unwrap_or_default();
                values.insert(name, data.into_iter().map(|(k, v)| (k, v.0)).collect());
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> SecretValues {
        let mut values = SecretValues::default();
        let data = [("ID", "sesame\n"), ("EMPTY", " ")].map(|(k, v)| (k.to_owned(), v.into()));
        values.insert("creds", data.into());
        values
    }

    #[test]
    fn what_is_missing_is_named() {
        let v = values();
        assert_eq!(v.text("creds", "ID").unwrap(), "sesame");
        let key = v.text("creds", "KEY").unwrap_err().to_string();
        assert!(key.contains("Secret creds has no key \"KEY\" (it has: EMPTY, ID)"), "{key}");
        assert!(v.text("creds", "EMPTY").unwrap_err().to_string().contains("is empty"));
        assert!(v.text("other", "ID").unwrap_err().to_string().contains("Secret other does not exist"));
    }

    #[test]
    fn nothing_is_printed() {
        let text = format!("{:?}", values());
        assert!(!text.contains("sesame"), "{text}");
    }
}
