//! What each permission reaches: the scopes of a manifest entry, and, once narrowed, of a grant. The words of the
//! documents are defined here once; whether a host folder or program may be granted is the policy's business.

use serde::{Deserialize, Serialize};

use crate::host_pattern::HostPattern;
use crate::id::{Namespace, SecretName};
use crate::permission::Permission;

/// The permissions of a capability, each with its scope. Absent means not asked for, or not granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// `network:read`
    #[serde(rename = "network:read", default, skip_serializing_if = "Option::is_none")]
    pub network_read: Option<NetworkScope>,
    /// `network:write`
    #[serde(rename = "network:write", default, skip_serializing_if = "Option::is_none")]
    pub network_write: Option<NetworkScope>,
    /// `file:read`
    #[serde(rename = "file:read", default, skip_serializing_if = "Option::is_none")]
    pub file_read: Option<FileReadScope>,
    /// `file:write`
    #[serde(rename = "file:write", default, skip_serializing_if = "Option::is_none")]
    pub file_write: Option<FileWriteScope>,
    /// `secret:read`
    #[serde(rename = "secret:read", default, skip_serializing_if = "Option::is_none")]
    pub secret_read: Option<SecretReadScope>,
    /// `secret:write`
    #[serde(rename = "secret:write", default, skip_serializing_if = "Option::is_none")]
    pub secret_write: Option<SecretWriteScope>,
    /// `memory:read`
    #[serde(rename = "memory:read", default, skip_serializing_if = "Option::is_none")]
    pub memory_read: Option<MemoryReadScope>,
    /// `memory:write`
    #[serde(rename = "memory:write", default, skip_serializing_if = "Option::is_none")]
    pub memory_write: Option<MemoryWriteScope>,
    /// `exec`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecScope>,
}

impl Permissions {
    /// The permissions that reach anything at all: an empty scope is no permission.
    pub fn present(&self) -> Vec<Permission> {
        Permission::ALL.into_iter().filter(|one| self.has(*one)).collect()
    }

    /// Whether the permission is there with a scope that is not empty.
    pub fn has(&self, permission: Permission) -> bool {
        match permission {
            Permission::NetworkRead => self.network_read.as_ref().is_some_and(|scope| !scope.hosts.is_empty()),
            Permission::NetworkWrite => self.network_write.as_ref().is_some_and(|scope| !scope.hosts.is_empty()),
            Permission::FileRead => self.file_read.as_ref().is_some_and(|scope| !scope.paths.is_empty()),
            Permission::FileWrite => self.file_write.as_ref().is_some_and(|scope| !scope.paths.is_empty()),
            Permission::SecretRead => self.secret_read.as_ref().is_some_and(|scope| !scope.secrets.is_empty()),
            Permission::SecretWrite => self.secret_write.as_ref().is_some_and(|scope| !scope.names.is_empty()),
            Permission::MemoryRead => self
                .memory_read
                .as_ref()
                .is_some_and(|scope| !scope.namespaces.is_empty()),
            Permission::MemoryWrite => self
                .memory_write
                .as_ref()
                .is_some_and(|scope| !scope.namespaces.is_empty()),
            Permission::Exec => self.exec.as_ref().is_some_and(|scope| !scope.programs.is_empty()),
        }
    }
}

/// Hosts that a capability may send requests to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkScope {
    /// The hosts.
    pub hosts: Vec<HostPattern>,
}

/// Where a granted folder appears to the guest: an absolute path without `.`, `..`, empty parts or control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsolutePath(String);

/// A path that is not absolute and plain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not an absolute plain path: begin with `/`, without `.`, `..`, empty parts, a final `/` or control characters",
    .0.escape_debug()
)]
pub struct PathError(pub String);

impl AbsolutePath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where `text` leads from here: itself if it is absolute, else below this folder. `.` and a leading `./` mean this folder.
    pub fn join(&self, text: &str) -> Result<Self, PathError> {
        let base = self.0.trim_end_matches('/');
        match text.strip_prefix("./").unwrap_or(text) {
            "." => Ok(self.clone()),
            absolute if absolute.starts_with('/') => absolute.parse(),
            relative => format!("{base}/{relative}")
                .parse()
                .map_err(|_| PathError(text.to_owned())),
        }
    }

    /// Whether this is `ancestor` or lies below it, compared part by part.
    pub fn is_within(&self, ancestor: &Self) -> bool {
        std::path::Path::new(&self.0).starts_with(&ancestor.0)
    }

    /// The nearest of these folders that this is or lies below.
    pub fn nearest_of<'a>(&self, folders: &'a [Self]) -> Option<&'a Self> {
        let above = folders.iter().filter(|folder| self.is_within(folder));
        above.max_by_key(|folder| folder.0.len())
    }
}

