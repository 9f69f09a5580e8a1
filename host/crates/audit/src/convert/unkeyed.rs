//! Events for whoever has no key to hide anything with: the log of the host. They hold no more than a record does, and say so
//! where a record has a keyed hash.

use aral_contract::{Event, EventKind, Permission};

use super::{MASK, stands_in_clear, without, without_arguments};

/// The event without what its record does not hold either: arguments of programs, and names that a guest made up.
pub fn shown(mut event: Event) -> Event {
    if let EventKind::HostCall {
        permission,
        target,
        allowed,
        reason,
        ..
    } = &mut event.kind
    {
        let is_clear = stands_in_clear(*permission, target, *allowed);
        if let Some(reason) = reason {
            if *permission == Permission::Exec {
                *reason = without_arguments(reason);
            } else if !is_clear {
                *reason = without(reason, target);
            }
        }
        if !is_clear {
            *target = MASK.to_owned();
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_call(
        permission: Permission,
        target: &str,
        allowed: bool,
        reason: Option<&str>,
    ) -> (String, Option<String>) {
        let event = Event {
            at: crate::testing::start(),
            trace: None,
            kind: EventKind::HostCall {
                capability: "echo".parse().unwrap(),
                persona: "analyst".parse().unwrap(),
                permission,
                target: target.to_owned(),
                allowed,
                reason: reason.map(str::to_owned),
            },
        };
        match shown(event).kind {
            EventKind::HostCall { target, reason, .. } => (target, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_that_a_record_hides_is_shown() {
        let refused = "not granted; it would be: [[exec]]: program = \"curl\", args = [\"-H\", \"hunter2\"]";
        let (target, reason) = shown_call(Permission::Exec, "curl", false, Some(refused));
        assert_eq!(target, "curl");
        assert!(
            reason
                .as_ref()
                .is_some_and(|reason| !reason.contains("hunter2") && reason.contains("curl")),
            "{reason:?}"
        );
        let (target, reason) = shown_call(
            Permission::FileRead,
            "/hunter2",
            false,
            Some("no folder holds `/hunter2`"),
        );
        assert_eq!(
            (target.as_str(), reason.as_deref()),
            (MASK, Some("no folder holds `[tagged]`"))
        );
        let (target, reason) = shown_call(Permission::FileRead, "/data/a", true, None);
        assert_eq!((target.as_str(), reason), ("/data/a", None));
        let origin = "https://example.org";
        let (target, reason) = shown_call(Permission::NetworkRead, origin, false, Some(origin));
        assert_eq!((target.as_str(), reason.as_deref()), (origin, Some(origin)));
    }
}
