//! `aral persona show`: every member of a persona, signed or not, what the policy makes of its numbers, and whether it may
//! be believed now.

use aral_contract::quote::key;
use aral_contract::{Clock as _, Failure};
use aral_orchestration::budget::{TermRow, agent_rows};
use aral_persona::{PersonaBody, persona};
use aral_runtime::SystemClock;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::arguments::persona::PersonaShow;
use crate::cli::configured::Configured;
use crate::cli::exit::Exit;
use crate::cli::output::{Done, Output};
use crate::cli::{files, text};

pub(crate) fn run(arguments: &PersonaShow, configured: &Configured, output: &Output) -> Done {
    let bytes = files::document(&arguments.file)?;
    let (header, body) =
        persona::read_unbelieved(&bytes).map_err(|error| Failure::from(error).in_file(&arguments.file))?;
    let verified = persona::verify(&bytes, configured.trust(), SystemClock::new().now());
    let rows = agent_rows(&body, &configured.config.policy);
    let (standing, refused) = match &verified {
        Ok(verified) => {
            let signer = verified.signer.map(|key| key.to_string()).unwrap_or_default();
            (format!("signed by key {signer}, which is trusted"), None)
        }
        Err(error) => (format!("not to be believed: {error}"), Some(error.to_string())),
    };
    let mut shown = members(&body)?;
    shown.extend(numbers(&body, rows.as_deref()));
    shown.push(line("serial", &header.serial.to_string()));
    shown.push(line("valid", &format!("{} to {}", header.issued_at, header.expires_at)));
    shown.push(line("signature", &standing));
    super::warn(&body, output);
    output.answer(
        &shown.join("\n"),
        &json!({
            "persona": body, "serial": header.serial, "issued_at": header.issued_at, "expires_at": header.expires_at,
            "valid": refused.is_none(), "reason": refused, "warnings": body.constraints.wildcards(),
            "numbers": numbers_object(&body, rows.as_deref()),
        }),
    )?;
    Ok(Exit::Success)
}

fn members(body: &PersonaBody) -> Result<Vec<String>, Failure> {
    let constraints = &body.constraints;
    let or_none = |text: &str| {
        if text.is_empty() {
            "none".to_owned()
        } else {
            text.to_owned()
        }
    };
    Ok(vec![
        line("persona", body.id.as_str()),
        line("name", &body.name),
        line("description", &or_none(&body.description)),
        line("system prompt", &or_none(&body.system_prompt)),
        line("clearance", body.clearance.as_str()),
        line("permissions", &list(&constraints.allowed_permissions)?),
        line("capabilities", &list(&constraints.allowed_capabilities)?),
        line("domains", &list(&constraints.allowed_domains)?),
        line("agents", &list(&constraints.allowed_agents)?),
    ])
}

fn numbers(body: &PersonaBody, rows: Option<&[TermRow]>) -> Vec<String> {
    let tier = body.tier.as_ref().map_or("none", |tier| tier.as_str());
    let Some(rows) = rows else {
        let absent = format!(
            "{tier}, which the policy does not have: add to aral.toml [policy.tier.{}]",
            key(tier)
        );
        let own = own_numbers(body).map(|(name, number)| match number {
            Some(number) => line(name, &format!("{number}; the policy has no such tier")),
            None => line(name, "not given; the policy has no such tier"),
        });
        return std::iter::once(line("tier", &absent)).chain(own).collect();
    };
    let row = |row: &TermRow| {
        let by = match row.persona {
            None => format!("{}, by the policy", row.policy),
            Some(persona) if persona == row.granted => format!("{persona}; the policy allows {}", row.policy),
            Some(persona) => format!("{}, by the policy, and not the {persona} of the persona", row.granted),
        };
        line(row.name, &by)
    };
    std::iter::once(line("tier", tier))
        .chain(rows.iter().map(row))
        .collect()
}

/// The same for programs.
fn numbers_object(body: &PersonaBody, rows: Option<&[TermRow]>) -> Value {
    match rows {
        Some(rows) => json!(rows),
        None => own_numbers(body)
            .map(|(name, persona)| json!({"name": name, "persona": persona, "policy": null, "granted": null}))
            .into_iter()
            .collect(),
    }
}

/// What the persona itself says, under the names of [`agent_rows`].
fn own_numbers(body: &PersonaBody) -> [(&'static str, Option<u64>); 4] {
    let constraints = &body.constraints;
    let rates = &constraints.rate_limits;
    [
        ("requests_per_minute", rates.requests_per_minute),
        ("requests_per_hour", rates.requests_per_hour),
        ("cost_per_hour_micro", constraints.max_cost_per_hour),
        ("reasoning_depth", constraints.max_reasoning_depth.map(u64::from)),
    ]
}

/// One line whatever is in it: nothing of a persona can forge another one.
fn line(name: &str, value: &str) -> String {
    format!("{name:<21}{}", text::line(value))
}

fn list(list: &impl Serialize) -> Result<String, Failure> {
    let value = serde_json::to_value(list).map_err(Failure::internal)?;
    let items: Vec<&str> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    Ok(if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    })
}

#[cfg(test)]
mod tests {
    use aral_host::Config;

    use super::*;

    #[test]
    fn numbers_are_shown_whether_the_policy_has_the_tier_or_not() {
        let body = |tier: Value| -> PersonaBody {
            let rates = json!({"requests_per_minute": 7});
            let constraints = json!({"rate_limits": rates, "max_reasoning_depth": 2});
            serde_json::from_value(json!({"id": "p", "name": "P", "tier": tier, "constraints": constraints})).unwrap()
        };
        let absent = body("gold".into());
        let policy = Config::closed().unwrap().policy;
        assert!(agent_rows(&absent, &policy).is_none());
        let shown = numbers(&absent, None).join("\n");
        for part in [
            "tier                 gold, which the policy does not have",
            "requests_per_minute  7; the policy has no such tier",
            "requests_per_hour    not given; the policy has no such tier",
            "reasoning_depth      2; the policy has no such tier",
        ] {
            assert!(shown.contains(part), "`{part}` is not in {shown}");
        }
        let object = numbers_object(&absent, None);
        assert_eq!(
            (&object[0]["persona"], &object[0]["granted"]),
            (&json!(7), &Value::Null)
        );
        // The same names in the same order.
        let rows = agent_rows(&body(Value::Null), &policy).unwrap();
        let names: Vec<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names, own_numbers(&absent).map(|(name, _)| name));
    }
}
