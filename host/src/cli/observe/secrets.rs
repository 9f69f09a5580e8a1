//! Which secrets an entry offers, and how each of them travels.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use aral_contract::id::SecretName;
use aral_contract::scope::{SecretScope, SecretUse};
use aral_contract::{HostPattern, Permissions};

use super::{Attempt, quote};
use crate::cli::text;

/// What a reason says of a secret that was shown to the guest, or that the guest wanted to see.
const REVEAL: &str = "use = \"reveal\"";
/// What a reason says of a secret that the guest wanted to send, and that it may only see.
const INJECT: &str = "use = \"inject\"";

/// The secrets that were reached for.
#[derive(Default)]
pub(super) struct Secrets {
    offered: Vec<SecretScope>,
    /// Those that nothing was found to travel to. They are told and not offered: no manifest takes one without a host.
    unbound: Vec<SecretName>,
}

impl Secrets {
    /// An attempt names no header. So a secret that was granted is offered as it was granted, and another one for the hosts that were
    /// reached over https.
    pub(super) fn new(
        attempts: Option<&BTreeMap<String, Attempt>>,
        reached: &BTreeSet<String>,
        granted: &Permissions,
    ) -> Self {
        let https = reached.iter().filter(|host| host.starts_with("https://"));
        let https: Vec<HostPattern> = https.filter_map(|host| host.parse().ok()).collect();
        let mut secrets = Self::default();
        for (name, attempt) in attempts.into_iter().flatten() {
            let Ok(name) = name.parse::<SecretName>() else {
                continue;
            };
            let secret = offer(name, attempt, &https, granted);
            match secret.usage {
                SecretUse::Inject if secret.hosts.is_empty() => secrets.unbound.push(secret.name),
                SecretUse::Inject | SecretUse::Reveal => secrets.offered.push(secret),
            }
        }
        secrets
    }

    pub(super) fn scope(&self) -> Option<String> {
        let advice =
            "# Check hosts and header: the secret travels there and nowhere else. `reveal` shows it to the guest.";
        let lines: String = self.offered.iter().map(|one| format!("  {},\n", item(one))).collect();
        (!lines.is_empty()).then(|| format!("{advice}\nsecrets = [\n{lines}]\n"))
    }

    pub(super) fn comments(&self) -> String {
        let mut lines = String::new();
        for name in &self.unbound {
            let shown = text::line(name.as_str());
            let _infallible = writeln!(
                lines,
                "# {shown}: the run does not show where it travels. To grant it, add its host and its header: \
                 {{ name = {}, hosts = [\"WHERE\"], header = \"HEADER\" }}",
                quote(name.as_str())
            );
        }
        lines
    }
}

fn offer(name: SecretName, attempt: &Attempt, https: &[HostPattern], granted: &Permissions) -> SecretScope {
    let says = |usage: &str| attempt.reasons.iter().any(|reason| reason.contains(usage));
    let mut given = granted.secret_read.iter().flat_map(|scope| &scope.secrets);
    let given = given.find(|one| one.name == name);
    match given {
        _ if says(REVEAL) => SecretScope {
            name,
            usage: SecretUse::Reveal,
            hosts: Vec::new(),
            header: None,
            prefix: None,
        },
        Some(given) if given.usage == SecretUse::Inject => {
            let mut given = given.clone();
            for host in attempt.reasons.iter().filter_map(|reason| refused_host(reason)) {
                if !given.hosts.contains(&host) {
                    given.hosts.push(host);
                }
            }
            given
        }
        Some(given) if !says(INJECT) => given.clone(),
        Some(_) | None => SecretScope {
            name,
            usage: SecretUse::Inject,
            hosts: https.to_vec(),
            header: Some("authorization".to_owned()),
            prefix: None,
        },
    }
}

/// The host that a refusal says is missing.
fn refused_host(reason: &str) -> Option<HostPattern> {
    let (_, rest) = reason.split_once(": add \"")?;
    let (host, _) = rest.split_once("\" to its `hosts`")?;
    host.parse().ok()
}

fn item(secret: &SecretScope) -> String {
    let mut keys = vec![format!("name = {}", quote(secret.name.as_str()))];
    match secret.usage {
        SecretUse::Reveal => keys.push(REVEAL.to_owned()),
        SecretUse::Inject => {
            let hosts: Vec<String> = secret.hosts.iter().map(|host| quote(&host.to_string())).collect();
            keys.push(format!("hosts = [{}]", hosts.join(", ")));
        }
    }
    let texts = [("header", &secret.header), ("prefix", &secret.prefix)];
    for (key, text) in texts {
        keys.extend(text.iter().map(|text| format!("{key} = {}", quote(text))));
    }
    format!("{{ {} }}", keys.join(", "))
}
