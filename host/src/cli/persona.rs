//! `aral persona new`: an unsigned persona, for development. What is not listed is not allowed.

use aral_contract::document::signed::Kind;
use aral_contract::{Clock as _, Code, Failure};
use aral_persona::PersonaBody;
use aral_runtime::SystemClock;
use serde_json::{Value, json};

use super::arguments::PersonaNew;
use super::exit::Exit;
use super::output::{Done, Output};
use super::{files, manifest};

pub(crate) fn run(arguments: &PersonaNew, output: &Output) -> Done {
    let body = body(arguments)?;
    let now = SystemClock::new().now();
    let expires_at = manifest::expiry(now, arguments.valid_days)?;
    let mut document = json!({
        "schema": Kind::Persona.schema(), "serial": 1, "issued_at": now, "expires_at": expires_at,
    });
    let members = serde_json::to_value(&body).map_err(Failure::internal)?;
    if let (Some(document), Value::Object(members)) = (document.as_object_mut(), members) {
        document.extend(members);
    }
    files::create(&arguments.out, format!("{document:#}\n").as_bytes())?;
    for list in body.constraints.wildcards() {
        output.warn(&format!("`*` in {list} allows everything that the policy allows"));
    }
    let shown = arguments.out.display();
    output.answer(
        &format!("wrote {shown}: persona {}, unsigned, valid until {expires_at}", body.id),
        &json!({"persona": body.id, "file": arguments.out, "expires_at": expires_at, "signed": false}),
    )?;
    output.note("hint: nobody signed it, so that it is accepted with `--development` only");
    Ok(Exit::Success)
}

/// Goes through the document's own parser, so that what is written is what will be read.
fn body(arguments: &PersonaNew) -> Result<PersonaBody, Failure> {
    let members = json!({
        "id": arguments.id,
        "name": arguments.name.as_ref().unwrap_or(&arguments.id),
        "constraints": {
            "allowed_permissions": arguments.permissions,
            "allowed_capabilities": arguments.capabilities,
            "allowed_domains": arguments.domains,
        },
    });
    serde_json::from_value(members).map_err(|error| {
        Failure::new(Code::ConfigInvalid, error.to_string())
            .with_hint("`aral persona new --help` shows how each value is written")
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::arguments::{Arguments, Persona, Verb};

    fn parse(options: &[&str]) -> Result<PersonaBody, Failure> {
        let words = ["aral", "persona", "new"].iter().chain(options);
        match Arguments::try_parse_from(words).unwrap().verb {
            Verb::Persona(Persona::New(arguments)) => body(&arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lists_are_what_was_given_and_empty_otherwise() {
        let body = parse(&["--id", "me", "--allow-permission", "exec", "--allow-capability", "*"]).unwrap();
        assert_eq!(body.name, "me");
        assert_eq!(
            serde_json::to_value(&body.constraints).unwrap(),
            json!({"allowed_permissions": ["exec"], "allowed_capabilities": ["*"], "allowed_domains": []})
        );
        for bad in [
            &["--id", "Me"][..],
            &["--id", "me", "--allow-permission", "files"],
            &["--id", "me", "--allow-capability", "A B"],
            &["--id", "me", "--allow-domain", "example.com"],
        ] {
            assert_eq!(parse(bad).unwrap_err().code, Code::ConfigInvalid, "{bad:?}");
        }
    }
}
