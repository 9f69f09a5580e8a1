//! From what the host says to what a record says. Here free texts end: each becomes a cut and escaped text if the host or
//! a document chose it, a keyed hash if somebody else did. Lines that guests log are no audit events: they are free
//! texts of the guest, and go to the operator's log.

#[cfg(test)]
mod tests;

mod unkeyed;

use std::net::IpAddr;

use aral_contract::event::{LifecycleChange, MemoryOperation, Severity};
use aral_contract::id::{Namespace, SecretName};
use aral_contract::quote::quoted;
use aral_contract::{Classification, Code, Event, EventKind, Evidence, Permission, Usage, rule};

use crate::blind::Blinder;
use crate::schema::{
    AuditEvent, Authentication, ConfigurationChanged, DataAccess, Decision, HostCall, Invocation, InvocationStarted,
    Lifecycle, MemoryAccess, Name, Proven, Resources, Security,
};
use crate::text::Text;

pub use unkeyed::shown;

/// Most missing permissions that one decision names. There are nine, each asked of three parties.
const MISSING_MAX: usize = 32;
/// Most callers that the end of one call names: no chain of agents may be longer.
const CALLERS_MAX: usize = 64;
/// What stands in a reason for a name that the record holds as a keyed hash.
const MASK: &str = "[tagged]";
/// Characters of the shortest beginning of a name that is masked like the whole of it: shorter ones are in every text.
const BEGINNING_CHARS_MIN: usize = 4;
/// What stands before the arguments of a program in the reason why it was refused.
const ARGUMENTS: &str = "args = ";

/// What the record of an event says; none for what is no audit event.
pub(crate) fn convert(event: Event, blinder: &Blinder) -> Option<AuditEvent> {
    Some(match event.kind {
        EventKind::Authentication {
            user,
            agent,
            method,
            source,
            refused,
        } => AuditEvent::Authentication(Authentication {
            // People type passwords where a name is asked for. A name is shown once it was shown to be theirs.
            user: user.map(|user| match &refused {
                None => Name::Clear(Text::new(user.expose())),
                Some(_) => Name::Tag(blinder.tag("user", user.expose())),
            }),
            agent,
            method,
            source,
            success: refused.is_none(),
            reason: refused.as_deref().map(Text::new),
        }),
        EventKind::Decision {
            capability,
            version,
            manifest,
            persona,
            persona_digest,
            policy,
            grant,
            missing,
        } => AuditEvent::Decision(Decision {
            capability,
            version,
            manifest,
            persona,
            persona_digest,
            policy,
            grant,
            missing: missing.iter().take(MISSING_MAX).map(|line| Text::new(line)).collect(),
        }),
        EventKind::InvocationStarted {
            capability,
            version,
            persona,
            grant,
        } => AuditEvent::InvocationStarted(InvocationStarted {
            capability,
            version,
            persona,
            grant,
        }),
        EventKind::InvocationEnded {
            capability,
            persona,
            code,
            usage,
            user,
            callers,
            evidence,
        } => AuditEvent::Invocation(Box::new(Invocation {
            capability,
            persona: Some(persona),
            success: code.is_none(),
            code: code.map(|code| Text::new(code.as_str())),
            resources: resources(&usage),
            user,
            callers: callers.into_iter().take(CALLERS_MAX).collect(),
            evidence: evidence.map(|evidence| proven(*evidence)),
        })),
        EventKind::HostCall {
            capability,
            persona,
            permission,
            target,
            allowed,
            reason,
        } => {
            let (target, reason) = named(permission, &target, allowed, reason.as_deref(), blinder);
            AuditEvent::HostCall(HostCall {
                capability,
                persona: Some(persona),
                permission,
                target,
                allowed,
                reason,
            })
        }
        EventKind::MemoryAccess {
            capability,
            persona,
            operation,
            namespace,
            record,
            classification,
            amount,
            refused,
        } => AuditEvent::MemoryAccess(MemoryAccess {
            capability,
            persona,
            operation,
            namespace,
            record: match operation {
                MemoryOperation::List => None,
                MemoryOperation::Read | MemoryOperation::Write | MemoryOperation::Delete => {
                    record.as_deref().map(Text::new)
                }
            },
            classification,
            amount,
            success: refused.is_none(),
            reason: refused.as_deref().map(Text::new),
        }),
        EventKind::SecretAccess {
            capability,
            persona,
            secret,
            operation,
            target,
            refused,
        } => AuditEvent::DataAccess(DataAccess {
            capability,
            persona,
            secret,
            classification: Classification::Secret,
            operation,
            target: target.as_deref().map(Text::new),
            success: refused.is_none(),
            reason: refused.as_deref().map(Text::new),
        }),
        EventKind::AdmissionRefused { subject, code, reason } => {
            security(admission_severity(code), code.as_str(), &subject, Some(&reason), None)
        }
        EventKind::DevelopmentOnly { subject } => {
            security(Severity::Medium, rule::DEVELOPMENT_ONLY, &subject, None, None)
        }
        EventKind::Security {
            severity,
            rule,
            subject,
            reason,
            source,
        } => security(severity, rule, &subject, reason.as_deref(), source),
        EventKind::CapabilityRegistered {
            capability,
            version,
            component,
        } => AuditEvent::Lifecycle(Lifecycle {
            change: LifecycleChange::Admitted,
            subject: Text::new(capability.as_str()),
            version: Some(version),
            digest: Some(component),
        }),
        EventKind::Lifecycle {
            change,
            subject,
            digest,
        } => AuditEvent::Lifecycle(Lifecycle {
            change,
            subject: Text::new(&subject),
            version: None,
            digest,
        }),
        EventKind::ConfigurationChanged { subject, before, after } => {
            AuditEvent::ConfigurationChanged(ConfigurationChanged {
                subject: Text::new(subject),
                before,
                after,
            })
        }
        EventKind::GuestLog { .. } => return None,
    })
}

