//! The image catalogue: what an image reference stands for on a machine without images.
//!
//! An image is a set of read-only binds into an otherwise empty root, directories to make, an environment, an
//! entry point and a default user. A reference that is not in the catalogue cannot be pulled, as in real life.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// One file or directory of the host that an image shows, read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Bind {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where the image has it; the same path when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
    /// A missing source is left out instead of failing the container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

impl Bind {
    /// Where the image has it.
    pub fn target(&self) -> &Path {
        self.target.as_deref().unwrap_or(&self.source)
    }
}

/// A symbolic link in an image's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Where it points.
    pub to: PathBuf,
    /// Where it is.
    pub at: PathBuf,
}

/// What one image reference stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Image {
    /// Host files and directories.
    #[serde(default)]
    pub binds: Vec<Bind>,
    /// Symbolic links.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Empty directories, writable unless the container's root is read-only.
    #[serde(default)]
    pub directories: Vec<PathBuf>,
    /// Environment, before the container's own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Entry point, replaced by the container's `command`.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Arguments, replaced by the container's `args`, and dropped with the entry point.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// User id when the pod names none.
    #[serde(default)]
    pub user: u32,
    /// Group id when the pod names none.
    #[serde(default)]
    pub group: u32,
    /// Working directory when the container names none; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<PathBuf>,
}

impl Image {
    /// An image with an empty root.
    pub fn empty() -> Self {
        Self::default()
    }

    /// An image that holds just these programs, each at `/<name>`: what a `FROM scratch` image is.
    pub fn programs(files: impl IntoIterator<Item = (PathBuf, String)>) -> Self {
        let binds = files
            .into_iter()
            .map(|(source, name)| Bind { source, target: Some(Path::new("/").join(name)), optional: false })
            .collect();
        Self { binds, ..Self::default() }
    }

    /// An image that shows the host's system: `/usr`, the dynamic loader, certificates, `/etc/alternatives`.
    /// Nothing of the host is writable and nothing else of it is visible.
    pub fn host_system() -> Self {
        let mut image = Self::default();
        image.binds.push(Bind { source: "/usr".into(), target: None, optional: false });
        for name in ["lib", "lib32", "lib64", "libx32", "bin", "sbin"] {
            let at = Path::new("/").join(name);
            match std::fs::read_link(&at) {
                Ok(to) => image.links.push(Link { to, at }),
                Err(_) if at.is_dir() => {
                    image.binds.push(Bind { source: at, target: None, optional: false });
                }
                Err(_) => {}
            }
        }
        for path in [
            "/etc/alternatives",
            "/etc/ssl",
            "/etc/ca-certificates",
            "/etc/ld.so.cache",
            "/etc/ld.so.conf",
            "/etc/ld.so.conf.d",
            "/etc/localtime",
            "/etc/timezone",
            "/etc/nsswitch.conf",
            "/etc/services",
            "/etc/protocols",
            "/etc/postgresql-common",
        ] {
            image.binds.push(Bind { source: path.into(), target: None, optional: true });
        }
        image.directories = ["/tmp", "/run", "/var/tmp", "/var/lib", "/root"].map(PathBuf::from).into();
        image.env.insert(
            "PATH".to_owned(),
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        );
        image
    }

    /// Puts directories in front of the image's `PATH`.
    #[must_use]
    pub fn with_path(mut self, directories: &str) -> Self {
        let path = match self.env.get("PATH") {
            Some(rest) => format!("{directories}:{rest}"),
            None => directories.to_owned(),
        };
        self.env.insert("PATH".to_owned(), path);
        self
    }

    /// Shows one more host path, at the same place.
    #[must_use]
    pub fn with_bind(mut self, source: impl Into<PathBuf>) -> Self {
        self.binds.push(Bind { source: source.into(), target: None, optional: false });
        self
    }

    /// Sets the entry point.
    #[must_use]
    pub fn with_entrypoint(mut self, argv: &[&str]) -> Self {
        self.entrypoint = argv.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    /// Sets the user that runs it unless a pod says otherwise.
    #[must_use]
    pub fn with_user(mut self, user: u32, group: u32) -> Self {
        (self.user, self.group) = (user, group);
        self
    }
}

/// All images that can be pulled, by reference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageCatalog {
    /// The images. A reference may end in `*` and then stands for all that begin so.
    #[serde(default)]
    pub images: BTreeMap<String, Image>,
}

impl ImageCatalog {
    /// A catalogue without images.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a catalogue: `images: {<reference>: {binds: [{source: …}], entrypoint: […], …}}`.
    pub fn from_yaml(text: &str) -> Result<Self, Error> {
        let catalogue: Self =
            serde_saphyr::from_str(text).map_err(|error| Error::Catalogue { what: error.to_string() })?;
        for (name, image) in &catalogue.images {
            let relative =
                image.binds.iter().find(|bind| bind.source.is_relative() || bind.target().is_relative());
            if let Some(bind) = relative {
                let what = format!("image {name}: bind {} is not absolute", bind.source.display());
                return Err(Error::Catalogue { what });
            }
        }
        Ok(catalogue)
    }

    /// Adds an image.
    #[must_use]
    pub fn with(mut self, reference: impl Into<String>, image: Image) -> Self {
        self.images.insert(reference.into(), image);
        self
    }

    /// What a reference stands for: its own entry, or that of the longest pattern that fits.
    pub fn find(&self, reference: &str) -> Option<&Image> {
        self.images.get(reference).or_else(|| {
            self.images
                .iter()
                .filter(|(name, _)| name.strip_suffix('*').is_some_and(|start| reference.starts_with(start)))
                .max_by_key(|(name, _)| name.len())
                .map(|(_, image)| image)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_patterns() {
        let catalogue = ImageCatalog::from_yaml(
            "images:\n  postgres:*:\n    binds: [{source: /usr}]\n    user: 26\n  postgres:15:\n    entrypoint: [/x]\n",
        )
        .unwrap();
        assert_eq!(catalogue.find("postgres:17").unwrap().user, 26);
        assert_eq!(catalogue.find("postgres:15").unwrap().entrypoint, ["/x"]);
        assert!(catalogue.find("mysql:8").is_none());
    }

    #[test]
    fn bad_catalogues_are_refused() {
        for text in ["images: {a: {bind: []}}", "images: {a: {binds: [{source: usr}]}}", "nonsense: 1"] {
            assert!(ImageCatalog::from_yaml(text).is_err(), "{text}");
        }
    }

    #[test]
    fn path_goes_in_front() {
        let image = Image::host_system().with_path("/opt/bin");
        assert!(image.env["PATH"].starts_with("/opt/bin:/usr/local/sbin"));
    }
}
