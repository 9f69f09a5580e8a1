//! Names of HTTP fields that belong to the host or the connection: which of them a guest may set, and which may hold a secret. Pure.
//!
//! Servers hand fields on as variables (CGI, WSGI, FastCGI), where `x-real-ip`, `x_real_ip` and `x.real.ip` are one: so they are here.

/// Fields that servers and proxies are known to read for where a request goes, how it travels, from whom it comes, or that its method is
/// another one.
const HOSTS: [&str; 44] = [
    "cdn-loop",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "cloudfront-viewer-address",
    "connection",
    "do-connecting-ip",
    "expect",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-host",
    "x-http-host-override",
    "x-nf-client-connection-ip",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-vercel-forwarded-for",
    // Another path than the one that was asked for, which a front may have checked.
    "x-rewrite-url",
    // They ask a server to take the request for one of another method, which nobody granted.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    // They say to which trace a request belongs: the host knows, and a guest must not say otherwise.
    "b3",
    "baggage",
    "sentry-trace",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
];
const HOSTS_BEGINNINGS: [&str; 8] = [
    "proxy-",
    "x-appengine-",
    "x-azure-",
    "x-b3-",
    "x-datadog-",
    // With `x-envoy-original-dst-host` a request says to which address it goes.
    "x-envoy-",
    "x-forwarded-",
    "x-original-",
];

/// Fields that ask for an answer in a form in which echoes of secrets cannot be found.
const FORMS: [&str; 3] = ["a-im", "if-range", "range"];
/// And what the names of others end with: a protocol that packs each message, and not the body, has a field of its own
/// (`grpc-accept-encoding`).
const FORMS_ENDS: [&str; 2] = ["accept-charset", ACCEPT_ENCODING];
const ACCEPT_ENCODING: &str = "accept-encoding";

/// Others of a request that say what it is, and hold no secret.
const DESCRIBING: [&str; 5] = ["content-encoding", "content-length", "content-type", "date", "origin"];
const DESCRIBING_BEGINNINGS: [&str; 2] = ["access-control-", "sec-"];

/// Whether a guest may neither set nor see a field.
pub(crate) fn is_of_host(name: &str) -> bool {
    let name = as_variable(name);
    is_one(&name, &HOSTS, &HOSTS_BEGINNINGS)
}

/// Whether a field asks for an answer in which echoes of secrets cannot be found.
pub(crate) fn asks_for_form(name: &str) -> bool {
    let name = as_variable(name);
    is_one(&name, &FORMS, &[]) || FORMS_ENDS.iter().any(|end| name.ends_with(end))
}

/// If a field of an answer says how the body, or each message in it, is packed: what it says where nothing is. Some say instead what the
/// server would take, and those with `x-` say something beside the protocol, such as how a store keeps an object.
pub(crate) fn says_how_packed(name: &str) -> Option<&'static [&'static str]> {
    let variable = as_variable(name);
    if !variable.ends_with("-encoding") || variable.ends_with(ACCEPT_ENCODING) || variable.starts_with("x-") {
        return None;
    }
    let plain: &'static [&'static str] = match variable.as_str() {
        // A field of mail (RFC 2045), which servers send with downloads. `identity` is no word of mail, and some write it all the same.
        "content-transfer-encoding" => &["7bit", "8bit", "binary", "identity"],
        _ if name == "transfer-encoding" => &["chunked"],
        _ => &["identity"],
    };
    Some(plain)
}

/// Whether a secret may not stand in a field: it would be dropped, would be seen by proxies, or would change where the request
/// goes, or what it is.
pub(crate) fn holds_no_secret(name: &str) -> bool {
    is_of_host(name) || asks_for_form(name) || is_one(&as_variable(name), &DESCRIBING, &DESCRIBING_BEGINNINGS)
}

/// Whether two names are one field to whoever hands them on as variables.
pub(crate) fn are_one(name: &str, other: &str) -> bool {
    as_variable(name) == as_variable(other)
}

/// A name, which is in lower case, as whoever makes a variable of it tells it from others.
fn as_variable(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    name.chars().map(plain).collect()
}