/// The target and the reason of a host call. How much of them stands in clear depends on the permission.
fn named(
    permission: Permission,
    target: &str,
    allowed: bool,
    reason: Option<&str>,
    blinder: &Blinder,
) -> (Name, Option<Text>) {
    let name = target_name(permission, target, allowed, blinder);
    let reason = reason.map(|reason| match permission {
        Permission::Exec => Text::new(&without_arguments(reason)),
        Permission::NetworkRead
        | Permission::NetworkWrite
        | Permission::FileRead
        | Permission::FileWrite
        | Permission::SecretRead
        | Permission::SecretWrite
        | Permission::MemoryRead
        | Permission::MemoryWrite => masked(reason, target, &name),
    });
    (name, reason)
}

pub(crate) fn security(
    severity: Severity,
    rule: &str,
    subject: &str,
    reason: Option<&str>,
    source: Option<IpAddr>,
) -> AuditEvent {
    AuditEvent::Security(Security {
        severity,
        rule: Text::new(rule),
        subject: Text::new(subject),
        reason: reason.map(Text::new),
        source,
    })
}

fn resources(usage: &Usage) -> Resources {
    Resources {
        fuel: usage.fuel,
        memory_bytes_peak: usage.memory_bytes_peak,
        compute_ms: usage.compute_ms,
        wall_us: usage.wall_us,
        input_bytes: usage.input_bytes,
        output_bytes: usage.output_bytes,
        log_bytes: usage.log_bytes,
        log_bytes_dropped: usage.log_bytes_dropped,
        http_requests: usage.http_requests,
    }
}

fn proven(evidence: Evidence) -> Proven {
    Proven {
        version: evidence.version,
        component: evidence.component,
        manifest: evidence.manifest,
        persona: evidence.persona,
        persona_digest: evidence.persona_digest,
        policy: evidence.policy,
        grant: evidence.grant,
        permissions: evidence.permissions,
        input: evidence.input,
        output: evidence.output,
        host_calls: evidence.host_calls,
        host_calls_digest: evidence.host_calls_digest,
    }
}

fn stands_in_clear(permission: Permission, target: &str, allowed: bool) -> bool {
    match permission {
        Permission::NetworkRead | Permission::NetworkWrite | Permission::Exec => true,
        Permission::FileRead | Permission::FileWrite => allowed,
        Permission::SecretRead | Permission::SecretWrite => target.parse::<SecretName>().is_ok(),
        Permission::MemoryRead | Permission::MemoryWrite => target.parse::<Namespace>().is_ok(),
    }
}

/// What was let through was named by a document. What was refused a guest made up: origins and programs stand in clear
/// nevertheless, because whoever looks into an attack needs to know where it wanted to go.
fn target_name(permission: Permission, target: &str, allowed: bool, blinder: &Blinder) -> Name {
    if stands_in_clear(permission, target, allowed) {
        Name::Clear(Text::new(target))
    } else {
        Name::Tag(blinder.tag(permission.as_str(), target))
    }
}

/// A reason often repeats what it is about.
fn masked(reason: &str, target: &str, name: &Name) -> Text {
    match name {
        Name::Tag(_) => Text::new(&without(reason, target)),
        Name::Clear(_) => Text::new(reason),
    }
}

/// A reason in which a name stands neither whole nor, behind a quotation mark, cut off somewhere, as a long one does in a message:
/// not as it is, and not as the line that would allow it writes it.
fn without(reason: &str, name: &str) -> String {
    let quoted = quoted(name);
    let written = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    let mut kept = String::with_capacity(reason.len());
    let mut rest = reason;
    while let Some(first) = rest.chars().next() {
        let is_quoted = kept.ends_with(['`', '"']);
        let forms = [name, written].into_iter();
        let taken = match forms.filter_map(|form| beginning(rest, form, is_quoted)).max() {
            Some(bytes) => {
                kept.push_str(MASK);
                bytes
            }
            None => {
                kept.push(first);
                first.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    kept
}

/// How many bytes of a name a text begins with; none: too few for it to be the name.
fn beginning(text: &str, name: &str, is_quoted: bool) -> Option<usize> {
    let same = text.chars().zip(name.chars()).take_while(|(one, other)| one == other);
    let (mut chars, mut bytes) = (0usize, 0usize);
    for (one, _) in same {
        chars = chars.saturating_add(1);
        bytes = bytes.saturating_add(one.len_utf8());
    }
    let is_name = (is_quoted && chars >= BEGINNING_CHARS_MIN) || (chars > 0 && bytes == name.len());
    is_name.then_some(bytes)
}

/// The line that would allow a program names its arguments. They are input, and one of them may be a credential.
fn without_arguments(reason: &str) -> String {
    match reason.split_once(ARGUMENTS) {
        Some((before, _)) => format!("{before}{ARGUMENTS}[…]"),
        None => reason.split('[').next().unwrap_or_default().to_owned(),
    }
}

/// A forged or replaced document is an attack; a mistake in one is not.
fn admission_severity(code: Code) -> Severity {
    if matches!(code, Code::SignatureInvalid | Code::DigestMismatch) {
        Severity::High
    } else if matches!(code, Code::DocumentStale | Code::ImportUncovered) {
        Severity::Medium
    } else {
        Severity::Low
    }
}
