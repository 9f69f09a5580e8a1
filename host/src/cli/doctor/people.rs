//! The checks of those who sign and of those who act: trusted keys and personas.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aral_contract::{Clock as _, Failure};
use aral_host::Earlier;
use aral_persona::persona;
use aral_runtime::SystemClock;
use jiff::{SignedDuration, Timestamp};

use super::Check;
use super::checks::EXPIRES_SOON_DAYS;
use crate::cli::configured::Configured;
use crate::cli::files;

pub(crate) fn trust(configured: &Configured) -> Check {
    let trust = configured.trust();
    if trust.is_empty() {
        return Check::warn(
            "trust",
            "no key is trusted: no signed document is accepted",
            "`aral keygen dev`, then in aral.toml, [[trust]]: public_key = \"dev.pub.pem\" and kinds = [\"manifest\", \"persona\"]",
        );
    }
    let now = SystemClock::new().now();
    let ending = trust.keys().find_map(|(id, _, validity)| {
        let not_after = validity
            .not_after
            .filter(|end| !trust.is_revoked(id) && days(now, *end) < EXPIRES_SOON_DAYS)?;
        Some((id, not_after))
    });
    match ending {
        Some((id, not_after)) => Check::warn(
            "trust",
            format!("key {id} is trusted until {not_after}, and nothing that it signed is from then on"),
            "add the next key to [[trust]] while both hold, and sign again what the old one signed",
        ),
        None => Check::ok(
            "trust",
            "the public keys can be read, and only their owner may write them",
        ),
    }
}

/// Those of the configuration, of its callers and of the scopes of its issuers, each once.
pub(crate) fn personas(configured: &Configured, earlier: Option<&Earlier>) -> Vec<Check> {
    let config = &configured.config;
    let served = config.serve.iter().flat_map(|serve| serve.personas());
    let all: BTreeSet<&PathBuf> = config.personas.iter().chain(served).collect();
    all.into_iter()
        .map(|path| one_persona(configured, earlier, path))
        .collect()
}

fn one_persona(configured: &Configured, earlier: Option<&Earlier>, path: &Path) -> Check {
    let now = SystemClock::new().now();
    let shown = path.display();
    if !files::is_there(path) {
        return Check::fail(
            "persona",
            format!("`{shown}`: there is no persona"),
            "write one and sign it: `aral persona new`, `aral persona sign`",
        );
    }
    let read = || -> Result<_, Failure> {
        let verified = persona::verify(&files::document(path)?, configured.trust(), now)?;
        earlier.map_or(Ok(()), |earlier| earlier.check_persona(&verified))?;
        Ok(verified)
    };
    match read() {
        Ok(verified) => {
            let days = days(now, verified.header.expires_at);
            let detail = format!("`{shown}`: persona {} is valid for {days} days", verified.body.id);
            if days < EXPIRES_SOON_DAYS {
                let fix = format!("sign it again: `aral persona sign {shown} --key KEY.pem`");
                Check::warn("persona", detail, fix)
            } else {
                Check::ok("persona", detail)
            }
        }
        Err(failure) => Check::failed(
            "persona",
            failure.in_file(path),
            format!("correct it, and sign it again: `aral persona sign {shown} --key KEY.pem`"),
        ),
    }
}

fn days(now: Timestamp, end: Timestamp) -> i64 {
    let left: SignedDuration = end.duration_since(now);
    left.as_hours() / 24
}
