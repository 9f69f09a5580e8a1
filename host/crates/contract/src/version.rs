//! Which version of a capability a caller asks for.

use semver::{Comparator, Op, Version, VersionReq};

/// What a caller asks for with this text. A whole version is that version and no other: whoever goes back to `1.0.0` must not get
/// `1.0.1`. Everything else is a requirement as Cargo reads it, such as `^1.2`, `1.2` or `>=1.2, <2`.
///
/// # Errors
/// The text is neither.
pub fn asked(text: &str) -> Result<VersionReq, semver::Error> {
    match Version::parse(text.trim()) {
        Ok(version) => Ok(exactly(&version)),
        Err(_requirement) => VersionReq::parse(text),
    }
}

/// This version and no other.
pub fn exactly(version: &Version) -> VersionReq {
    VersionReq {
        comparators: vec![Comparator {
            op: Op::Exact,
            major: version.major,
            minor: Some(version.minor),
            patch: Some(version.patch),
            pre: version.pre.clone(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_version_is_that_one_alone_and_everything_else_is_a_requirement() {
        for (text, expected) in [
            ("1.0.0", "=1.0.0"),
            (" 1.0.0 ", "=1.0.0"),
            ("0.1.0-beta.1", "=0.1.0-beta.1"),
            ("1.0.0+build", "=1.0.0"),
            ("=1.0.0", "=1.0.0"),
            ("^1.0.0", "^1.0.0"),
            ("1.0", "^1.0"),
            ("1", "^1"),
            ("1.0.*", "1.0.*"),
            (">=1.2, <2", ">=1.2, <2"),
        ] {
            assert_eq!(asked(text).unwrap().to_string(), expected, "{text:?}");
        }
        for bad in ["", "newest", "1.0.0.0", "01.0.0"] {
            assert!(asked(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_version_matches_itself_alone() {
        let version = |text: &str| Version::parse(text).unwrap();
        for text in ["1.2.3", "0.1.0", "2.0.0-beta.1"] {
            assert!(exactly(&version(text)).matches(&version(text)), "{text}");
        }
        for other in ["1.0.1", "1.1.0", "1.0.0-beta"] {
            assert!(!asked("1.0.0").unwrap().matches(&version(other)), "{other}");
        }
    }
}
