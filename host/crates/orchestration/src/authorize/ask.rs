//! What persona and policy say to one item of a scope, and the lines that would let all of it pass.

use aral_contract::HostPattern;
use aral_contract::quote::quoted;
use aral_contract::scope::{AbsolutePath, ProgramScope, SecretScope, SecretUse};

use super::lines::{self, Lines};
use super::narrow::{Hosts, Share};
use crate::policy::Policy;

pub(super) fn by_hosts(host: &HostPattern, allowed: &Hosts<'_>, place: &'static str, lines: &mut Lines) -> Share {
    let share = allowed.share(host);
    if share != Share::Whole {
        lines.add_text(place, &host.to_string());
    }
    share
}

pub(super) fn by_name(allowed: bool, place: &'static str, text: &str, lines: &mut Lines) -> Share {
    if allowed {
        return Share::Whole;
    }
    lines.add_text(place, text);
    Share::Nothing
}

pub(super) fn secret_by_persona(secret: &SecretScope, allowed: &Hosts<'_>, lines: &mut Lines) -> Share {
    match secret.usage {
        SecretUse::Reveal => Share::Whole,
        SecretUse::Inject => {
            let hosts = secret.hosts.iter();
            let shares: Vec<Share> = hosts
                .map(|host| by_hosts(host, allowed, lines::PERSONA_DOMAINS, lines))
                .collect();
            Share::of_all(&shares)
        }
    }
}

pub(super) fn secret_by_policy(secret: &SecretScope, policy: &Policy, allowed: &Hosts<'_>, lines: &mut Lines) -> Share {
    let named = policy.secrets.allows(|one| *one == secret.name);
    if !named {
        lines.add_text(lines::POLICY_SECRETS, secret.name.as_str());
    }
    let share = match secret.usage {
        SecretUse::Reveal if policy.secret_reveal => Share::Whole,
        SecretUse::Reveal => {
            lines.switch_on(lines::POLICY_REVEAL);
            Share::Nothing
        }
        SecretUse::Inject => {
            let mut shares = Vec::with_capacity(secret.hosts.len());
            for host in &secret.hosts {
                let share = by_hosts(host, allowed, lines::POLICY_HOSTS, lines);
                let travels = may_travel(host, policy);
                if !travels {
                    lines.switch_on(lines::POLICY_PLAIN_LOOPBACK);
                }
                shares.push(if travels { share } else { Share::Nothing });
            }
            Share::of_all(&shares)
        }
    };
    if named { share } else { Share::Nothing }
}

/// What both let through of a secret that neither refuses whole; `both` are the hosts that both allow.
pub(super) fn secret_left(secret: &SecretScope, policy: &Policy, both: &Hosts<'_>) -> Option<SecretScope> {
    // First of all: what is left of hosts may be much, and of no use to a secret that is not given.
    if !policy.secrets.allows(|one| *one == secret.name) {
        return None;
    }
    let (hosts, left) = match secret.usage {
        SecretUse::Reveal => (secret.hosts.clone(), policy.secret_reveal),
        SecretUse::Inject => {
            let hosts = both.narrow(&secret.hosts).into_iter();
            let hosts: Vec<HostPattern> = hosts.filter(|host| may_travel(host, policy)).cloned().collect();
            let any = !hosts.is_empty();
            (hosts, any)
        }
    };
    let narrowed = || SecretScope {
        name: secret.name.clone(),
        usage: secret.usage,
        hosts,
        header: secret.header.clone(),
        prefix: secret.prefix.clone(),
    };
    left.then(narrowed)
}

/// In clear text a secret would be read by whoever carries it. A policy may let that pass for this machine, and egress then sees
/// to it that the address is one.
pub(super) fn may_travel(host: &HostPattern, policy: &Policy) -> bool {
    policy.secret_plain_loopback || !host.to_string().starts_with("http://")
}

pub(super) fn note_root(outside: bool, place: &'static str, host: &AbsolutePath, lines: &mut Lines) {
    if outside {
        lines.add_text(place, host.as_str());
    }
}

pub(super) fn note_number(asked: u64, most: u64, place: &'static str, lines: &mut Lines) {
    if asked > most {
        lines.raise(place, asked);
    }
}

/// What a secret is for, in words that differ wherever the rights do.
pub(super) fn secret_text(secret: &SecretScope) -> String {
    match secret.usage {
        SecretUse::Inject => {
            let hosts: Vec<String> = secret.hosts.iter().map(HostPattern::to_string).collect();
            let header = secret.header.as_deref().unwrap_or_default();
            let prefix = secret.prefix.as_deref().unwrap_or_default();
            format!(
                "{} injected for {} as `{header}: {prefix}…`",
                secret.name,
                hosts.join(", ")
            )
        }
        SecretUse::Reveal => format!("{} revealed", secret.name),
    }
}

pub(super) fn program_value(program: &ProgramScope) -> String {
    let args = program.args.iter().cloned().map(String::from);
    let args: Vec<String> = args.map(|arg| quoted(&arg)).collect();
    let path = quoted(program.path.as_str());
    format!("{{ path = {path}, args = [{}] }}", args.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyParts;

    #[test]
    fn nothing_is_narrowed_for_a_secret_that_the_policy_does_not_name() {
        let host = |text: &str| text.parse::<HostPattern>().unwrap();
        let hosts: Vec<HostPattern> = (0..9)
            .map(|number| host(&format!("https://h{number}.example")))
            .collect();
        let mut parts = PolicyParts {
            hosts: hosts.clone(),
            ..PolicyParts::default()
        };
        let both = Hosts::new(&hosts);
        let secret = SecretScope {
            name: "token".parse().unwrap(),
            usage: SecretUse::Inject,
            hosts: vec![host("https://*.example")],
            header: Some("authorization".to_owned()),
            prefix: None,
        };
        let closed = Policy::new(parts.clone()).unwrap();
        let measured = allocation_counter::measure(|| assert!(secret_left(&secret, &closed, &both).is_none()));
        assert_eq!(measured.count_total, 0);
        parts.secrets.add(secret.name.clone());
        let open = Policy::new(parts).unwrap();
        assert_eq!(secret_left(&secret, &open, &both).unwrap().hosts, hosts);
    }
}
