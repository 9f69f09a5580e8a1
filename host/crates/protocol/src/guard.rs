//! What a request must look like before anybody asks who sends it: a connection as this listener asks for, a host that it is
//! known under, a page that may call, an address of bounded length, and a length that says where the request ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use aral_contract::{TraceId, rule};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{Extensions, HeaderMap, HeaderName, StatusCode, Uri, header};

use crate::bounds;
use crate::connection::{Last, Secured};
use crate::door::{Door, Peer};
use crate::listener::{ListenerOptions, split_port};
use crate::problem::Problem;
use crate::signature;
use crate::tls::ClientCertificate;

/// From where a page calls, as its browser says (Fetch Metadata), also where it sends no `Origin`.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What lets a caller ask for a listener under another name.
const NAME_IT: &str = "aral.toml, [[serve.listener]]: hosts = [\"…\"]";

/// What is answered to a request that goes no further; none: it may go on.
pub(crate) fn guard(door: &Door, trace: TraceId, peer: Peer, request: &Request) -> Option<Response> {
    if let Err(problem) = check_connection(door, request.extensions()) {
        let mut response = problem.into_response();
        response.extensions_mut().insert(Last);
        return Some(response);
    }
    let checked = check_framing(request.headers())
        .and_then(|()| check_uri(request.uri(), door.shared.bounds.uri_bytes_max))
        .and_then(|()| check_host(&door.listener, NAME_IT, request.uri(), request.headers()))
        .and_then(|()| check_origin(&door.listener, request.headers()));
    let (rule, problem) = checked.err()?;
    if let Some(rule) = rule {
        let listener = door.listener.address.to_string();
        door.shared.record_security(Some(trace), peer, rule, listener);
    }
    Some(problem.into_response())
}

/// What a listener asks of connections may be more than when this one began, and it was not asked then. Whoever is answered like
/// this may ask again on another one (RFC 9110, section 15.5.20).
fn check_connection(door: &Door, shown: &Extensions) -> Result<(), Problem> {
    let Some(tls) = &door.tls else { return Ok(()) };
    let lacks = if shown.get::<Secured>().is_none() {
        "TLS"
    } else if tls.requires_certificates() && shown.get::<Arc<ClientCertificate>>().is_none() {
        "a certificate"
    } else {
        return Ok(());
    };
    let message = format!("this listener asks for {lacks} since this connection began");
    Err(Problem::request(StatusCode::MISDIRECTED_REQUEST, message).with_hint("connect again"))
}

