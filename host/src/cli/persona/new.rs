//! `aral persona new`: an unsigned persona. What is not listed is not allowed.

use aral_contract::{Clock as _, Code, Failure};
use aral_persona::{PersonaBody, persona};
use aral_runtime::SystemClock;
use serde_json::{Value, json};

use crate::cli::arguments::persona::PersonaNew;
use crate::cli::exit::Exit;
use crate::cli::output::{Done, Output};
use crate::cli::{files, manifest};

pub(crate) fn run(arguments: &PersonaNew, output: &Output) -> Done {
    let body = body(arguments)?;
    let now = SystemClock::new().now();
    let expires_at = manifest::expiry(now, arguments.valid_days)?;
    let document = persona::unsigned(&persona::header(1, now, expires_at), &body)?;
    files::create(&arguments.out, format!("{document:#}\n").as_bytes())?;
    super::warn(&body, output);
    let shown = arguments.out.display();
    output.answer(
        &format!("wrote {shown}: persona {}, unsigned, valid until {expires_at}", body.id),
        &json!({"persona": body.id, "file": arguments.out, "expires_at": expires_at, "signed": false}),
    )?;
    output.note(&format!(
        "hint: nobody signed it, so that it is accepted with `--development` only; to sign it: `aral persona sign {shown} --key KEY.pem`"
    ));
    Ok(Exit::Success)
}

/// Goes through the document's own parser, so that what is written is what will be read.
fn body(arguments: &PersonaNew) -> Result<PersonaBody, Failure> {
    let system_prompt = arguments.system_prompt.as_deref().map(files::text).transpose()?;
    let mut members = json!({
        "id": arguments.id,
        "name": arguments.name.as_ref().unwrap_or(&arguments.id),
        "description": arguments.description,
        "system_prompt": system_prompt.unwrap_or_default(),
        "tier": arguments.tier,
        "clearance": arguments.clearance,
        "constraints": {
            "allowed_permissions": arguments.permissions,
            "allowed_capabilities": arguments.capabilities,
            "allowed_domains": arguments.domains,
            "allowed_agents": arguments.agents,
            "max_reasoning_depth": arguments.max_reasoning_depth,
            "max_cost_per_hour": arguments.max_cost_per_hour,
            "rate_limits": {
                "requests_per_minute": arguments.requests_per_minute,
                "requests_per_hour": arguments.requests_per_hour,
            },
        },
    });
    without_nulls(&mut members);
    serde_json::from_value(members.clone()).map_err(|error| {
        let message = match culprit(&members) {
            Some(option) => format!("`{option}`: {error}"),
            None => error.to_string(),
        };
        Failure::new(Code::ConfigInvalid, message)
            .with_hint("`aral persona new --help` shows how each value is written")
    })
}

/// Where each option that can be wrong goes.
const OPTIONS: [(&str, &str); 10] = [
    ("--id", "/id"),
    ("--name", "/name"),
    ("--description", "/description"),
    ("--system-prompt", "/system_prompt"),
    ("--tier", "/tier"),
    ("--clearance", "/clearance"),
    ("--allow-permission", "/constraints/allowed_permissions"),
    ("--allow-capability", "/constraints/allowed_capabilities"),
    ("--allow-domain", "/constraints/allowed_domains"),
    ("--allow-agent", "/constraints/allowed_agents"),
];

/// The option without which the rest would be taken; none: it is another one, or several are wrong.
fn culprit(members: &Value) -> Option<&'static str> {
    let is_taken_without = |pointer: &str| {
        let mut others = members.clone();
        if let Some(member) = others.pointer_mut(pointer) {
            *member = match &*member {
                Value::Array(_) => json!([]),
                // These two have to be there, and this would do.
                _text if matches!(pointer, "/id" | "/name") => json!("x"),
                _other => Value::Null,
            };
        }
        without_nulls(&mut others);
        serde_json::from_value::<PersonaBody>(others).is_ok()
    };
    let mut wrong = OPTIONS.iter().filter(|(_, pointer)| is_taken_without(pointer));
    wrong.next().map(|(option, _)| *option)
}

/// What was not given is not written.
fn without_nulls(value: &mut Value) {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(without_nulls);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::arguments::persona::Persona;
    use crate::cli::arguments::{Arguments, Verb};

    fn parse(options: &[&str]) -> Result<PersonaBody, Failure> {
        let words = ["aral", "persona", "new"].iter().chain(options);
        match Arguments::try_parse_from(words).unwrap().verb {
            Verb::Persona(Persona::New(arguments)) => body(&arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lists_are_what_was_given_and_empty_otherwise() {
        let body = parse(&["--id", "me"]).unwrap();
        assert_eq!(body.name, "me");
        assert_eq!(
            serde_json::to_value(&body.constraints).unwrap(),
            json!({
                "allowed_permissions": [], "allowed_capabilities": [], "allowed_domains": [],
                "allowed_agents": [], "rate_limits": {},
            })
        );
        let lists = [
            "--id=me",
            "--allow-permission=exec",
            "--allow-capability=*",
            "--allow-domain=https://*.example.org",
            "--allow-agent=helper",
        ];
        assert_eq!(
            serde_json::to_value(parse(&lists).unwrap().constraints).unwrap(),
            json!({
                "allowed_permissions": ["exec"], "allowed_capabilities": ["*"],
                "allowed_domains": ["https://*.example.org"], "allowed_agents": ["helper"], "rate_limits": {},
            })
        );
        let numbers = [
            "--id=me",
            "--max-reasoning-depth=1",
            "--max-cost-per-hour=2",
            "--requests-per-minute=3",
            "--requests-per-hour=4",
            "--tier=gold",
            "--clearance=internal",
            "--description=d",
        ];
        let body = serde_json::to_value(parse(&numbers).unwrap()).unwrap();
        assert_eq!(body["constraints"]["max_reasoning_depth"], 1);
        assert_eq!(body["constraints"]["max_cost_per_hour"], 2);
        assert_eq!(
            body["constraints"]["rate_limits"],
            json!({"requests_per_minute": 3, "requests_per_hour": 4})
        );
        assert_eq!(
            (&body["tier"], &body["clearance"]),
            (&json!("gold"), &json!("internal"))
        );
        for bad in [
            &["--id", "Me"][..],
            &["--id", "me", "--allow-permission", "files"],
            &["--id", "me", "--allow-capability", "A B"],
            &["--id", "me", "--allow-domain", "example.com"],
            &["--id", "me", "--allow-agent", "A B"],
            &["--id", "me", "--clearance", "top"],
            &["--id", "me", "--tier", "Gold"],
        ] {
            assert_eq!(parse(bad).unwrap_err().code, Code::ConfigInvalid, "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_taken_is_told_with_its_option() {
        let long = "x".repeat(257);
        for (option, value) in [
            ("--name", long.as_str()),
            ("--tier", "Gold"),
            ("--clearance", "top"),
            ("--allow-permission", "files"),
            ("--allow-capability", "A B"),
            ("--allow-domain", "example.com"),
            ("--allow-agent", "A B"),
        ] {
            let refused = parse(&["--id", "me", option, value]).unwrap_err();
            assert!(refused.message.starts_with(&format!("`{option}`: ")), "{refused}");
        }
        let refused = parse(&["--id", "Me"]).unwrap_err();
        assert!(refused.message.starts_with("`--id`: "), "{refused}");
        let several = parse(&["--id", "Me", "--tier", "Gold"]).unwrap_err();
        assert!(!several.message.starts_with("`--"), "{several}");
    }
}
