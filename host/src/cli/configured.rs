//! Which configuration holds for this process: found, read once, and handed to the verbs that need it.

use std::path::{Path, PathBuf};

use aral_contract::document::signed::DocumentError;
use aral_contract::document::{Kind, TrustStore};
use aral_contract::{Code, Failure};
use aral_host::{Config, environment};

use super::arguments::Trusting;
use super::files;

/// The configuration that is used when nobody names one.
const DEFAULT: &str = "aral.toml";

/// Where the configuration is; none: nowhere.
#[derive(Debug, Clone)]
pub(crate) struct Located(Option<PathBuf>);

impl Located {
    /// The file that the user names, else the one that the environment names, else the one in this folder if it is there.
    pub(crate) fn new(option: Option<&Path>) -> Self {
        let default = || Some(PathBuf::from(DEFAULT)).filter(|path| files::is_there(path));
        Self(
            option
                .map(Path::to_owned)
                .or_else(environment::config_file)
                .or_else(default),
        )
    }

    /// What a line of the configuration calls a file: the way from the folder of the configuration if the file lies below, or else
    /// the way from the root. A path that is typed begins in the folder where it is typed, and that may be another one.
    pub(crate) fn name_of(&self, file: &Path) -> Result<PathBuf, Failure> {
        let file = files::absolute(file)?;
        let config = self.0.as_deref().map(files::absolute).transpose()?;
        let folder = config.as_deref().and_then(Path::parent);
        let below = folder.and_then(|folder| file.strip_prefix(folder).ok());
        Ok(below.map_or_else(|| file.clone(), Path::to_owned))
    }
}

/// The configuration in force.
#[derive(Debug, Clone)]
pub(crate) struct Configured {
    pub(crate) config: Config,
    located: Located,
}

impl Configured {
    /// Reads the file; without one, the built-in defaults, which allow nothing.
    pub(crate) fn load(located: &Located) -> Result<Self, Failure> {
        let config = match &located.0 {
            Some(path) => Config::load(path)?,
            None => Config::built_in()?,
        };
        Ok(Self {
            config,
            located: located.clone(),
        })
    }

    /// The same for a host that calls nothing: it needs no place for records and secrets, does not miss their keys, and has
    /// nothing to put on record.
    pub(crate) fn without_storage(&self) -> Self {
        let mut same = self.clone();
        same.config.memory = None;
        same.config.secrets = None;
        same.config.audit = None;
        same
    }

    /// Refuses a manifest that is not there, before a host is made that takes them.
    pub(crate) fn check_manifests(&self) -> Result<(), Failure> {
        match self.config.manifests.iter().find(|path| files::is_absent(path)) {
            None => Ok(()),
            Some(path) => {
                let absent = absent_manifest();
                Err(Failure {
                    message: format!("[manifests] `{}`: {}", path.display(), absent.message),
                    ..absent
                })
            }
        }
    }

    /// The file, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.located.0.as_deref()
    }

    /// Where it is.
    pub(crate) fn located(&self) -> &Located {
        &self.located
    }

    /// Why something did not work that a configuration has to say everything about: where no file was read, the hint says so first.
    /// Whoever stands in another folder than that of the file looks for the mistake in a file that is fine.
    pub(crate) fn told_of_no_file(&self, failure: Failure) -> Failure {
        let may_be_of_it = matches!(failure.code, Code::ConfigInvalid | Code::Unavailable);
        if self.path().is_some() || !may_be_of_it {
            return failure;
        }
        let none = format!(
            "there is no {DEFAULT} here, and {} names no file: `aral --config FILE …`",
            environment::ARAL_CONFIG
        );
        let hint = match &failure.hint {
            Some(hint) => format!("{none}\nor else: {hint}"),
            None => none,
        };
        failure.with_hint(hint)
    }

    /// Who is trusted.
    pub(crate) fn trust(&self) -> &TrustStore {
        &self.config.trust
    }

    /// Who is trusted for documents of this kind: the keys that are given, without any those of the configuration.
    pub(crate) fn trust_in(&self, given: &Trusting, kind: Kind) -> Result<TrustStore, Failure> {
        if given.trust.is_empty() {
            return Ok(self.trust().clone());
        }
        let mut store = TrustStore::default();
        for path in &given.trust {
            store.add(files::public_key(path)?, &[kind]);
        }
        Ok(store)
    }
}

/// Why a document is not believed. Whoever gave keys to check it with has no use for a line of the configuration.
pub(crate) fn not_believed(given: &Trusting, error: DocumentError) -> Failure {
    let of_the_given = !given.trust.is_empty() && matches!(error, DocumentError::UnknownKey { .. });
    let failure = Failure::from(error);
    if of_the_given {
        return failure.with_hint("name the public key of whoever signed it: `--trust KEY.pub.pem`");
    }
    failure
}

/// What is said of a manifest of the configuration that is not there.
pub(crate) fn absent_manifest() -> Failure {
    Failure::new(Code::ConfigInvalid, "there is no manifest")
        .with_hint("make and sign it: `aral manifest build`, `aral manifest sign`; or take it out of [manifests]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_from_the_folder_of_the_configuration_and_not_from_here() {
        let here = std::path::absolute("keys/new.key").unwrap();
        for (config, file, name) in [
            (Some("aral.toml"), "keys/new.key", Path::new("keys/new.key")),
            (Some("keys/aral.toml"), "keys/new.key", Path::new("new.key")),
            (Some("/etc/aral/aral.toml"), "keys/new.key", here.as_path()),
            (Some("/etc/aral/aral.toml"), "/etc/aral/new.key", Path::new("new.key")),
            (None, "keys/new.key", here.as_path()),
        ] {
            let located = Located(config.map(PathBuf::from));
            assert_eq!(located.name_of(Path::new(file)).unwrap(), name, "{config:?}");
        }
    }
}
