//! Secrets in requests that go to real listeners: what goes out, what does not, and what comes back.

use std::time::Duration;

use aral_contract::{Cut, EventKind, GrantParts, Limits};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use serde_json::json;
use wasmtime_wasi_http::{WasiBody, WasiHttpHooks as _};

use super::super::hooks::Hooks;
use super::super::tests::servers::{Listener, NameServer};
use super::super::{Egress, EgressOptions};
use super::*;
use crate::bound::{Services, Ungranted};
use crate::testing::secrets::{TestSource, secrets};
use crate::testing::{self, Trial};

const VALUE: &str = "s3cr3t/+value==";

fn scope(name: &str, hosts: &[&str], header: &str, prefix: Option<&str>) -> SecretScope {
    let mut scope = json!({ "name": name, "hosts": hosts, "header": header });
    if let Some(prefix) = prefix {
        scope["prefix"] = json!(prefix);
    }
    serde_json::from_value(scope).unwrap()
}

struct Fixture {
    trial: Trial,
    hooks: Hooks,
}

enum Clear {
    Allowed,
    Refused,
}

fn fixture(hosts: &[&str], clear: Clear, limits: Limits, source: TestSource, options: EgressOptions) -> Fixture {
    let permissions = json!({
        "network:read": { "hosts": ["*"] },
        "secret:read": { "secrets": [{ "name": "token", "hosts": hosts, "header": "authorization", "prefix": "Bearer " }] },
    });
    let mut parts = testing::grant_parts(permissions, limits, &["127.0.0.0/8", "10.0.0.0/8"]);
    parts.secret_plain_loopback = matches!(clear, Clear::Allowed);
    let secrets = secrets(&["token", "key", "third", "fourth", "fifth"], &Arc::new(source));
    let trial = Trial::lending(Arc::new(Grant::new(parts)), Ungranted::Refuse, |least| Services {
        egress: Arc::new(Egress::new(options).unwrap()),
        secrets: Some(secrets),
        ..least
    });
    let hooks = Hooks::new(Arc::clone(&trial.call));
    Fixture { trial, hooks }
}

fn source() -> TestSource {
    TestSource::of(&[("TOKEN", VALUE), ("KEY", "another value here")])
}

fn on_loopback(hosts: &[&str]) -> Fixture {
    fixture(
        hosts,
        Clear::Allowed,
        Limits::default(),
        source(),
        EgressOptions::default(),
    )
}

fn get(uri: &str) -> Request<WasiBody> {
    let body: WasiBody = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Request::builder().method(Method::GET).uri(uri).body(body).unwrap()
}

