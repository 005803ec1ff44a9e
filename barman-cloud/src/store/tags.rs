//! Tags of what is written.

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::wal_name::WalName;
use object_store::TagSet;

/// The tags of objects by their kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Tags {
    all: TagSet,
    history: TagSet,
}

impl Tags {
    /// Checks them by the rules that S3 and Azure share, so that a wrong one is found before the first upload.
    pub(super) fn new(all: &[(String, String)], history: &[(String, String)]) -> Result<Self> {
        let all = tag_set(all)?;
        let history = if history.is_empty() { all.clone() } else { tag_set(history)? };
        Ok(Self { all, history })
    }

    /// History files have their own, the keep annotation has none (as Barman writes it).
    pub(super) fn of(&self, key: &str) -> TagSet {
        let file = key.rsplit('/').next().unwrap_or(key);
        match Layout::parse_wal(file) {
            Some((WalName::History(_), _)) => self.history.clone(),
            _ if key.ends_with("/annotations/keep") => TagSet::default(),
            _ => self.all.clone(),
        }
    }
}

fn tag_set(tags: &[(String, String)]) -> Result<TagSet> {
    let wrong = |what: String| {
        Error::invalid(what).with_remedy(
            "use at most 10 tags; keys of 1 to 128 and values of up to 256 letters, digits, spaces or + - = . _ : / @",
        )
    };
    let allowed = |text: &str| {
        text.chars()
            .all(|c| c.is_alphanumeric() || matches!(c, ' ' | '+' | '-' | '=' | '.' | '_' | ':' | '/' | '@'))
    };
    if tags.len() > 10 {
        return Err(wrong(format!("{} tags are too many", tags.len())));
    }
    let mut set = TagSet::default();
    for (index, (key, value)) in tags.iter().enumerate() {
        let key_ok = (1..=128).contains(&key.chars().count()) && allowed(key) && !key.starts_with("aws:");
        if !key_ok || value.chars().count() > 256 || !allowed(value) {
            return Err(wrong(format!("tag {key:?} = {value:?} is not valid")));
        }
        if tags[..index].iter().any(|(other, _)| other == key) {
            return Err(wrong(format!("tag {key:?} is there twice")));
        }
        set.push(key, value);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::reserved(&[("aws:x", "v")])]
    #[case::empty(&[("", "v")])]
    #[case::charset(&[("k", "a?b")])]
    #[case::twice(&[("k", "1"), ("k", "2")])]
    fn wrong_tags_are_refused(#[case] tags: &[(&str, &str)]) {
        let tags: Vec<_> = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(Tags::new(&tags, &[]).expect_err("wrong").exit_code(), 3);
    }
}
