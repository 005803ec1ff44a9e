//! What keeps the node double from starting, or a pod from getting on.

use std::path::PathBuf;

/// A failure of the node double, or of something a pod asked it for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that it runs is not installed.
    #[error("program {program} is not installed: {remedy}")]
    Program {
        /// Its name.
        program: &'static str,
        /// How to install it.
        remedy: &'static str,
    },
    /// The API server refused or did not answer.
    #[error("cannot {action} {object} through the API server")]
    Api {
        /// What was being done.
        action: &'static str,
        /// To which object.
        object: String,
        /// What came back.
        #[source]
        source: Box<kube::Error>,
    },
    /// A file or directory under the node's root cannot be used.
    #[error("cannot {action} {}: check permissions and free space", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: std::io::Error,
    },
    /// A process could not be started.
    #[error("cannot start {what}")]
    Start {
        /// Which process.
        what: String,
        /// Why the system refused.
        #[source]
        source: std::io::Error,
    },
    /// The image catalogue is not usable.
    #[error("image catalogue: {what}: correct the catalogue given to the node double")]
    Catalogue {
        /// What is wrong with it.
        what: String,
    },
    /// A pod asks for something that is missing or that the double does not do.
    #[error("{what}")]
    Pod {
        /// What, with its name.
        what: String,
    },
    /// The test named a pod or container that does not run here.
    #[error("container {container} of pod {namespace}/{pod} is not running on this node")]
    NotRunning {
        /// Namespace of the pod.
        namespace: String,
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// The node's HTTPS endpoint or the client to the API server cannot be set up.
    #[error("cannot set up {what}: {reason}")]
    Setup {
        /// What.
        what: &'static str,
        /// Why not.
        reason: String,
    },
}

impl Error {
    /// Wraps a failed API call.
    pub(crate) fn api(action: &'static str, object: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let object = object.into();
        move |source| Self::Api { action, object, source: Box::new(source) }
    }

    /// Wraps a failed file operation.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// A pod's own fault, or something it still waits for.
    pub(crate) fn pod(what: impl Into<String>) -> Self {
        Self::Pod { what: what.into() }
    }

    /// The error and its causes in one line, for events and status messages.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

/// Whether an API call failed because the object is not there.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether an API call lost a race: the object changed or exists already.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
