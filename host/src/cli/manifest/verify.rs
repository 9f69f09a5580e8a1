//! `aral manifest verify`: what a host checks of a manifest and its components before it admits them, without a host: it knows no
//! serial that one has seen, no other manifest, and of keys that are given neither their time nor whether they are revoked.

use std::path::Path;

use aral_capability::{Entry, manifest};
use aral_contract::document::signed::Kind;
use aral_contract::{Clock as _, Code, Failure};
use aral_runtime::SystemClock;
use serde_json::json;

use crate::cli::arguments::ManifestVerify;
use crate::cli::configured::{Configured, not_believed};
use crate::cli::exit::Exit;
use crate::cli::output::{Done, Output};
use crate::cli::{files, session};

/// The folder beside a manifest that holds its components, each named by its digest.
pub(crate) const COMPONENTS: &str = "components";

pub(crate) fn run(arguments: &ManifestVerify, configured: &Configured, output: &Output) -> Done {
    let trust = configured.trust_in(&arguments.trusting, Kind::Manifest)?;
    let now = SystemClock::new().now();
    let verified = manifest::verify(&files::document(&arguments.file)?, &trust, now)
        .map_err(|error| not_believed(&arguments.trusting, error).in_file(&arguments.file))?;
    let components = arguments.file.with_file_name(COMPONENTS);
    let admitted = session::registry().admit(&verified, &|entry| component(&components, entry))?;
    for (capability, warnings) in &admitted {
        for warning in warnings {
            output.warn(&format!(
                "{}: {}\nhint: {}",
                capability.entry.id, warning.message, warning.hint
            ));
        }
    }
    let header = &verified.header;
    let signer = verified.signer.map(|key| key.to_string()).unwrap_or_default();
    let capabilities = verified.body.capabilities();
    output.answer(
        &format!(
            "valid: signed by key {signer}, serial {}, until {}\ndigest {}\n{}",
            header.serial,
            header.expires_at,
            verified.digest,
            super::listing(&verified.body)
        ),
        &json!({
            "valid": true, "key_id": signer, "serial": header.serial, "digest": verified.digest,
            "issued_at": header.issued_at, "expires_at": header.expires_at, "capabilities": capabilities,
        }),
    )?;
    Ok(Exit::Success)
}

/// The bytes that an entry names.
pub(crate) fn component(folder: &Path, entry: &Entry) -> Result<Vec<u8>, Failure> {
    let path = folder.join(format!("{}.wasm", entry.component));
    if !files::is_there(&path) {
        return Err(Failure::new(
            Code::ComponentInvalid,
            format!(
                "the component of `{}` {} is not at `{}`",
                entry.id,
                entry.version,
                path.display()
            ),
        )
        .with_hint("`aral manifest build` puts the components beside the manifest: copy both together"));
    }
    files::named_component(&path)
}
