//! `aral persona verify`: everything that a host checks before it takes a persona, without a host. What it cannot know is
//! which serials a host has seen.

use aral_contract::Clock as _;
use aral_contract::document::signed::Kind;
use aral_persona::persona;
use aral_runtime::SystemClock;
use serde_json::json;

use crate::cli::arguments::persona::PersonaVerify;
use crate::cli::configured::{Configured, not_believed};
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::output::{Done, Output};

pub(crate) fn run(arguments: &PersonaVerify, configured: &Configured, output: &Output) -> Done {
    let trust = configured.trust_in(&arguments.trusting, Kind::Persona)?;
    let now = SystemClock::new().now();
    let bytes = files::document(&arguments.file)?;
    let verified = persona::verify(&bytes, &trust, now)
        .map_err(|error| not_believed(&arguments.trusting, error).in_file(&arguments.file))?;
    super::warn(&verified.body, output);
    let (header, id) = (&verified.header, &verified.body.id);
    let signer = verified.signer.map(|key| key.to_string()).unwrap_or_default();
    output.answer(
        &format!(
            "valid: persona {id}, signed by key {signer}, serial {}, until {}\ndigest {}",
            header.serial, header.expires_at, verified.digest
        ),
        &json!({
            "valid": true, "persona": id, "key_id": signer, "serial": header.serial, "digest": verified.digest,
            "issued_at": header.issued_at, "expires_at": header.expires_at,
        }),
    )?;
    Ok(Exit::Success)
}
