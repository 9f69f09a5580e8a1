//! `aral keygen`: a key pair in two files. It overwrites nothing: a key that is lost cannot be made again.

use std::path::{Path, PathBuf};

use aral_contract::document::{KeyError, PrivateKey};
use aral_contract::{Code, Failure};
use aral_runtime::entropy;
use serde_json::json;

use super::arguments::Keygen;
use super::configured::Located;
use super::exit::Exit;
use super::files;
use super::output::{Done, Output};
use super::passphrase;

pub(crate) fn run(arguments: &Keygen, located: &Located, output: &Output) -> Done {
    let named = &arguments.passphrase;
    if !arguments.encrypt && (named.passphrase_file.is_some() || named.passphrase_variable.is_some()) {
        return Err(Failure::new(
            Code::ConfigInvalid,
            "a passphrase is given, and nothing to encrypt with it",
        )
        .with_hint("add `--encrypt`")
        .into());
    }
    let (private_path, public_path) = paths(&arguments.name)?;
    let name = located.name_of(&public_path)?;
    let key = PrivateKey::from_seed(&entropy::seed32().map_err(Failure::internal)?);
    let public = key.public();
    let encode = |error: KeyError| Failure::internal(error);
    // Looked at first, so that no new private key is left beside an old public one, and nobody types for nothing.
    files::refuse_existing(&private_path)?;
    files::refuse_existing(&public_path)?;
    let private_pem = if arguments.encrypt {
        passphrase::encrypt(&key, &arguments.passphrase)?
    } else {
        key.to_pem().map_err(encode)?
    };
    let public_pem = public.to_pem().map_err(encode)?;
    files::create_private(&private_path, private_pem.as_bytes())?;
    files::create(&public_path, public_pem.as_bytes())?;
    output.answer(
        &format!(
            "key id       {}\nprivate key  {} ({})\npublic key   {}",
            public.id(),
            private_path.display(),
            if arguments.encrypt {
                "keep it and its passphrase: whoever has both signs in your name"
            } else {
                "keep it: whoever has it signs in your name"
            },
            public_path.display()
        ),
        &json!({
            "key_id": public.id(), "private_key": private_path, "public_key": public_path, "encrypted": arguments.encrypt,
        }),
    )?;
    output.note(&format!(
        "hint: to trust it, add to aral.toml:\n[[trust]]\npublic_key = {}\nkinds = [\"manifest\", \"persona\"]",
        quoted(&name)
    ));
    Ok(Exit::Success)
}

/// A path as a text of TOML, for lines that somebody copies.
pub(crate) fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

/// `NAME.pem` and `NAME.pub.pem`; a `.pem` that the user wrote already is not written twice.
pub(crate) fn paths(name: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let text = name
        .to_str()
        .filter(|text| name.file_name().is_some() && !text.ends_with('/'))
        .ok_or_else(|| {
            Failure::new(
                Code::ConfigInvalid,
                format!("`{}` is no name for a file", name.display()),
            )
        })?;
    let stem = text.strip_suffix(".pem").unwrap_or(text);
    Ok((format!("{stem}.pem").into(), format!("{stem}.pub.pem").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_two_files() {
        for name in ["keys/dev", "keys/dev.pem"] {
            let expected = (PathBuf::from("keys/dev.pem"), PathBuf::from("keys/dev.pub.pem"));
            assert_eq!(paths(Path::new(name)).unwrap(), expected);
        }
        for bad in ["", "/", "..", "keys/"] {
            assert!(paths(Path::new(bad)).is_err(), "{bad:?} was taken");
        }
    }
}
