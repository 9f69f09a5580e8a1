//! What a call was allowed, what it was refused and what it cost: as JSON, and as a summary on standard error.

use std::collections::BTreeMap;

use aral_contract::scope::{AbsolutePath, ArgumentPattern, SecretUse};
use aral_contract::{EventKind, Permission, Permissions, Usage};
use aral_orchestration::Outcome;
use serde_json::{Value, json};

use super::exit::Exit;
use super::output::{Done, Output, failure_object};
use super::text;

/// Refused attempts that are shown; all of them are counted.
const DENIALS_SHOWN_MAX: usize = 20;
/// Different uses of records and secrets that are shown.
const ACCESSES_SHOWN_MAX: usize = 20;

/// Prints the outcome of a call: the answer, or why there is none, and the summary.
pub(crate) fn outcome(outcome: &Outcome, events: &[EventKind], output: &Output) -> Done {
    let mut object = json!({
        "trace_id": outcome.trace,
        "capability": outcome.capability,
        "version": outcome.version,
        "granted": outcome.grant.as_ref().map(|grant| &grant.permissions),
        "denied": denials(events).collect::<Vec<_>>(),
        "usage": outcome.usage,
        "receipt": outcome.receipt,
    });
    match &outcome.result {
        Ok(answer) => {
            if let Ok(answer) = serde_json::from_str::<Value>(answer) {
                insert(&mut object, "answer", answer);
            }
            let told = output.guest_answer(answer, &object);
            match &told {
                Ok(()) => output.note(&summary(outcome, events)),
                Err(_) => warn_untold(outcome, events, output),
            }
            told?;
            Ok(Exit::Success)
        }
        Err(failure) => {
            insert(&mut object, "error", failure_object(failure));
            if outcome.grant.is_some() {
                output.note(&summary(outcome, events));
            }
            let told = output.failure(failure, &object);
            if !matches!(told, Ok(true)) && outcome.grant.is_some() {
                warn_untold(outcome, events, output);
            }
            told?;
            Ok(Exit::of(failure.code))
        }
    }
}

/// Standard output took nothing, and the guest may have done something all the same: what it did and where that is on record is
/// told in any case.
fn warn_untold(outcome: &Outcome, events: &[EventKind], output: &Output) {
    output.warn(&format!(
        "the call was made, and what came of it could not be written to standard output\n{}",
        summary(outcome, events)
    ));
}

/// Adds a member to an object.
pub(crate) fn insert(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// The attempts that host functions refused.
fn denials(events: &[EventKind]) -> impl Iterator<Item = &EventKind> {
    events
        .iter()
        .filter(|event| matches!(event, EventKind::HostCall { allowed: false, .. }))
}

/// What was done with records and secrets, each thing once and how often.
fn used(events: &[EventKind]) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for event in events {
        let (what, refused) = match event {
            EventKind::MemoryAccess {
                operation,
                namespace,
                refused,
                ..
            } => (format!("memory {} {namespace}", operation.as_str()), refused),
            EventKind::SecretAccess {
                operation,
                secret,
                target,
                refused,
                ..
            } => {
                let verb = operation.as_str();
                let target = target.as_deref().map(|target| format!(" to {}", text::line(target)));
                (format!("secret {verb} {secret}{}", target.unwrap_or_default()), refused)
            }
            _other => continue,
        };
        let what = match refused {
            Some(reason) => format!("refused   {what}: {}", text::line(reason)),
            None => format!("used      {what}"),
        };
        let count = counts.entry(what).or_default();
        *count = count.saturating_add(1);
    }
    let shown = counts.into_iter().take(ACCESSES_SHOWN_MAX);
    shown
        .map(|(what, count)| match count {
            1 => what,
            many => format!("{what} ({many} times)"),
        })
        .collect()
}