impl TryFrom<String> for AbsolutePath {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        let parts = text.strip_prefix('/');
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(char::is_control);
        let ok = text.len() <= 4096 && parts.is_some_and(|parts| parts.is_empty() || parts.split('/').all(plain));
        if ok { Ok(Self(text)) } else { Err(PathError(text)) }
    }
}

impl std::str::FromStr for AbsolutePath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        text.to_owned().try_into()
    }
}

impl From<AbsolutePath> for String {
    fn from(path: AbsolutePath) -> String {
        path.0
    }
}

impl std::fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Folders that a capability may read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileReadScope {
    /// The folders.
    pub paths: Vec<ReadPath>,
}

/// One folder to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadPath {
    /// Where the guest sees it.
    pub guest: AbsolutePath,
    /// Where it is. Must lie below a root that the policy names.
    pub host: AbsolutePath,
}

/// Folders that a capability may change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileWriteScope {
    /// The folders.
    pub paths: Vec<WritePath>,
}

/// One folder to change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WritePath {
    /// Where the guest sees it.
    pub guest: AbsolutePath,
    /// Where it is. Must lie below a root that the policy names for writing.
    pub host: AbsolutePath,
    /// Bytes that one call may write below it, all files together.
    pub bytes_max: u64,
    /// Files and folders that one call may create below it.
    pub files_max: u64,
}

/// Secrets that a capability may use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretReadScope {
    /// The secrets.
    pub secrets: Vec<SecretScope>,
}

/// What may be done with a secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretUse {
    /// The host adds it to requests; the guest never sees it.
    #[default]
    Inject,
    /// The guest may read it: the stronger right.
    Reveal,
}

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretScope {
    /// Its name.
    pub name: SecretName,
    /// What may be done with it.
    #[serde(rename = "use", default)]
    pub usage: SecretUse,
    /// For `inject`: the hosts it may travel to, https only unless the policy allows loopback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPattern>,
    /// For `inject`: the header that carries it, in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// For `inject`: what stands before it in the header, such as `Bearer `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// Secrets that a capability may store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretWriteScope {
    /// Their names.
    pub names: Vec<SecretName>,
}

/// Memory that a capability may read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryReadScope {
    /// The namespaces.
    pub namespaces: Vec<Namespace>,
}

/// Memory that a capability may write.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryWriteScope {
    /// The namespaces.
    pub namespaces: Vec<Namespace>,
    /// Bytes in each namespace, all records together.
    pub bytes_max: u64,
    /// Records in each namespace.
    pub records_max: u64,
}

/// Programs that a capability may run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecScope {
    /// The programs.
    pub programs: Vec<ProgramScope>,
}

/// One program with one shape of arguments; list it twice for two shapes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramScope {
    /// Its absolute path.
    pub path: AbsolutePath,
    /// Its arguments, each matched as a whole, in this order and number.
    pub args: Vec<ArgumentPattern>,
}

/// One argument: a literal text, or a placeholder that stands alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ArgumentPattern {
    /// Exactly this text.
    Literal(String),
    /// `{integer}`: one to eighteen decimal digits, so never an option.
    Integer,
    /// `{word}`: one to 128 of `A-Z a-z 0-9 . _ -`, no `-` first and not `.` or `..`, so neither an option nor a way up.
    Word,
    /// `{path}`: a relative path without `..`, empty parts or control characters, no `-` first. Programs run in `/`, so it
    /// means any file that the program's user can reach.
    Path,
}

/// A text in braces that is no placeholder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an argument pattern: a literal without NUL or braces, or `{{integer}}`, `{{word}}`, `{{path}}`", .0.escape_debug())]
pub struct ArgumentPatternError(pub String);

impl TryFrom<String> for ArgumentPattern {
    type Error = ArgumentPatternError;
    fn try_from(text: String) -> Result<Self, ArgumentPatternError> {
        match text.as_str() {
            "{integer}" => Ok(Self::Integer),
            "{word}" => Ok(Self::Word),
            "{path}" => Ok(Self::Path),
            other if other.contains(['{', '}', '\0']) => Err(ArgumentPatternError(text)),
            _ => Ok(Self::Literal(text)),
        }
    }
}

impl From<ArgumentPattern> for String {
    fn from(pattern: ArgumentPattern) -> String {
        match pattern {
            ArgumentPattern::Literal(text) => text,
            ArgumentPattern::Integer => "{integer}".to_owned(),
            ArgumentPattern::Word => "{word}".to_owned(),
            ArgumentPattern::Path => "{path}".to_owned(),
        }
    }
}

