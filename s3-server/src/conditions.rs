//! Conditional requests: which header stops which operation, and with what code. Pure.

use chrono::{DateTime, Utc};
use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Error, S3Result, s3_error};

use crate::object::ObjectInfo;

/// `If-Match` and `If-None-Match` of a write.
#[derive(Debug, Clone, Default)]
pub struct WriteCondition {
    /// Only over an object with this tag.
    pub if_match: Option<ETagCondition>,
    /// Only where no object has this tag.
    pub if_none_match: Option<ETagCondition>,
}

impl WriteCondition {
    /// Whether a write may replace `current`.
    pub fn check(&self, current: Option<&ObjectInfo>) -> S3Result<()> {
        if let Some(condition) = &self.if_match {
            match current {
                None => return Err(s3_error!(NoSuchKey, "If-Match names an object that does not exist")),
                Some(object) if !holds(condition, object) => return Err(precondition("If-Match")),
                Some(_) => {}
            }
        }
        if let (Some(condition), Some(object)) = (&self.if_none_match, current)
            && holds(condition, object)
        {
            return Err(precondition("If-None-Match"));
        }
        Ok(())
    }
}

/// The conditional headers of a read.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadCondition {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

impl ReadCondition {
    /// Whether a read may return `object`. Tags win over dates, as RFC 9110 §13.2.2 orders them.
    pub fn check(&self, object: &ObjectInfo) -> S3Result<()> {
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !holds(condition, object) => return Err(precondition("If-Match")),
            (None, Some(since)) if modified(object) > instant(since) => {
                return Err(precondition("If-Unmodified-Since"));
            }
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if holds(condition, object) => Err(not_modified()),
            (None, Some(since)) if modified(object) <= instant(since) => Err(not_modified()),
            _ => Ok(()),
        }
    }
}

fn holds(condition: &ETagCondition, object: &ObjectInfo) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(tag) => tag.value() == object.etag,
    }
}

// HTTP dates have whole seconds.
fn modified(object: &ObjectInfo) -> i64 {
    object.modified.timestamp()
}

fn instant(timestamp: &Timestamp) -> i64 {
    let mut text = Vec::new();
    let _ = timestamp.format(s3s::dto::TimestampFormat::DateTime, &mut text);
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
        .map_or(i64::MAX, |time| time.with_timezone(&Utc).timestamp())
}

fn precondition(header: &'static str) -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold: {}", header)
}

fn not_modified() -> S3Error {
    s3_error!(NotModified, "Not Modified")
}

#[cfg(test)]
mod tests {
    use s3s::dto::ETag;

    use super::*;

    fn object() -> ObjectInfo {
        ObjectInfo { etag: "abc".into(), ..ObjectInfo::new("k") }
    }

    fn tag(value: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(ETag::Strong(value.into())))
    }

    #[test]
    fn create_only_write() {
        let condition = WriteCondition { if_none_match: Some(ETagCondition::Any), if_match: None };
        assert!(condition.check(None).is_ok());
        let error = condition.check(Some(&object())).unwrap_err();
        assert_eq!(error.code().as_str(), "PreconditionFailed");
    }

    #[test]
    fn replace_only_write() {
        let condition = WriteCondition { if_match: tag("abc"), if_none_match: None };
        assert!(condition.check(Some(&object())).is_ok());
        assert_eq!(condition.check(None).unwrap_err().code().as_str(), "NoSuchKey");
        let condition = WriteCondition { if_match: tag("other"), if_none_match: None };
        assert_eq!(condition.check(Some(&object())).unwrap_err().code().as_str(), "PreconditionFailed");
    }

    #[test]
    fn reads() {
        let condition = ReadCondition { if_none_match: tag("abc"), ..Default::default() };
        assert_eq!(condition.check(&object()).unwrap_err().code().as_str(), "NotModified");
        let condition = ReadCondition { if_match: tag("x"), ..Default::default() };
        assert_eq!(condition.check(&object()).unwrap_err().code().as_str(), "PreconditionFailed");
        let past = Timestamp::from(std::time::UNIX_EPOCH);
        let condition = ReadCondition { if_unmodified_since: Some(past.clone()), ..Default::default() };
        assert_eq!(condition.check(&object()).unwrap_err().code().as_str(), "PreconditionFailed");
        let condition = ReadCondition { if_modified_since: Some(past), ..Default::default() };
        assert!(condition.check(&object()).is_ok());
    }
}