fn summary(outcome: &Outcome, events: &[EventKind]) -> String {
    let mut lines = Vec::new();
    let granted = outcome
        .grant
        .as_ref()
        .map(|grant| items(&grant.permissions))
        .unwrap_or_default();
    if granted.is_empty() {
        lines.push("granted   nothing".to_owned());
    }
    lines.extend(
        granted
            .iter()
            .map(|(permission, item)| format!("granted   {permission} {}", text::line(item))),
    );
    lines.extend(used(events));
    for event in denials(events).take(DENIALS_SHOWN_MAX) {
        if let EventKind::HostCall {
            permission,
            target,
            reason,
            ..
        } = event
        {
            lines.push(format!("denied    {permission} {}", text::line(target)));
            lines.extend(reason.iter().map(|reason| format!("          {}", text::line(reason))));
        }
    }
    let hidden = denials(events).count().saturating_sub(DENIALS_SHOWN_MAX);
    if hidden > 0 {
        lines.push(format!("denied    {hidden} more"));
    }
    lines.push(format!("cost      {}", cost(&outcome.usage)));
    if let Some(receipt) = &outcome.receipt {
        lines.push(format!(
            "receipt   record {} of audit log {}",
            receipt.record.seq, receipt.record.log
        ));
    }
    lines.push(format!("trace     {}", outcome.trace));
    lines.join("\n")
}

/// What a call cost, on one line.
fn cost(usage: &Usage) -> String {
    let fuel = usage.fuel.map(|fuel| format!("fuel {fuel}, ")).unwrap_or_default();
    let mut shown = format!(
        "{fuel}memory {} KiB, computing {} ms, in all {}.{:03} ms, input {} bytes, output {} bytes",
        usage.memory_bytes_peak / 1024,
        usage.compute_ms,
        usage.wall_us / 1000,
        usage.wall_us % 1000,
        usage.input_bytes,
        usage.output_bytes,
    );
    if usage.http_requests > 0 {
        shown.push_str(&format!(", {} requests", usage.http_requests));
    }
    if usage.log_bytes_dropped > 0 {
        shown.push_str(&format!(
            ", lines beyond log_bytes dropped, counted as {} bytes",
            usage.log_bytes_dropped
        ));
    }
    shown
}

/// What permissions reach, one text for each thing.
fn items(permissions: &Permissions) -> Vec<(Permission, String)> {
    let of = |permission: Permission| {
        scope(permissions, permission)
            .into_iter()
            .map(move |item| (permission, item))
    };
    Permission::ALL.into_iter().flat_map(of).collect()
}

