//! The resources the server serves: built-in ones from a table, custom ones from their definitions.

pub mod builtin;
pub mod custom;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::schema::Schema;
use crate::store::GroupResource;

pub use custom::CustomVersion;

/// One subresource.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Its name, for example `status`.
    pub name: String,
    /// Group and version of its kind where they differ from the resource's.
    pub group_version: Option<(String, String)>,
    /// Its kind.
    pub kind: String,
    /// What may be done with it.
    pub verbs: Vec<&'static str>,
}

/// One resource in one version.
#[derive(Clone)]
pub struct ResourceDef {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name, as in paths.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Kind of an object.
    pub kind: String,
    /// Kind of a list.
    pub list_kind: String,
    /// Short names for command lines.
    pub short_names: Vec<String>,
    /// Groups of resources for command lines, for example `all`.
    pub categories: Vec<String>,
    /// Whether objects are in namespaces.
    pub namespaced: bool,
    /// What may be done.
    pub verbs: Vec<&'static str>,
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// Form of an object.
    pub schema: Arc<Schema>,
    /// Name of the OpenAPI definition.
    pub definition: String,
    /// The rest of a custom resource's version; none for built-in types.
    pub custom: Option<Arc<CustomVersion>>,
    /// What an empty object of a built-in type looks like: fields that are there even when nobody set them.
    pub blank: Value,
    /// Where objects are stored: the same for all versions, and for types that share a storage.
    pub storage: GroupResource,
}

impl ResourceDef {
    /// `group/version`, or the version alone for core.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether the object is of a custom type.
    pub fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// A subresource by name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether status is written through a subresource of its own.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Short form for logs: `pods.v1`.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

/// All served resources.
#[derive(Clone, Default)]
pub struct Registry {
    order: Vec<Arc<ResourceDef>>,
    index: HashMap<(String, String, String), Arc<ResourceDef>>,
}

impl Registry {
    /// The built-in resources.
    pub fn builtin() -> Self {
        let mut registry = Self::default();
        for def in builtin::all() {
            registry.add(def);
        }
        registry
    }

    fn add(&mut self, def: ResourceDef) {
        let def = Arc::new(def);
        self.index.insert((def.group.clone(), def.version.clone(), def.plural.clone()), def.clone());
        self.order.push(def);
    }

    /// Replaces what a custom resource definition serves.
    pub fn set_custom(&mut self, group: &str, plural: &str, defs: Vec<ResourceDef>) {
        self.order.retain(|d| !(d.is_custom() && d.group == group && d.plural == plural));
        self.index.retain(|_, d| !(d.is_custom() && d.group == group && d.plural == plural));
        for def in defs {
            self.add(def);
        }
    }

    /// A resource by group, version and plural name.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<ResourceDef>> {
        self.index.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// A resource by group, version and kind.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<ResourceDef>> {
        self.order.iter().find(|d| d.kind == kind && d.api_version() == api_version)
    }

    /// The resource that objects in this storage are of, in its first version.
    pub fn by_storage(&self, gr: &GroupResource) -> Option<&Arc<ResourceDef>> {
        self.order.iter().find(|d| d.storage == *gr && d.group == gr.group)
    }

    /// All resources in order of registration.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ResourceDef>> {
        self.order.iter()
    }

    /// Groups with their versions, the preferred version first.
    pub fn groups(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for def in &self.order {
            match groups.iter_mut().find(|(g, _)| *g == def.group) {
                Some((_, versions)) => {
                    if !versions.contains(&def.version) {
                        versions.push(def.version.clone());
                    }
                }
                None => groups.push((def.group.clone(), vec![def.version.clone()])),
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by_key(|v| std::cmp::Reverse(version_rank(v)));
        }
        groups
    }
}

/// Stable before beta before alpha, newer before older.
fn version_rank(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    let digits = |s: &str| s.parse().unwrap_or(0);
    if let Some((major, minor)) = rest.split_once("beta") {
        (2, digits(major), digits(minor))
    } else if let Some((major, minor)) = rest.split_once("alpha") {
        (1, digits(major), digits(minor))
    } else {
        (3, digits(rest), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_are_preferred() {
        let mut versions = vec!["v1alpha1", "v2beta1", "v1", "v2", "v1beta2"];
        versions.sort_by_key(|v| std::cmp::Reverse(version_rank(v)));
        assert_eq!(versions, ["v2", "v1", "v2beta1", "v1beta2", "v1alpha1"]);
    }

    #[test]
    fn every_builtin_resource_has_a_schema() {
        for def in Registry::builtin().all() {
            assert!(!def.schema.properties.is_empty(), "{} has no schema ({})", def.plural, def.definition);
        }
    }
}
