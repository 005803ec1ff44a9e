//! Errors of a reconciliation and what they mean for its next try.

use std::time::Duration;

use thiserror::Error;

/// How an error is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Nothing changes until somebody changes an object: shown in the status, then waited for.
    Permanent,
    /// Somebody else wrote first: read again at once.
    Conflict,
    /// The server asked to slow down.
    Throttled,
    /// May work next time.
    Transient,
}

/// Why a reconciliation did not end well.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("cannot {verb} {object}")]
    Api {
        /// What was tried, for example `apply`.
        verb: &'static str,
        /// Kind and name of the object.
        object: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// A certificate could not be made or read.
    #[error(transparent)]
    Pki(#[from] crate::pki::PkiError),
    /// An instance did not do what it was asked for.
    #[error("an instance does not do what it was asked for")]
    Instance(#[from] crate::instance_client::InstanceError),
    /// An object of ours could not be written as JSON.
    #[error("cannot encode {object}")]
    Encode {
        /// Kind and name of the object.
        object: String,
        /// The encoder's error.
        #[source]
        source: serde_json::Error,
    },
    /// Something in the way that only a person can move.
    #[error("{message}")]
    Refused {
        /// Short reason for events and metrics.
        reason: &'static str,
        /// What is in the way, and the remedy.
        message: String,
    },
    /// An object of a deleted predecessor is still there.
    #[error("{object} belongs to a deleted cluster of the same name and is still being removed")]
    Leftover {
        /// Kind and name of the object.
        object: String,
    },
    /// The object in the cluster cannot be read as its type: the CRD is newer or older than this operator.
    #[error("cannot read {object}: {message}; apply the CRDs that belong to this operator version")]
    Unreadable {
        /// Kind and name of the object.
        object: String,
        /// What the reader said.
        message: String,
    },
}

impl Error {
    /// Wraps a client error with what was tried.
    pub fn api(verb: &'static str, object: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let object = object.into();
        move |source| Self::Api { verb, object, source: Box::new(source) }
    }

    /// How to answer it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Api { source, .. } => classify(source),
            Self::Leftover { .. } | Self::Instance(_) => Class::Transient,
            Self::Pki(_) | Self::Encode { .. } | Self::Refused { .. } | Self::Unreadable { .. } => {
                Class::Permanent
            }
        }
    }

    /// Short word for metrics and events.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Api { .. } => match self.class() {
                Class::Permanent => "ApiRejected",
                Class::Conflict => "Conflict",
                Class::Throttled => "Throttled",
                Class::Transient => "ApiUnavailable",
            },
            Self::Pki(_) => "Certificates",
            Self::Instance(_) => "InstanceUnavailable",
            Self::Encode { .. } => "Encode",
            Self::Refused { reason, .. } => reason,
            Self::Leftover { .. } => "Leftover",
            Self::Unreadable { .. } => "Unreadable",
        }
    }
}

fn classify(error: &kube::Error) -> Class {
    match error {
        kube::Error::Api(status) if status.is_conflict() => Class::Conflict,
        kube::Error::Api(status) => match status.code {
            429 => Class::Throttled,
            400 | 405 | 413 | 422 => Class::Permanent,
            _ => Class::Transient,
        },
        kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => Class::Permanent,
        _ => Class::Transient,
    }
}

/// The error with all its causes on one line. What the API server said is given in its own words.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        let client = cause.downcast_ref::<Box<kube::Error>>().map(|b| &**b).or_else(|| cause.downcast_ref());
        if let Some(kube::Error::Api(status)) = client {
            text.push_str(&status.message);
            break;
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Time until the next try after `attempt` failures in a row (from 1). `jitter` is a random number in 0..1.
#[must_use]
pub fn delay(class: Class, attempt: u32, jitter: f64) -> Duration {
    let spread = |base: f64, cap: f64| {
        let doubled = base * f64::from(2_u32.saturating_pow(attempt.saturating_sub(1).min(16)));
        Duration::from_secs_f64(doubled.min(cap) * (0.75 + 0.5 * jitter))
    };
    match class {
        Class::Conflict => Duration::from_millis(50 + u64::from(attempt.min(20)) * 50),
        Class::Transient => spread(1.0, 60.0),
        Class::Throttled => spread(15.0, 300.0),
        Class::Permanent => spread(60.0, 300.0),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn api(code: u16, reason: &str) -> Error {
        let status = kube::core::Status {
            status: Some(kube::core::response::StatusSummary::Failure),
            code,
            reason: reason.into(),
            message: "no".into(),
            ..Default::default()
        };
        Error::api("apply", "Pod pg-1")(kube::Error::Api(Box::new(status)))
    }

    #[rstest]
    #[case(409, "Conflict", Class::Conflict)]
    #[case(422, "Invalid", Class::Permanent)]
    #[case(429, "TooManyRequests", Class::Throttled)]
    #[case(500, "InternalError", Class::Transient)]
    #[case(403, "Forbidden", Class::Transient)]
    #[case(404, "NotFound", Class::Transient)]
    fn answers_of_the_server_have_a_class(#[case] code: u16, #[case] reason: &str, #[case] class: Class) {
        assert_eq!(api(code, reason).class(), class);
    }

    #[test]
    fn waiting_grows_and_is_bounded() {
        let waits: Vec<u64> = (1..=9).map(|n| delay(Class::Transient, n, 0.5).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(delay(Class::Throttled, 1, 0.0) > delay(Class::Transient, 1, 1.0));
        assert!(delay(Class::Conflict, 1, 0.5) <= Duration::from_millis(100));
        assert!(delay(Class::Transient, u32::MAX, 1.0) <= Duration::from_secs(75));
    }

    #[test]
    fn a_chain_names_the_object_and_gives_the_servers_words() {
        assert_eq!(chain(&api(422, "Invalid")), "cannot apply Pod pg-1: no");
    }
}
