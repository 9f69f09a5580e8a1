//! `aral audit`: the operator's and the auditor's eye on the log. What its verbs share: where the log is, whose signatures
//! count, and one line for one record.

mod follow;
mod prove;
mod select;
mod verify;
pub(crate) mod words;

use std::path::{Path, PathBuf};

use aral_audit::ReadError;
use aral_contract::document::{Kind, TrustStore};
use aral_contract::failure::chain;
use aral_contract::{Code, Failure};
use aral_host::config::audit::AuditPlaces;
use aral_host::protocol::admin::client::AS_ITS_USER;

use super::arguments::audit::{Audit, Place, Trust};
use super::configured::Configured;
use super::files;
use super::output::{Done, Output};

pub(crate) fn run(verb: &Audit, configured: &Configured, output: &Output) -> Done {
    match verb {
        Audit::Verify(arguments) => verify::run(arguments, configured, output),
        Audit::Checkpoint(arguments) => verify::checkpoint(arguments, configured, output),
        Audit::Prove(arguments) => prove::prove(arguments, configured, output),
        Audit::Check(arguments) => prove::check(arguments, configured, output),
        Audit::Tail(arguments) => follow::run(arguments, configured, output),
        Audit::Query(arguments) => select::query(arguments, configured, output),
        Audit::Export(arguments) => select::export(arguments, configured, output),
    }
}

/// Where the log of the configuration is; none: nowhere.
pub(crate) fn places(configured: &Configured) -> Result<Option<AuditPlaces>, Failure> {
    let config = &configured.config;
    let Some(audit) = &config.audit else { return Ok(None) };
    audit
        .places(config.state_dir.as_deref())
        .map_err(|error| Failure::new(Code::ConfigInvalid, error.to_string()))
}

/// The folder of the log: the one that is named, or that of the configuration.
pub(crate) fn folder(place: &Place, configured: &Configured) -> Result<PathBuf, Failure> {
    match &place.dir {
        Some(folder) => there(folder.clone()),
        None => own_folder(configured).map_err(|failure| configured.told_of_no_file(failure)),
    }
}

fn own_folder(configured: &Configured) -> Result<PathBuf, Failure> {
    let places = places(configured)?.ok_or_else(|| {
        Failure::new(Code::ConfigInvalid, "the configuration has no folder for an audit log")
            .with_hint("name it: `--dir FOLDER`, or in aral.toml, [audit]: dir = \"audit\"")
    })?;
    there(places.dir)
}

fn there(folder: PathBuf) -> Result<PathBuf, Failure> {
    if is_there(&folder)? {
        return Ok(folder);
    }
    Err(Failure::new(
        Code::ConfigInvalid,
        format!("there is no audit log in `{}`", folder.display()),
    )
    .with_hint("name it: `--dir FOLDER`"))
}

/// Whether there is a folder of the log.
pub(crate) fn is_there(folder: &Path) -> Result<bool, Failure> {
    files::is_folder(folder).map_err(|error| {
        let hint = error.is_denied().then(|| AS_ITS_USER.to_owned());
        let message = format!("the audit log: {}", chain(&error));
        Failure {
            hint,
            ..Failure::new(Code::ConfigInvalid, message)
        }
    })
}

/// The keys that may sign checkpoints.
pub(crate) fn trust(arguments: &Trust, configured: &Configured) -> Result<TrustStore, Failure> {
    let mut store = TrustStore::default();
    if arguments.trust.is_empty() {
        store = configured.trust().clone();
        let public = places(configured)?.and_then(|places| places.public_key);
        if let Some(public) = public.filter(|path| files::is_there(path)) {
            store.add(files::public_key(&public)?, &[Kind::Checkpoint]);
        }
    }
    for path in &arguments.trust {
        store.add(files::public_key(path)?, &[Kind::Checkpoint]);
    }
    if store.is_empty() {
        return Err(Failure::new(
            Code::ConfigInvalid,
            "there is no public key to check signatures with",
        )
        .with_hint("name it: `--trust KEY.pub.pem`, or in aral.toml, [[trust]]: public_key = \"KEY.pub.pem\" and kinds = [\"checkpoint\"]"));
    }
    Ok(store)
}

/// Why records cannot be read on.
pub(crate) fn read_failure(error: &ReadError) -> Failure {
    let failure = Failure::new(Code::AuditUnavailable, chain(error));
    match error {
        ReadError::Damaged { .. } => failure.with_hint("see what is wrong with it: `aral audit verify`"),
        ReadError::Gone { .. } | ReadError::Files(_) | ReadError::Segment(_) => failure,
    }
}
