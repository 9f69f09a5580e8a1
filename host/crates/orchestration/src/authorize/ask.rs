//! What persona and policy say to one item of a scope, and the lines that would let all of it pass.

use aral_contract::HostPattern;
use aral_contract::scope::{AbsolutePath, ProgramScope, SecretScope, SecretUse};

use super::lines::{self, Lines};
use super::narrow;
use crate::policy::Policy;

pub(super) fn by_hosts(
    host: &HostPattern,
    allowed: &[HostPattern],
    place: &'static str,
    lines: &mut Lines,
) -> Vec<HostPattern> {
    let given = narrow::host(host, allowed);
    if given != [host.clone()] {
        lines.add_text(place, &host.to_string());
    }
    given
}

pub(super) fn by_name<T: Clone>(name: &T, allowed: bool, place: &'static str, text: &str, lines: &mut Lines) -> Vec<T> {
    if allowed {
        return vec![name.clone()];
    }
    lines.add_text(place, text);
    Vec::new()
}

pub(super) fn secret_by_hosts(
    secret: &SecretScope,
    allowed: &[HostPattern],
    place: &'static str,
    lines: &mut Lines,
) -> Vec<SecretScope> {
    match secret.usage {
        SecretUse::Reveal => vec![secret.clone()],
        SecretUse::Inject => {
            for host in &secret.hosts {
                by_hosts(host, allowed, place, lines);
            }
            let hosts = narrow::hosts(&secret.hosts, allowed);
            let narrowed = SecretScope {
                hosts: hosts.clone(),
                ..secret.clone()
            };
            (!hosts.is_empty()).then_some(narrowed).into_iter().collect()
        }
    }
}

pub(super) fn secret_by_policy(secret: &SecretScope, policy: &Policy, lines: &mut Lines) -> Vec<SecretScope> {
    let named = policy.secrets.allows(|one| *one == secret.name);
    if !named {
        lines.add_text(lines::POLICY_SECRETS, secret.name.as_str());
    }
    let revealed = secret.usage == SecretUse::Reveal;
    if revealed && !policy.secret_reveal {
        lines.switch_on(lines::POLICY_REVEAL);
    }
    let mut given = secret_by_hosts(secret, &policy.hosts, lines::POLICY_HOSTS, lines);
    // In clear text a secret would be read by whoever carries it. A policy may let that pass for this machine, and egress
    // then sees to it that the address is one.
    let clear = |host: &HostPattern| host.to_string().starts_with("http://");
    if !policy.secret_plain_loopback && secret.hosts.iter().any(clear) {
        lines.switch_on(lines::POLICY_PLAIN_LOOPBACK);
        given
            .iter_mut()
            .for_each(|secret| secret.hosts.retain(|host| !clear(host)));
        given.retain(|secret| revealed || !secret.hosts.is_empty());
    }
    given.retain(|_| named && (!revealed || policy.secret_reveal));
    given
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

pub(super) fn program_text(program: &ProgramScope) -> String {
    let args = program.args.iter().cloned().map(String::from);
    std::iter::once(program.path.to_string())
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

pub(super) fn program_value(program: &ProgramScope) -> String {
    let args: Vec<String> = program
        .args
        .iter()
        .cloned()
        .map(|arg| format!("{:?}", String::from(arg)))
        .collect();
    format!("{{ path = \"{}\", args = [{}] }}", program.path, args.join(", "))
}