impl Fixture {
    /// Sends a request that carries these secrets.
    async fn send(
        &mut self,
        secrets: Vec<SecretScope>,
        request: Request<WasiBody>,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Error> {
        let carries = !secrets.is_empty();
        for secret in secrets {
            self.hooks.attach(7, secret).unwrap();
        }
        let sent = self
            .hooks
            .sending(7, |hooks| hooks.send_request(request, None, Box::new(async { Ok(()) })));
        let (response, driver) = Box::into_pin(sent).await?;
        let driver = tokio::spawn(Box::into_pin(driver));
        let (parts, body) = response.into_parts();
        assert!(
            !carries || parts.extensions.is_empty(),
            "the reason phrase of the server"
        );
        let body = body.collect().await?.to_bytes();
        driver.abort();
        Ok((parts.status, parts.headers, body))
    }

    /// Accesses as (secret, target, refused).
    fn accesses(&self) -> Vec<(String, Option<String>, Option<String>)> {
        let accesses = self.trial.kept.accesses().into_iter();
        accesses
            .map(|kind| match kind {
                EventKind::SecretAccess {
                    secret,
                    operation: SecretOperation::Inject,
                    target,
                    refused,
                    ..
                } => (secret.to_string(), target, refused),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn token(hosts: &[&str]) -> SecretScope {
    scope("token", hosts, "authorization", Some("Bearer "))
}

async fn echoing() -> Listener {
    Listener::plain(|head| {
        let line = head
            .lines()
            .find(|line| line.starts_with("authorization"))
            .unwrap_or("none");
        let hex: String = line.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "HTTP/1.1 200 {line}\r\nx-echo: {line}\r\ncontent-length: {}\r\n\r\n{line} {hex}",
            line.len() + 1 + hex.len()
        )
        .into()
    })
    .await
}

#[tokio::test]
async fn the_value_goes_out_in_its_header_and_no_echo_comes_back() {
    let listener = echoing().await;
    let origin = listener.origin("http", "127.0.0.1");
    let mut fixture = on_loopback(&[&origin]);
    let (status, headers, body) = fixture.send(vec![token(&[&origin])], get(&origin)).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(
        listener.seen().contains(&format!("authorization: Bearer {VALUE}\r\n")),
        "{}",
        listener.seen()
    );
    let stars = "*".repeat(VALUE.len());
    assert_eq!(headers["x-echo"], format!("authorization: Bearer {stars}"));
    let body = String::from_utf8_lossy(&body);
    let hex_stars = "*".repeat(2 * VALUE.len());
    assert!(body.contains(&stars) && body.ends_with(&hex_stars), "{body}");
    assert_eq!(fixture.accesses(), [("token".to_owned(), Some(origin.clone()), None)]);
    let log = format!("{:?}", fixture.trial.kept);
    assert!(!log.contains(VALUE) && !log.contains("cr3t"), "{log}");
}

#[tokio::test]
async fn a_mark_is_for_one_request_and_gone_with_it() {
    let listener = echoing().await;
    let origin = listener.origin("http", "127.0.0.1");
    let mut fixture = on_loopback(&[&origin]);
    fixture.send(vec![token(&[&origin])], get(&origin)).await.unwrap();
    // The same index again, as the table hands it out.
    let (.., body) = fixture.send(Vec::new(), get(&origin)).await.unwrap();
    assert!(body.starts_with(b"none"), "{body:?}");
    fixture.hooks.attach(7, token(&[&origin])).unwrap();
    fixture.hooks.forget(7);
    let (.., body) = fixture.send(Vec::new(), get(&origin)).await.unwrap();
    assert!(body.starts_with(b"none"), "{body:?}");
    // A request that the host turns down before it is sent leaves nothing behind either.
    fixture.hooks.attach(7, token(&[&origin])).unwrap();
    fixture.hooks.sending(7, |_| ());
    let (.., body) = fixture.send(Vec::new(), get(&origin)).await.unwrap();
    assert!(body.starts_with(b"none"), "{body:?}");
    // And another request has its own.
    fixture.hooks.attach(8, token(&[&origin])).unwrap();
    let (.., body) = fixture.send(Vec::new(), get(&origin)).await.unwrap();
    assert!(body.starts_with(b"none"), "{body:?}");
    assert_eq!(fixture.accesses().len(), 1);
}

#[tokio::test]
async fn what_may_not_carry_a_secret_is_denied_with_the_line_and_never_connects() {
    let listener = Listener::plain(|_| unreachable!()).await;
    let (http, https) = (
        listener.origin("http", "127.0.0.1"),
        listener.origin("https", "127.0.0.1"),
    );
    let own = |name: &'static str| {
        let mut request = get(&https);
        request.headers_mut().insert(name, HeaderValue::from_static("mine"));
        request
    };
    let cases = [
        (get("https://127.0.0.1:1"), "add \"https://127.0.0.1:1\" to its `hosts`"),
        (get(&listener.origin("https", "other.test")), "may not go to"),
        (get(&http), "plain_loopback = true"),
        (own("authorization"), "leave it out"),
    ];
    for (request, line) in cases {
        let hosts = [http.as_str(), https.as_str()];
        let mut closed = fixture(
            &hosts,
            Clear::Refused,
            Limits::default(),
            source(),
            EgressOptions::default(),
        );
        let error = closed.send(vec![token(&hosts)], request).await.unwrap_err();
        assert!(matches!(error, Error::HttpRequestDenied), "{line}: {error}");
        let (secret, reason) = closed.trial.kept.denial();
        assert!(secret == "token" && reason.contains(line), "{line}: {reason}");
        assert!(closed.accesses().is_empty(), "a denial is recorded as one");
        assert_eq!(closed.trial.call.http_requests(), 0);
    }
    assert_eq!(listener.accepted(), 0);
}

#[test]
fn a_guest_sends_no_header_that_a_server_could_take_for_that_of_a_secret() {
    let grant = testing::grant(json!({}), Limits::default(), &[]);
    let origin: Origin = "https://a.example".parse().unwrap();
    let secrets = [scope("token", &["https://a.example"], "x-api-key", None)];
    for (name, is_let_through) in [("x-api-key", false), ("x_api_key", false), ("x-api-keys", true)] {
        let mine = (HeaderName::from_static(name), HeaderValue::from_static("mine"));
        let checked = check(&grant, &secrets, &origin, &HeaderMap::from_iter([mine]));
        assert_eq!(checked.is_ok(), is_let_through, "{name}");
    }
}

#[test]
fn a_host_that_the_manifest_asks_for_is_denied_with_whoever_gives_less() {
    let asked = json!({ "secret:read": { "secrets": [
        { "name": "token", "hosts": ["https://b.example"], "header": "x-key" },
    ]}});
    let cut = Cut {
        persona: serde_json::from_value(asked).unwrap(),
        ..Cut::default()
    };
    let parts = testing::grant_parts(json!({}), Limits::default(), &[]);
    let grant = Grant::new(GrantParts { cut, ..parts });
    let secrets = [scope("token", &["https://a.example"], "x-key", None)];
    for (origin, words) in [
        ("https://b.example", "asks for it, and the persona gives less"),
        ("https://c.example", "may not go to `https://c.example`"),
    ] {
        let origin: Origin = origin.parse().unwrap();
        let denial = check(&grant, &secrets, &origin, &HeaderMap::new()).err().unwrap();
        assert!(denial.reason.contains(words), "{}", denial.reason);
    }
}

#[tokio::test]
async fn clear_text_goes_to_this_machine_alone() {
    let listener = echoing().await;
    let names = NameServer::start(&[
        ("here.test", &["127.0.0.1"]),
        ("there.test", &["10.0.0.1"]),
        ("both.test", &["127.0.0.1", "10.0.0.1"]),
    ])
    .await;
    let options = || EgressOptions {
        nameservers: vec![names.address()],
        ..EgressOptions::default()
    };
    let origins = ["here.test", "there.test", "10.0.0.1", "both.test"].map(|host| listener.origin("http", host));
    let hosts: Vec<&str> = origins.iter().map(String::as_str).collect();
    for (origin, clear, arrives) in [
        (hosts[0], Clear::Allowed, true),
        (hosts[0], Clear::Refused, false),
        (hosts[1], Clear::Allowed, false),
        (hosts[2], Clear::Allowed, false),
        // Whoever answers for a name may add this machine to its own address.
        (hosts[3], Clear::Allowed, false),
    ] {
        let mut fixture = fixture(&hosts, clear, Limits::default(), source(), options());
        let sent = fixture.send(vec![token(&hosts)], get(origin)).await;
        assert_eq!(sent.is_ok(), arrives, "{origin}");
        if !arrives {
            assert!(matches!(sent.unwrap_err(), Error::HttpRequestDenied));
            assert!(fixture.trial.kept.denial().1.contains("clear text"), "{origin}");
        }
    }
}

#[tokio::test]
async fn a_guest_cannot_have_the_answer_packed_in_parts_or_in_other_characters() {
    let listener = echoing().await;
    let origin = listener.origin("http", "127.0.0.1");
    let mut fixture = on_loopback(&[&origin]);
    let mut request = get(&origin);
    for (name, value) in [
        ("accept-encoding", "gzip, br"),
        ("range", "bytes=0-10"),
        ("if-range", "\"tag\""),
        ("accept-charset", "utf-7"),
        ("accept_charset", "utf-7"),
        ("accept_encoding", "gzip, br"),
        ("connect-accept-encoding", "gzip"),
        ("grpc_accept_encoding", "gzip"),
        ("a-im", "vcdiff"),
        ("accept", "text/plain"),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    fixture.send(vec![token(&[&origin])], request).await.unwrap();
    let seen = listener.seen();
    assert!(
        seen.contains("accept-encoding: identity\r\n") && seen.contains("accept: text/plain\r\n"),
        "{seen}"
    );
    for gone in ["gzip", "range", "utf-7", "vcdiff"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    // A media type can name characters, too.
    for (types, is_sent) in [
        ("text/plain;charset=IBM037", false),
        ("application/json;charset=utf-8, */*", true),
    ] {
        let mut request = get(&origin);
        request
            .headers_mut()
            .insert(header::ACCEPT, HeaderValue::from_static(types));
        fixture.send(vec![token(&[&origin])], request).await.unwrap();
        assert_eq!(
            listener.seen().contains(&format!("accept: {types}\r\n")),
            is_sent,
            "{types}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_searched_is_not_handed_out() {
    for (head, refused) in [
        ("200 OK\r\ncontent-encoding: gzip", true),
        ("200 OK\r\ncontent-encoding: identity, br", true),
        ("200 OK\r\ncontent-encoding: Identity", false),
        ("200 OK\r\ntransfer-encoding: gzip, chunked", true),
        ("200 OK\r\ncontent-transfer-encoding: Binary", false),
        ("200 OK\r\ncontent-transfer-encoding: identity", false),
        ("200 OK\r\ncontent-transfer-encoding: quoted-printable", true),
        ("200 OK\r\nconnect-content-encoding: gzip", true),
        ("200 OK\r\ngrpc-encoding: gzip", true),
        ("200 OK\r\ngrpc-encoding: identity\r\ngrpc-accept-encoding: gzip", false),
        ("206 Partial Content\r\ncontent-range: bytes 0-1/9", true),
        ("226 IM Used", true),
        ("200 OK\r\ncontent-type: text/plain;charset=IBM037", true),
        (
            "200 OK\r\ncontent-type: text/plain\r\ncontent-type: text/plain;charset=utf-7",
            true,
        ),
        ("200 OK\r\ncontent-type: text/plain; charset=\"utf-8\"", false),
        (
            "302 Found\r\nlocation: https://elsewhere.test/?key=s3cr3t%2F%2Bvalue%3D%3D",
            false,
        ),
    ] {
        let listener = Listener::plain(move |_| {
            let length = if head.contains("chunked") {
                ""
            } else {
                "content-length: 3\r\n"
            };
            format!("HTTP/1.1 {head}\r\n{length}\r\nabc").into()
        })
        .await;
        let origin = listener.origin("http", "127.0.0.1");
        let mut fixture = on_loopback(&[&origin]);
        let sent = fixture.send(vec![token(&[&origin])], get(&origin)).await;
        assert_eq!(sent.is_err(), refused, "{head}");
        if refused {
            assert!(
                fixture.trial.kept.denial().1.contains("whole, unpacked and in UTF-8"),
                "{head}"
            );
            // Without a secret it is nobody's business.
            let plain = fixture.send(Vec::new(), get(&origin)).await;
            assert!(plain.is_ok() || head.contains("chunked"), "{head}");
        } else if let Ok((status, headers, _)) = sent
            && status == StatusCode::FOUND
        {
            assert_eq!(
                headers["location"],
                format!("https://elsewhere.test/?key={}", "*".repeat(23))
            );
            assert_eq!(
                listener.accepted(),
                1,
                "a redirect is the guest's to follow, without the secret"
            );
        }
    }
}

#[tokio::test]
async fn hints_before_the_answer_and_the_words_behind_its_status_are_not_handed_out() {
    let listener = Listener::plain(|_| {
        format!(
            "HTTP/1.1 103 Early Hints\r\nlink: <{VALUE}>\r\n\r\nHTTP/1.1 200 {VALUE}\r\ncontent-length: 2\r\n\r\nok"
        )
        .into()
    })
    .await;
    let origin = listener.origin("http", "127.0.0.1");
    let mut fixture = on_loopback(&[&origin]);
    let (_, headers, body) = fixture.send(vec![token(&[&origin])], get(&origin)).await.unwrap();
    assert!(!headers.contains_key("link") && body == "ok", "{headers:?}");
}

#[tokio::test]
async fn a_value_that_does_not_fit_a_header_is_refused_and_not_shown() {
    let long = "x".repeat(SECRET_INJECTED_BYTES_MAX + 1);
    for (value, problem) in [
        ("elevenbytes", "shorter than 12"),
        (long.as_str(), "longer than 8192"),
        ("twelve bytes\n", "line end"),
        ("twelve\r\nx: bytes", "line end"),
        (" twelve bytes", "space at an end"),
        ("twelve bytes ", "space at an end"),
        ("zwölf bytes long", "not printable ASCII"),
        ("twelve\0bytes", "not printable ASCII"),
    ] {
        let listener = Listener::plain(|_| unreachable!()).await;
        let origin = listener.origin("http", "127.0.0.1");
        let source = TestSource::of(&[("TOKEN", value)]);
        let mut fixture = fixture(
            &[&origin],
            Clear::Allowed,
            Limits::default(),
            source,
            EgressOptions::default(),
        );
        let error = fixture.send(vec![token(&[&origin])], get(&origin)).await.unwrap_err();
        assert!(matches!(error, Error::HttpRequestDenied), "{value:?}: {error}");
        let (_, reason) = fixture.trial.kept.denial();
        assert!(
            reason.contains(problem) && !reason.contains(value.trim()),
            "{value:?}: {reason}"
        );
        assert_eq!(listener.accepted(), 0);
    }
    let listener = echoing().await;
    let origin = listener.origin("http", "127.0.0.1");
    let source = TestSource::of(&[("TOKEN", "twelve bytes")]);
    let mut fixture = fixture(
        &[&origin],
        Clear::Allowed,
        Limits::default(),
        source,
        EgressOptions::default(),
    );
    fixture.send(vec![token(&[&origin])], get(&origin)).await.unwrap();
}

#[tokio::test]
async fn a_secret_that_cannot_be_had_stops_the_request() {
    let slow = TestSource {
        delay: Duration::from_secs(60),
        ..source()
    };
    let down = TestSource { down: true, ..source() };
    let quick = Limits {
        secret_ms: 50,
        ..Limits::default()
    };
    let none = Limits {
        secret_calls: 0,
        ..Limits::default()
    };
    let cases = [
        (slow, quick, "limit", Some("within `secret_ms`, 50 ms")),
        (
            down,
            Limits::default(),
            "unavailable",
            Some("the place of secret `token` does not answer"),
        ),
        (
            TestSource::default(),
            Limits::default(),
            "unavailable",
            Some("there is no secret `token`"),
        ),
        // Nothing is asked for: it is recorded as a denial.
        (self::source(), none, "limit", None),
    ];
    for (source, limits, error_is, recorded) in cases {
        let listener = Listener::plain(|_| unreachable!()).await;
        let origin = listener.origin("http", "127.0.0.1");
        let mut fixture = fixture(&[&origin], Clear::Allowed, limits, source, EgressOptions::default());
        let error = fixture.send(vec![token(&[&origin])], get(&origin)).await.unwrap_err();
        let found = match error {
            Error::ConnectionLimitReached => "limit",
            Error::DestinationUnavailable => "unavailable",
            other => panic!("{other}"),
        };
        assert_eq!(found, error_is);
        assert_eq!(listener.accepted(), 0);
        match (&fixture.accesses()[..], recorded) {
            ([(name, target, Some(refused))], Some(reason)) => {
                assert_eq!((name.as_str(), target.as_deref()), ("token", Some(origin.as_str())));
                assert!(refused.contains(reason), "{refused}");
            }
            ([], None) => {
                let (secret, reason) = fixture.trial.kept.denial();
                assert!(
                    secret == "token" && reason.contains("secret_calls"),
                    "{secret}: {reason}"
                );
            }
            (accesses, _) => panic!("{accesses:?} in place of {recorded:?}"),
        }
    }
}

#[tokio::test]
async fn a_secret_that_was_fetched_and_not_sent_is_recorded_as_that() {
    let mut fixture = on_loopback(&["http://127.0.0.1:1"]);
    let sent = fixture
        .send(vec![token(&["http://127.0.0.1:1"])], get("http://127.0.0.1:1"))
        .await;
    assert!(matches!(sent.unwrap_err(), Error::ConnectionRefused));
    let accesses = fixture.accesses();
    assert!(
        accesses.len() == 1 && accesses[0].2.as_deref().is_some_and(|text| text.contains("given up")),
        "{accesses:?}"
    );
}

#[tokio::test]
async fn several_secrets_travel_in_headers_of_their_own_and_all_are_masked() {
    let listener = Listener::plain(|head| {
        let body = head.replace("\r\n", "|");
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into()
    })
    .await;
    let origin = listener.origin("http", "127.0.0.1");
    let mut fixture = on_loopback(&[&origin]);
    let both = vec![token(&[&origin]), scope("key", &[&origin], "x-key", None)];
    let (.., body) = fixture.send(both, get(&origin)).await.unwrap();
    let seen = listener.seen();
    assert!(
        seen.contains(VALUE) && seen.contains("x-key: another value here"),
        "{seen}"
    );
    let body = String::from_utf8_lossy(&body);
    assert!(!body.contains("s3cr3t") && !body.contains("another"), "{body}");
    let names: Vec<String> = fixture.accesses().into_iter().map(|one| one.0).collect();
    assert_eq!(names, ["token", "key"]);
    let mut marks = Marks::default();
    for (index, name) in ["token", "key", "third", "fourth"].into_iter().enumerate() {
        marks
            .attach(1, scope(name, &[&origin], &format!("x-{index}"), None))
            .unwrap();
    }
    assert!(
        marks
            .attach(1, scope("fifth", &[&origin], "x-5", None))
            .unwrap_err()
            .contains("at most 4")
    );
    assert!(marks.attach(2, scope("fifth", &[&origin], "x-5", None)).is_ok());
}

#[test]
fn what_bounds_a_secret_on_its_way_is_documented_with_its_value() {
    let document = include_str!("../../../../../../docs/defaults.md");
    for (name, value) in [
        ("SECRET_INJECTED_BYTES_MIN", SECRET_INJECTED_BYTES_MIN),
        ("SECRET_INJECTED_BYTES_MAX", SECRET_INJECTED_BYTES_MAX),
        ("SECRETS_PER_REQUEST_MAX", SECRETS_PER_REQUEST_MAX),
    ] {
        let line = format!("\n| `{name}` | {value} | ");
        assert!(
            document.contains(&line),
            "docs/defaults.md has no line for `{name}` with {value}"
        );
    }
}