/// Why not, and the rule that was broken if that is worth a record.
pub(crate) type Refused = (Option<&'static str>, Problem);

/// A request that says its end in chunks can be read in two ways by two servers behind each other, which is how requests
/// are smuggled; all callers of this interface know how long their request is.
fn check_framing(headers: &HeaderMap) -> Result<(), Refused> {
    if !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    let problem = Problem::request(
        StatusCode::LENGTH_REQUIRED,
        "requests with `Transfer-Encoding` are not taken",
    );
    Err((None, problem.with_hint("send `Content-Length`").closing()))
}

fn check_uri(uri: &Uri, bytes_max: u64) -> Result<(), Refused> {
    let bytes = uri.path_and_query().map_or(0, |rest| rest.as_str().len());
    if bytes <= bounds::size(bytes_max) {
        return Ok(());
    }
    let message = format!("path and query have {bytes} bytes, more than {bytes_max}");
    let problem = Problem::request(StatusCode::URI_TOO_LONG, message);
    Err((None, problem.with_hint(bounds::raise("uri_bytes_max", bytes_max))))
}

/// Against DNS rebinding: a page whose name was pointed at this machine sends that name. Nobody can point an address, and a listener
/// on all addresses of its machine does not know under which of them it is reached. What is signed says for whom it is, which any
/// address does not: it could be sent on from another server. `hint` says how to be answered.
pub(crate) fn check_host(
    listener: &ListenerOptions,
    hint: &'static str,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Refused> {
    let bad = |message: &str| (None, Problem::request(StatusCode::BAD_REQUEST, message));
    let mut given = headers.get_all(header::HOST).iter();
    let field = match (given.next(), given.next()) {
        (Some(one), None) => Some(one.to_str().map_err(|_| bad("`Host` is not a name"))?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(bad("there are two `Host` fields")),
    };
    let authority = match (uri.authority(), field) {
        (Some(authority), Some(field)) if !authority.as_str().eq_ignore_ascii_case(field) => {
            return Err(bad("address and `Host` name two hosts"));
        }
        (Some(authority), _) => authority.as_str(),
        (None, Some(field)) => field,
        (None, None) => return Err(bad("the request names no host")),
    };
    let (host, _port) = split_port(authority).ok_or_else(|| bad("the request names no host"))?;
    let takes_addresses = listener.address.ip().is_unspecified() && !signature::is_there(headers);
    if known(listener, host) || (takes_addresses && is_address(host)) {
        return Ok(());
    }
    let problem = Problem::request(
        StatusCode::MISDIRECTED_REQUEST,
        "this listener is not known under this host",
    );
    // Of which listener is on record: a stranger behind a proxy does not learn where that is.
    Err((Some(rule::HTTP_HOST), problem.with_hint(hint)))
}

fn known(listener: &ListenerOptions, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    if listener.hosts.iter().any(|one| one.as_str() == host) {
        return true;
    }
    let ip = listener.address.ip();
    let literal = match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    host == literal || (ip.is_loopback() && host == "localhost")
}

/// As it stands in an address: in brackets if it is one of IPv6.
fn is_address(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

/// A browser says from which page it calls. What is not listed may not, whether or not the answer would be shown to it.
fn check_origin(listener: &ListenerOptions, headers: &HeaderMap) -> Result<(), Refused> {
    let listed = |value: &http::HeaderValue| {
        listener
            .origins
            .iter()
            .any(|origin| origin.as_str().as_bytes() == value.as_bytes())
    };
    let mut origins = headers.get_all(header::ORIGIN).iter().peekable();
    let (allowed, hint) = match origins.peek() {
        Some(_) => (origins.all(listed), "aral.toml, [[serve.listener]]: origins = [\"…\"]"),
        // Whatever is listed.
        None => (
            !is_of_a_page(headers),
            "have the page fetch it with CORS, so that its browser sends `Origin`",
        ),
    };
    if allowed {
        return Ok(());
    }
    let problem = Problem::request(StatusCode::FORBIDDEN, "this page may not call");
    Err((Some(rule::HTTP_ORIGIN), problem.with_hint(hint)))
}

/// Whether a page of somewhere else sends a request: a picture or a link of it has no `Origin`. What somebody typed has none
/// either, and says so.
pub(crate) fn is_of_a_page(headers: &HeaderMap) -> bool {
    let own = |site: &http::HeaderValue| matches!(site.as_bytes(), b"same-origin" | b"none");
    headers.contains_key(header::ORIGIN) || !headers.get_all(SEC_FETCH_SITE).iter().all(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str) -> ListenerOptions {
        ListenerOptions {
            address: address.parse().unwrap(),
            hosts: vec!["aral.example".parse().unwrap()],
            origins: vec!["https://app.example".parse().unwrap()],
            anonymous: None,
            tls: None,
            mcp: false,
        }
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_known_hosts_are_answered() {
        let check = |address: &str, uri: &str, fields: &[(&'static str, &str)]| {
            check_host(&listener(address), NAME_IT, &uri.parse().unwrap(), &headers(fields)).is_ok()
        };
        let local = "127.0.0.1:8080";
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "127.0.0.1",
            "aral.example",
            "Aral.Example:443",
        ] {
            assert!(check(local, "/", &[("host", good)]), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "user@localhost",
            "localhost:x",
            "localhost:",
            "127.0.0.2",
            "",
            "[::1]",
        ] {
            assert!(!check(local, "/", &[("host", bad)]), "{bad}");
        }
        assert!(check("[::1]:80", "/", &[("host", "[::1]:80")]));
        assert!(!check("10.0.0.1:80", "/", &[("host", "localhost")]));
        assert!(!check(local, "/", &[]));
        assert!(!check(local, "/", &[("host", "localhost"), ("host", "localhost")]));
        assert!(check(local, "http://localhost/", &[("host", "localhost")]));
        assert!(!check(local, "http://evil.example/", &[("host", "localhost")]));
        assert!(!check(local, "http://localhost/", &[("host", "evil.example")]));
        assert!(check(local, "http://localhost/", &[]));
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_under_any_address_and_no_other_name() {
        let check = |address: &str, fields: &[(&'static str, &str)]| {
            check_host(&listener(address), NAME_IT, &"/".parse().unwrap(), &headers(fields)).is_ok()
        };
        let (v4, v6) = ("192.0.2.7:80", "[2001:db8::7]:80");
        for all in ["0.0.0.0:80", "[::]:80"] {
            for good in [v4, v6, "192.0.2.7", "[::1]", "aral.example"] {
                assert!(check(all, &[("host", good)]), "{all}: {good}");
            }
            for bad in [
                "evil.example",
                "localhost",
                "192.0.2.7.evil.example",
                "192.0.2",
                "0300.0.2.7",
                "3221225991",
                "2001:db8::7",
                "[2001:db8::7",
                "[evil.example]",
                "[fe80::1%25eth0]",
                "user@192.0.2.7",
                "",
            ] {
                assert!(!check(all, &[("host", bad)]), "{all}: {bad}");
            }
            for signed in ["signature", "signature-input"] {
                assert!(!check(all, &[("host", v4), (signed, "s=:AA==:")]), "{all}: {signed}");
                assert!(check(all, &[("host", "aral.example"), (signed, "s=:AA==:")]));
            }
        }
        for one in ["127.0.0.1:80", "[::1]:80", "10.0.0.1:80"] {
            for other in [v4, v6] {
                assert!(!check(one, &[("host", other)]), "{one}: {other}");
            }
        }
    }

    #[test]
    fn only_listed_pages_may_call() {
        let check = |fields: &[(&'static str, &str)]| check_origin(&listener("127.0.0.1:1"), &headers(fields)).is_ok();
        assert!(check(&[]));
        assert!(check(&[("origin", "https://app.example")]));
        for bad in [
            "null",
            "https://app.example.evil",
            "http://app.example",
            "https://app.example:444",
        ] {
            assert!(!check(&[("origin", bad)]), "{bad}");
        }
        assert!(!check(&[("origin", "https://app.example"), ("origin", "null")]));
        // A picture of a page has no origin, and its browser says from where it is asked for.
        for site in ["cross-site", "same-site", "", "other"] {
            assert!(!check(&[("sec-fetch-site", site)]), "{site}");
            assert!(
                check(&[("sec-fetch-site", site), ("origin", "https://app.example")]),
                "{site}"
            );
            assert!(!check(&[("sec-fetch-site", site), ("origin", "null")]), "{site}");
        }
        for site in ["none", "same-origin"] {
            assert!(check(&[("sec-fetch-site", site)]), "{site}");
        }
        // A line is named where it helps.
        for (fields, helps) in [
            (&[("sec-fetch-site", "same-site")][..], false),
            (&[("sec-fetch-site", "same-site"), ("origin", "null")], true),
        ] {
            let refused = check_origin(&listener("127.0.0.1:1"), &headers(fields)).unwrap_err();
            assert_eq!(format!("{refused:?}").contains("origins = "), helps, "{refused:?}");
        }
        assert!(!check(&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")]));
    }
}
