//! Whether a grant covers a request: its method and its origin. Pure functions; addresses come later.

use aral_contract::host_pattern::{HostPattern, Origin};
use aral_contract::{Grant, Permission, Permissions};
use http::{HeaderMap, HeaderName, Method, Uri};

use crate::fields;
use crate::functions::held_back;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// No grant opens this method.
    #[error("method `{0}` is never sent: GET, HEAD and OPTIONS read, POST, PUT, PATCH and DELETE write")]
    Method(String),
    /// What the guest gave is no plain origin.
    #[error("{0}")]
    Origin(#[from] aral_contract::host_pattern::HostError),
    /// The scope does not reach that far.
    #[error(
        "`{origin}` is not granted for {permission}: add to capability.toml, [permissions.\"{permission}\"]: hosts = [\"{origin}\"], and to the policy"
    )]
    Scope {
        /// Where to.
        origin: Box<Origin>,
        /// Under which permission.
        permission: Permission,
    },
}

/// The permission that a method needs. CONNECT would be a tunnel that nobody inspects, TRACE an echo of what the host
/// added; of what nobody knows, nobody can say whether it reads or writes.
pub(super) fn permission_of(method: &Method) -> Option<Permission> {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Some(Permission::NetworkRead),
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE => Some(Permission::NetworkWrite),
        _ => None,
    }
}

/// Where a request goes, read once and strictly; everything after uses this and not the guest's text.
pub(super) fn origin_of(uri: &Uri) -> Result<Origin, Refusal> {
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    Ok(Origin::parse(uri.scheme_str().unwrap_or_default(), authority)?)
}

/// Whether the grant covers the request; then under which permission.
pub(super) fn check(permissions: &Permissions, method: &Method, origin: &Origin) -> Result<Permission, Refusal> {
    let permission =
        permission_of(method).ok_or_else(|| Refusal::Method(crate::call::sanitised(method.as_str(), 32)))?;
    if reaches(permissions, permission, origin) {
        return Ok(permission);
    }
    Err(Refusal::Scope {
        origin: Box::new(origin.clone()),
        permission,
    })
}

fn reaches(permissions: &Permissions, permission: Permission, origin: &Origin) -> bool {
    let scope = match permission {
        Permission::NetworkRead => permissions.network_read.as_ref(),
        _ => permissions.network_write.as_ref(),
    };
    let covers = |pattern: &HostPattern| pattern.covers(origin);
    scope.is_some_and(|scope| scope.hosts.iter().any(covers))
}

/// A refusal in words: where the manifest asks for the host, with whoever gives less.
pub(super) fn reason(refusal: &Refusal, grant: &Grant) -> String {
    let Refusal::Scope { origin, permission } = refusal else {
        return refusal.to_string();
    };
    let what = format!("`{origin}` for {permission}");
    let reason = held_back(grant, &what, |cut| reaches(cut, *permission, origin));
    reason.unwrap_or_else(|| refusal.to_string())
}

/// Headers that a guest may neither set nor see.
pub(super) fn is_forbidden(name: &HeaderName) -> bool {
    fields::is_of_host(name.as_str())
}

/// Takes headers out of a request.
pub(super) fn take_out(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::{Cut, GrantParts, Limits};

    use super::*;
    use crate::testing;

    fn permissions(read: &[&str], write: &[&str]) -> Permissions {
        let scope = |hosts: &[&str]| serde_json::json!({ "hosts": hosts });
        let value = serde_json::json!({ "network:read": scope(read), "network:write": scope(write) });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn methods_need_their_permission_and_some_are_never_sent() {
        let read = permissions(&["https://a.example"], &[]);
        let write = permissions(&[], &["https://a.example"]);
        let origin: Origin = "https://a.example".parse().unwrap();
        for (method, reads, writes) in [
            ("GET", true, false),
            ("HEAD", true, false),
            ("OPTIONS", true, false),
            ("POST", false, true),
            ("PUT", false, true),
            ("PATCH", false, true),
            ("DELETE", false, true),
            ("CONNECT", false, false),
            ("TRACE", false, false),
            ("PROPFIND", false, false),
            ("get", false, false),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(
                check(&read, &method, &origin).is_ok(),
                reads,
                "{method} with network:read"
            );
            assert_eq!(
                check(&write, &method, &origin).is_ok(),
                writes,
                "{method} with network:write"
            );
        }
    }

    #[test]
    fn the_origin_is_compared_whole() {
        let granted = permissions(&["https://a.example", "https://*.b.example:8443"], &[]);
        for (uri, expected) in [
            ("https://a.example/path?q", true),
            ("https://A.EXAMPLE:443/", true),
            ("http://a.example/", false),
            ("https://a.example:444/", false),
            ("https://evil-a.example/", false),
            ("https://a.example.evil/", false),
            ("https://x.b.example:8443/", true),
            ("https://b.example:8443/", false),
            ("https://x.b.example/", false),
            ("https://user@a.example/", false),
            ("https://a.example@evil.example/", false),
            ("https://a.example./", false),
            ("https://127.1/", false),
        ] {
            let allowed = origin_of(&uri.parse().unwrap()).and_then(|origin| check(&granted, &Method::GET, &origin));
            assert_eq!(allowed.is_ok(), expected, "{uri}");
        }
    }

    #[test]
    fn a_refusal_names_the_line_to_add() {
        let origin: Origin = "https://a.example:444".parse().unwrap();
        let error = check(&Permissions::default(), &Method::POST, &origin)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(r#"[permissions."network:write"]: hosts = ["https://a.example:444"]"#),
            "{error}"
        );
    }

    #[test]
    fn a_refusal_of_what_the_manifest_asks_for_names_whoever_gives_less() {
        let origin: Origin = "https://b.a.example".parse().unwrap();
        let asked = || permissions(&["https://*.a.example"], &[]);
        let cut = |persona, policy| Cut { persona, policy };
        let none = Permissions::default;
        let line = "add to capability.toml";
        for (cut, words) in [
            (cut(asked(), asked()), "the persona and the policy give less"),
            (cut(asked(), none()), "the persona gives less"),
            (cut(none(), asked()), "the policy gives less"),
            (cut(none(), none()), line),
        ] {
            let parts = testing::grant_parts(serde_json::json!({}), Limits::default(), &[]);
            let grant = Grant::new(GrantParts { cut, ..parts });
            for (method, words) in [(Method::GET, words), (Method::POST, line)] {
                let refusal = check(&grant.permissions, &method, &origin).unwrap_err();
                let reason = reason(&refusal, &grant);
                assert!(reason.contains(words), "{method} {words}: {reason}");
            }
        }
    }
}
