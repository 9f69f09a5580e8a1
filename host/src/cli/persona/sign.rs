//! `aral persona sign`: signs a persona in place. Every rule is checked first: a signature under nonsense helps nobody.

use aral_contract::{Clock as _, Failure};
use aral_persona::persona;
use aral_runtime::SystemClock;
use serde_json::json;

use crate::cli::arguments::persona::PersonaSign;
use crate::cli::exit::Exit;
use crate::cli::output::{Done, Output};
use crate::cli::{files, manifest, passphrase};

pub(crate) fn run(arguments: &PersonaSign, output: &Output) -> Done {
    let place = files::place(&arguments.file)?;
    let (_, body) = persona::read_unbelieved(place.bytes().unwrap_or_default())
        .map_err(|error| Failure::from(error).in_file(&arguments.file))?;
    let signing = &arguments.signing;
    let key = passphrase::private_key(&signing.key, &signing.passphrase)?;
    let now = SystemClock::new().now();
    let serial = manifest::serial(signing.serial, now)?;
    let expires_at = manifest::expiry(now, arguments.valid_days)?;
    let document = persona::sign(&persona::header(serial, now, expires_at), &body, &key)?;
    let written = place.write(format!("{document:#}\n").as_bytes());
    written.map_err(files::failure)?;
    super::warn(&body, output);
    let (key_id, id) = (key.public().id(), &body.id);
    let shown = arguments.file.display();
    output.answer(
        &format!("signed {shown}: persona {id} with key {key_id}, serial {serial}, valid until {expires_at}"),
        &json!({
            "persona": id, "file": arguments.file, "key_id": key_id, "serial": serial, "issued_at": now,
            "expires_at": expires_at,
        }),
    )?;
    Ok(Exit::Success)
}