fn scope(permissions: &Permissions, permission: Permission) -> Vec<String> {
    fn all<T: ToString>(items: &[T]) -> Vec<String> {
        items.iter().map(T::to_string).collect()
    }
    let folder = |guest: &AbsolutePath, host: &AbsolutePath| format!("{guest} (on this machine {host})");
    match permission {
        Permission::NetworkRead => permissions
            .network_read
            .iter()
            .flat_map(|scope| all(&scope.hosts))
            .collect(),
        Permission::NetworkWrite => permissions
            .network_write
            .iter()
            .flat_map(|scope| all(&scope.hosts))
            .collect(),
        Permission::FileRead => {
            let paths = permissions.file_read.iter().flat_map(|scope| &scope.paths);
            paths.map(|path| folder(&path.guest, &path.host)).collect()
        }
        Permission::FileWrite => {
            let paths = permissions.file_write.iter().flat_map(|scope| &scope.paths);
            paths
                .map(|path| {
                    let folder = folder(&path.guest, &path.host);
                    format!(
                        "{folder}, {} bytes and {} files at most",
                        path.bytes_max, path.files_max
                    )
                })
                .collect()
        }
        Permission::SecretRead => {
            let secrets = permissions.secret_read.iter().flat_map(|scope| &scope.secrets);
            secrets
                .map(|secret| match secret.usage {
                    SecretUse::Inject => format!("{} to {}", secret.name, all(&secret.hosts).join(", ")),
                    SecretUse::Reveal => format!("{}, revealed", secret.name),
                })
                .collect()
        }
        Permission::SecretWrite => permissions
            .secret_write
            .iter()
            .flat_map(|scope| all(&scope.names))
            .collect(),
        Permission::MemoryRead => permissions
            .memory_read
            .iter()
            .flat_map(|scope| all(&scope.namespaces))
            .collect(),
        Permission::MemoryWrite => permissions
            .memory_write
            .iter()
            .flat_map(|scope| all(&scope.namespaces))
            .collect(),
        Permission::Exec => {
            let programs = permissions.exec.iter().flat_map(|scope| &scope.programs);
            programs
                .map(|program| {
                    let args = program.args.iter().cloned().map(ArgumentPattern::into);
                    let words: Vec<String> = std::iter::once(program.path.to_string()).chain(args).collect();
                    words.join(" ")
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::event::{MemoryOperation, SecretOperation};

    use super::*;

    #[test]
    fn every_permission_is_shown_with_what_it_reaches() {
        let permissions: Permissions = serde_json::from_value(json!({
            "network:read": {"hosts": ["https://a.example"]},
            "network:write": {"hosts": ["https://b.example"]},
            "file:read": {"paths": [{"guest": "/data", "host": "/srv"}]},
            "file:write": {"paths": [{"guest": "/out", "host": "/o", "bytes_max": 1, "files_max": 2}]},
            "secret:read": {"secrets": [{"name": "s", "hosts": ["https://a.example"], "header": "x"}]},
            "secret:write": {"names": ["t"]},
            "memory:read": {"namespaces": ["m"]},
            "memory:write": {"namespaces": ["n"], "bytes_max": 1, "records_max": 1},
            "exec": {"programs": [{"path": "/bin/date", "args": ["{word}"]}]},
        }))
        .unwrap();
        let shown: Vec<String> = items(&permissions)
            .iter()
            .map(|(name, item)| format!("{name} {item}"))
            .collect();
        assert_eq!(
            shown,
            [
                "network:read https://a.example",
                "network:write https://b.example",
                "file:read /data (on this machine /srv)",
                "file:write /out (on this machine /o), 1 bytes and 2 files at most",
                "secret:read s to https://a.example",
                "secret:write t",
                "memory:read m",
                "memory:write n",
                "exec /bin/date {word}",
            ]
        );
    }

    #[test]
    fn uses_of_records_and_secrets_are_shown_with_their_number() {
        let read = |refused: Option<&str>| EventKind::MemoryAccess {
            capability: None,
            persona: None,
            operation: MemoryOperation::Read,
            namespace: "notes".parse().unwrap(),
            record: Some("0".repeat(32)),
            classification: None,
            amount: 1,
            refused: refused.map(str::to_owned),
        };
        let inject = EventKind::SecretAccess {
            capability: None,
            persona: None,
            secret: "token".parse().unwrap(),
            operation: SecretOperation::Inject,
            target: Some("https://a.example".to_owned()),
            refused: None,
        };
        assert_eq!(
            used(&[read(None), inject, read(Some("no\nstore")), read(None)]),
            [
                "refused   memory read notes: no\\u{a}store",
                "used      memory read notes (2 times)",
                "used      secret inject token to https://a.example",
            ]
        );
    }

    #[test]
    fn the_cost_names_what_was_used() {
        let usage = Usage {
            fuel: Some(9),
            memory_bytes_peak: 2048,
            wall_us: 1_002,
            http_requests: 3,
            log_bytes_dropped: 64,
            ..Usage::default()
        };
        assert_eq!(
            cost(&usage),
            "fuel 9, memory 2 KiB, computing 0 ms, in all 1.002 ms, input 0 bytes, output 0 bytes, 3 requests, \
             lines beyond log_bytes dropped, counted as 64 bytes"
        );
    }
}