impl ArgumentPattern {
    /// Whether an argument that a guest gives is covered.
    pub fn covers(&self, argument: &str) -> bool {
        let word_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match self {
            Self::Literal(text) => text == argument,
            Self::Integer => (1..=18).contains(&argument.len()) && argument.bytes().all(|byte| byte.is_ascii_digit()),
            Self::Word => {
                (1..=128).contains(&argument.len())
                    && argument.bytes().all(word_byte)
                    && !argument.starts_with('-')
                    && argument != "."
                    && argument != ".."
            }
            Self::Path => {
                let plain = |part: &str| !part.is_empty() && part != ".." && !part.contains(char::is_control);
                argument.len() <= 4096 && !argument.starts_with('-') && argument.split('/').all(plain)
            }
        }
    }

    /// Whether everything that `other` covers is covered by this one too.
    pub fn includes(&self, other: &Self) -> bool {
        self == other || matches!(other, Self::Literal(text) if self.covers(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_scope_is_no_permission() {
        let text = r#"{"network:read":{"hosts":[]},"exec":{"programs":[]}}"#;
        let permissions: Permissions = serde_json::from_str(text).unwrap();
        assert_eq!(permissions.present(), []);
        assert!(serde_json::from_str::<Permissions>(r#"{"network:all":{"hosts":[]}}"#).is_err());
    }

    #[test]
    fn absolute_paths() {
        for good in ["/", "/data", "/a/b.c/…"] {
            assert!(good.parse::<AbsolutePath>().is_ok(), "{good:?} was refused");
        }
        for bad in ["", "data", "/a/", "//a", "/a//b", "/a/./b", "/a/../b", "/a\0", "/a\n"] {
            assert!(bad.parse::<AbsolutePath>().is_err(), "{bad:?} was taken");
        }
        let path = |text: &str| text.parse::<AbsolutePath>().unwrap();
        assert!(path("/srv/data").is_within(&path("/srv")));
        assert!(!path("/srv-data").is_within(&path("/srv")));
        assert!(path("/srv").is_within(&path("/")));
        let folders = ["/", "/srv/data", "/srv", "/srv/data-in"].map(path);
        assert_eq!(path("/srv/data/in").nearest_of(&folders), Some(&folders[1]));
        assert_eq!(path("/srv").nearest_of(&folders[1..2]), None);
        for (text, expected) in [("a/b", "/srv/a/b"), ("./a", "/srv/a"), (".", "/srv"), ("/etc", "/etc")] {
            assert_eq!(path("/srv").join(text).unwrap().as_str(), expected);
        }
        assert!(path("/srv").join("../etc").is_err() && path("/srv").join("").is_err());
        assert_eq!(path("/").join("a").unwrap().as_str(), "/a");
    }

    #[test]
    fn arguments() {
        let pattern = |text: &str| ArgumentPattern::try_from(text.to_owned()).unwrap();
        for (text, argument, expected) in [
            ("log", "log", true),
            ("log", "log2", false),
            ("{integer}", "12", true),
            ("{integer}", "-1", false),
            ("{integer}", "", false),
            ("{integer}", "١", false),
            ("{word}", "HEAD", true),
            ("{word}", "--output=x", false),
            ("{word}", "..", false),
            ("{word}", "a b", false),
            ("{path}", "a/b.txt", true),
            ("{path}", "/etc/passwd", false),
            ("{path}", "a/../../b", false),
            ("{path}", "-rf", false),
        ] {
            assert_eq!(pattern(text).covers(argument), expected, "{text} covers {argument:?}");
        }
        assert!(ArgumentPattern::try_from("{any}".to_owned()).is_err());
        assert!(ArgumentPattern::try_from("--n={integer}".to_owned()).is_err());
        assert!(pattern("{word}").includes(&pattern("HEAD")) && !pattern("HEAD").includes(&pattern("{word}")));
    }

    #[test]
    fn what_a_capability_chooses_has_the_length_and_the_characters_that_are_promised() {
        let covers = |text: &str, argument: &str| {
            let pattern = ArgumentPattern::try_from(text.to_owned()).unwrap();
            pattern.covers(argument)
        };
        for (text, most) in [("{integer}", 18), ("{word}", 128), ("{path}", 4096)] {
            assert!(covers(text, "7") && covers(text, &"7".repeat(most)), "{text}");
            assert!(!covers(text, "") && !covers(text, &"7".repeat(most + 1)), "{text}");
        }
        // Programs run in `/`, which `.` would be.
        assert!(!covers("{word}", "."));
        assert!(covers("{word}", "a.b") && covers("{word}", ".a"));
        for bad in ["a\nb", "a\0b", "a\u{85}b", "a//b", "a/", "..", "a/.."] {
            assert!(!covers("{path}", bad), "{bad:?}");
        }
    }
}
