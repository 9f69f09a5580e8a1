//! `aral manifest sign`: signs a manifest in place. Every rule is checked first: a signature under nonsense helps nobody.

use aral_capability::manifest;
use aral_contract::Clock as _;
use aral_runtime::SystemClock;
use serde_json::json;

use crate::cli::arguments::ManifestSign;
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::output::{Done, Output};
use crate::cli::passphrase;

pub(crate) fn run(arguments: &ManifestSign, output: &Output) -> Done {
    let signing = &arguments.signing;
    let key = passphrase::private_key(&signing.key, &signing.passphrase)?;
    let place = files::place(&arguments.file)?;
    let (_, body) = manifest::read_unbelieved(place.bytes().unwrap_or_default())
        .map_err(|failure| failure.in_file(&arguments.file))?;
    let now = SystemClock::new().now();
    let serial = super::serial(signing.serial, now)?;
    let expires_at = super::expiry(now, arguments.valid_days)?;
    let header = manifest::header(serial, now, expires_at);
    let document = manifest::sign(&header, &body, &key)?;
    let written = place.write(format!("{document:#}\n").as_bytes());
    written.map_err(files::failure)?;
    let key_id = key.public().id();
    let shown = arguments.file.display();
    output.answer(
        &format!("signed {shown} with key {key_id}, serial {serial}, valid until {expires_at}"),
        &json!({"manifest": arguments.file, "key_id": key_id, "serial": serial, "issued_at": now, "expires_at": expires_at}),
    )?;
    Ok(Exit::Success)
}
