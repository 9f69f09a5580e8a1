//! Lists of what a persona or a policy allows. Absent or empty allows nothing; `"*"` allows everything and is shown as a
//! warning wherever it decides.

use std::fmt;
use std::str::FromStr;

use semver::{Version, VersionReq};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{CapabilityId, IdError};

/// A list of allowed things, written as a list of texts, one of which may be `"*"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList<T> {
    any: bool,
    items: Vec<T>,
}

impl<T> Default for AllowList<T> {
    fn default() -> Self {
        Self::of([])
    }
}

impl<T> AllowList<T> {
    /// Exactly these.
    pub fn of(items: impl IntoIterator<Item = T>) -> Self {
        Self {
            any: false,
            items: items.into_iter().collect(),
        }
    }

    /// Everything: `["*"]`.
    pub fn any() -> Self {
        Self {
            any: true,
            items: Vec::new(),
        }
    }

    /// One more.
    pub fn add(&mut self, item: T) {
        self.items.push(item);
    }

    /// Whether `"*"` stands in the list.
    pub fn is_any(&self) -> bool {
        self.any
    }

    /// How many items stand in the list, `"*"` aside.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// Whether the list allows nothing.
    pub fn is_empty(&self) -> bool {
        !self.any && self.items.is_empty()
    }

    /// Whether `"*"` stands in the list, or an item for which `fits` holds.
    pub fn allows(&self, fits: impl FnMut(&T) -> bool) -> bool {
        self.any || self.items.iter().any(fits)
    }
}

impl<T: Clone + Into<String>> Serialize for AllowList<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let any = self.any.then(|| "*".to_owned());
        serializer.collect_seq(any.into_iter().chain(self.items.iter().cloned().map(Into::into)))
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for AllowList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut list = Self::default();
        for text in Vec::<String>::deserialize(deserializer)? {
            if text == "*" {
                list.any = true;
            } else {
                list.items.push(text.parse().map_err(de::Error::custom)?);
            }
        }
        Ok(list)
    }
}

/// Which capabilities an entry of `allowed_capabilities` or `capabilities` means: an id (`text-grep`), or every id with
/// that beginning (`notes-*`), each optionally with versions (`text-grep@^1.2`, in the words of Cargo).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CapabilityPattern {
    name: CapabilityId,
    with_more: bool,
    versions: Option<VersionReq>,
}

/// A text that means no capability.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityPatternError {
    /// What stands before `*` or `@` is no name.
    #[error("`{}` means no capability: write an id, its beginning and `*`, or `*` alone", .text.escape_debug())]
    Name {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: IdError,
    },
    /// What stands behind `@` are no versions.
    #[error("`{}` names no versions: write them like `text-grep@^1.2`", .text.escape_debug())]
    Versions {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: semver::Error,
    },
}

impl CapabilityPattern {
    /// Whether this version of this capability is meant.
    pub fn covers(&self, id: &CapabilityId, version: &Version) -> bool {
        let named = if self.with_more {
            id.as_str().starts_with(self.name.as_str())
        } else {
            *id == self.name
        };
        named && self.versions.as_ref().is_none_or(|versions| versions.matches(version))
    }
}

impl FromStr for CapabilityPattern {
    type Err = CapabilityPatternError;
    fn from_str(text: &str) -> Result<Self, CapabilityPatternError> {
        let shown = || text.chars().take(crate::limits::NAME_BYTES_MAX).collect();
        let (name, versions) = match text.split_once('@') {
            Some((name, versions)) => (name, Some(versions)),
            None => (text, None),
        };
        let (name, with_more) = match name.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (name, false),
        };
        Ok(Self {
            name: name
                .parse()
                .map_err(|source| CapabilityPatternError::Name { text: shown(), source })?,
            with_more,
            versions: versions
                .map(VersionReq::parse)
                .transpose()
                .map_err(|source| CapabilityPatternError::Versions { text: shown(), source })?,
        })
    }
}

impl From<CapabilityPattern> for String {
    fn from(pattern: CapabilityPattern) -> Self {
        let more = if pattern.with_more { "*" } else { "" };
        match pattern.versions {
            Some(versions) => format!("{}{more}@{versions}", pattern.name),
            None => format!("{}{more}", pattern.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::Permission;

    #[test]
    fn patterns_mean_an_id_a_beginning_and_versions() {
        for (pattern, id, version, expected) in [
            ("notes", "notes", "1.0.0", true),
            ("notes", "notes-2", "1.0.0", false),
            ("notes-*", "notes-2", "1.0.0", true),
            ("notes-*", "notes", "1.0.0", false),
            ("notes@^1.2", "notes", "1.2.3", true),
            ("notes@^1.2", "notes", "2.0.0", false),
            ("notes-*@=1.0.0", "notes-a", "1.0.0", true),
            ("notes-*@=1.0.0", "notes-a", "1.0.1", false),
        ] {
            let pattern: CapabilityPattern = pattern.parse().unwrap();
            let covered = pattern.covers(&id.parse().unwrap(), &version.parse().unwrap());
            assert_eq!(covered, expected, "{pattern:?} covers {id} {version}");
            assert_eq!(
                String::from(pattern.clone()).parse::<CapabilityPattern>().unwrap(),
                pattern
            );
        }
        for bad in ["", "@1", "a*b", "A", "*x", "a@", "a@v1", "a@*b", "**"] {
            assert!(bad.parse::<CapabilityPattern>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn an_empty_list_allows_nothing_and_a_star_everything() {
        let list = |text: &str| serde_json::from_str::<AllowList<Permission>>(text);
        let reads = |one: &Permission| *one == Permission::FileRead;
        assert!(list("[]").unwrap().is_empty() && !list("[]").unwrap().allows(reads));
        assert!(list(r#"["file:read"]"#).unwrap().allows(reads));
        assert!(!list(r#"["exec"]"#).unwrap().allows(reads));
        assert!(list(r#"["*"]"#).unwrap().is_any() && list(r#"["*"]"#).unwrap().allows(reads));
        assert!(list(r#"["file"]"#).is_err() && list(r#""*""#).is_err());
        let text = r#"["*","exec"]"#;
        assert_eq!(serde_json::to_string(&list(text).unwrap()).unwrap(), text);
    }
}