fn is_one(name: &str, names: &[&str], beginnings: &[&str]) -> bool {
    names.contains(&name) || beginnings.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name in all ways in which servers may take it for the same.
    fn spellings(name: &str) -> [String; 4] {
        ["-", "_", ".", "~"].map(|between| name.replace('-', between))
    }

    #[test]
    fn what_is_of_the_host_no_guest_sets_and_no_secret_stands_in_however_it_is_spelt() {
        // Written out: a name that is taken out of the list fails here. PHP code asks for the address of a caller in `HTTP_CLIENT_IP`
        // first, and in `HTTP_X_FORWARDED` too.
        for name in [
            "cdn-loop",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-pseudo-ipv4",
            "client-ip",
            "cloudfront-viewer-address",
            "connection",
            "do-connecting-ip",
            "expect",
            "fastly-client-ip",
            "fly-client-ip",
            "forwarded",
            "host",
            "http2-settings",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "true-client-ip",
            "upgrade",
            "via",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-envoy-decorator-operation",
            "x-envoy-external-address",
            "x-envoy-original-dst-host",
            "x-envoy-original-path",
            "x-forwarded",
            "x-host",
            "x-http-host-override",
            "x-nf-client-connection-ip",
            "x-originating-ip",
            "x-real-ip",
            "x-remote-addr",
            "x-remote-ip",
            "x-rewrite-url",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "b3",
            "baggage",
            "sentry-trace",
            "traceparent",
            "tracestate",
            "uber-trace-id",
            "x-amzn-trace-id",
            "x-cloud-trace-context",
            "x-datadog-origin",
            "x-datadog-parent-id",
            "x-datadog-sampling-priority",
            "x-datadog-tags",
            "x-datadog-trace-id",
            "proxy-authorization",
            "proxy-anything",
            "x-appengine-user-ip",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-b3-traceid",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-original-forwarded-for",
            "x-original-host",
            "x-original-url",
            "x-vercel-forwarded-for",
        ] {
            for name in spellings(name) {
                assert!(is_of_host(&name) && holds_no_secret(&name), "{name} was allowed");
            }
        }
        for name in [
            "accept",
            "authorization",
            "content-type",
            "content-length",
            "user-agent",
            "cookie",
            "x-api-key",
            "x_api_key",
            "hostname",
            "x-client",
            "x-te",
            "x-hosts",
            "x-original",
            "x-trace",
        ] {
            assert!(!is_of_host(name), "{name} was refused");
        }
    }

    #[test]
    fn a_secret_stands_in_fields_that_say_who_asks() {
        for name in [
            "a-im",
            "accept-charset",
            "accept-encoding",
            "if-range",
            "range",
            "content-encoding",
            "content-length",
            "content-type",
            "date",
            "origin",
            "access-control-request-method",
            "sec-fetch-site",
        ] {
            for name in spellings(name) {
                assert!(holds_no_secret(&name), "{name} was allowed");
            }
        }
        for name in ["authorization", "cookie", "x-api-key", "x_api_key", "api-key"] {
            assert!(!holds_no_secret(name), "{name} was refused");
        }
    }

    #[test]
    fn only_what_decides_the_form_of_an_answer_asks_for_one() {
        for name in [
            "a-im",
            "accept-charset",
            "accept-encoding",
            "if-range",
            "range",
            "connect-accept-encoding",
            "grpc-accept-encoding",
        ] {
            assert!(spellings(name).iter().all(|name| asks_for_form(name)), "{name}");
        }
        for name in ["accept", "accept-language", "ranges", "grpc-encoding", "grpc-timeout"] {
            assert!(!asks_for_form(name), "{name}");
        }
    }

    #[test]
    fn what_a_server_would_take_or_has_stored_does_not_say_how_its_answer_is_packed() {
        for name in [
            "content-encoding",
            "content-transfer-encoding",
            "transfer-encoding",
            "connect-content-encoding",
            "grpc-encoding",
        ] {
            assert!(
                spellings(name).iter().all(|name| says_how_packed(name).is_some()),
                "{name}"
            );
        }
        for name in [
            "encoding",
            "content-type",
            "accept-encoding",
            "grpc-accept-encoding",
            "x-goog-stored-content-encoding",
        ] {
            assert!(
                spellings(name).iter().all(|name| says_how_packed(name).is_none()),
                "{name}"
            );
        }
    }

    #[test]
    fn names_are_one_whatever_stands_between_their_words() {
        for name in spellings("x-api-key") {
            assert!(are_one(&name, "x-api-key"), "{name}");
        }
        assert!(!are_one("x-api-key", "xapi-key"));
    }
}
