//! What an event says about a thing that was reached for. It decides nothing.

use aral_contract::event::{MemoryOperation, SecretOperation};
use aral_contract::{EventKind, Permission};

/// One thing that was reached for.
pub(super) struct Reached<'a> {
    pub(super) permission: Permission,
    pub(super) target: &'a str,
    pub(super) allowed: bool,
    /// Why not, or what else it was used for.
    pub(super) reason: Option<&'a str>,
}

/// None: the event is about something else. The grant let through what was then done with a record or a secret, also if
/// that failed for another reason.
pub(super) fn reached(event: &EventKind) -> Option<Reached<'_>> {
    let used = |permission, target| Reached {
        permission,
        target,
        allowed: true,
        reason: None,
    };
    Some(match event {
        EventKind::HostCall {
            permission,
            target,
            allowed,
            reason,
            ..
        } => Reached {
            permission: *permission,
            target,
            allowed: *allowed,
            reason: reason.as_deref(),
        },
        EventKind::MemoryAccess {
            operation, namespace, ..
        } => match operation {
            MemoryOperation::Read | MemoryOperation::List => used(Permission::MemoryRead, namespace.as_str()),
            MemoryOperation::Write | MemoryOperation::Delete => used(Permission::MemoryWrite, namespace.as_str()),
        },
        EventKind::SecretAccess { operation, secret, .. } => match operation {
            SecretOperation::Inject => used(Permission::SecretRead, secret.as_str()),
            SecretOperation::Reveal => Reached {
                reason: Some("use = \"reveal\""),
                ..used(Permission::SecretRead, secret.as_str())
            },
            SecretOperation::Write | SecretOperation::Delete => used(Permission::SecretWrite, secret.as_str()),
        },
        EventKind::CapabilityRegistered { .. }
        | EventKind::AdmissionRefused { .. }
        | EventKind::DevelopmentOnly { .. }
        | EventKind::Decision { .. }
        | EventKind::InvocationStarted { .. }
        | EventKind::InvocationEnded { .. }
        | EventKind::Authentication { .. }
        | EventKind::Security { .. }
        | EventKind::Lifecycle { .. }
        | EventKind::ConfigurationChanged { .. }
        | EventKind::GuestLog { .. } => return None,
    })
}
