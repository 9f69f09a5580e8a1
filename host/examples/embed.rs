//! A program that embeds the host: it signs a manifest and a persona, registers a tool, calls it, shows what was granted,
//! what it cost and what happened, and is refused when a line of the policy is gone. Run it with
//! `cargo run -p aral-host --example embed`; nothing but this repository is needed.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use aral_host::contract::document::PrivateKey;
use aral_host::contract::document::signed::{self, Header, Kind};
use aral_host::contract::{CapabilityId, Code, Digest};
use aral_host::policy::{Policy, RawPolicy};
use aral_host::{Host, Notice, Request};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const POLICY: &str = r#"
    capabilities = ["echo"]
    limits.memory_bytes = 1_048_576
"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // A program of yours reads these from files: `aral keygen`, `aral manifest build`, `aral manifest sign`.
    let key = PrivateKey::from_seed(&aral_runtime::entropy::seed32()?);
    let component = wat::parse_str(include_str!("echo.wat"))?;
    let manifest = sign(
        Kind::Manifest,
        &key,
        &json!({"capabilities": [{
            "id": "echo", "version": "1.0.0", "shape": "tool", "component": Digest::of(&component),
            "title": "Echo", "description": "Answers with its input.",
            "input_schema": {"type": "object"}, "output_schema": {"type": "object"},
        }]}),
    )?;
    let persona = sign(
        Kind::Persona,
        &key,
        &json!({
            "id": "analyst", "name": "Analyst", "constraints": {"allowed_capabilities": ["echo@^1"]},
        }),
    )?;

    let host = Host::builder()
        .trust(key.public(), &[Kind::Manifest, Kind::Persona])
        .policy(policy(POLICY)?)
        .build()?;
    let mut events = host.events();
    for registered in host.register_manifest(&manifest, &|_entry| Ok(component.clone()))? {
        println!(
            "registered {:?}, warnings: {:?}",
            registered.capability, registered.warnings
        );
    }
    let session = host.session(&persona)?;
    let echo: CapabilityId = "echo".parse()?;
    let request = |input| Request {
        capability: &echo,
        version: None,
        input,
        trace: None,
    };

    let outcome = host.invoke(&session, request(br#"{"hello": "world"}"#)).await;
    println!("answer {:?}\nused {:?}", outcome.result, outcome.usage);
    anyhow::ensure!(
        outcome.result.as_deref() == Ok(r#"{"hello":"world"}"#),
        "the answer is wrong"
    );

    let outcome = host.invoke(&session, request(b"[]")).await;
    println!("input that breaks the schema: {:?}", outcome.result);
    anyhow::ensure!(
        outcome.result.is_err_and(|failure| failure.code == Code::InputInvalid),
        "it was taken"
    );

    // Without its one line the policy allows nothing, from the next call on.
    host.set_policy(policy("")?);
    let explanation = host.explain(&session, &echo, None)?;
    for row in &explanation.decision.rows {
        println!(
            "{}: persona {}, policy {}",
            row.subject, row.persona.verdict, row.policy.verdict
        );
    }
    let denied = host.invoke(&session, request(b"{}")).await.result;
    println!("denied: {denied:?}");
    anyhow::ensure!(
        denied.is_err_and(|failure| failure.code == Code::PermissionDenied),
        "it was allowed"
    );

    drop(host);
    let mut count = 0u32;
    while let Some(notice) = events.next().await {
        if let Notice::Event(event) = notice {
            println!("event {}", serde_json::to_string(&event)?);
            count = count.saturating_add(1);
        }
    }
    anyhow::ensure!(count > 0, "nothing was reported");
    Ok(())
}

fn policy(text: &str) -> anyhow::Result<Policy> {
    let raw: RawPolicy = toml::from_str(text)?;
    Ok(Policy::resolve(raw, &"/".parse()?)?)
}

fn sign(kind: Kind, key: &PrivateKey, body: &Value) -> anyhow::Result<Vec<u8>> {
    #[expect(clippy::disallowed_methods, reason = "an example has no clock injected")]
    let now = Timestamp::now();
    let header = Header {
        schema: kind.schema().to_owned(),
        serial: 1,
        issued_at: now,
        expires_at: now.checked_add(SignedDuration::from_hours(24))?,
    };
    Ok(signed::sign(kind, &header, body, key)?.to_string().into_bytes())
}
