//! Requests through the hooks of a call, against listeners and a name server on this machine.

pub(in crate::egress) mod servers;

use std::sync::Arc;
use std::time::Duration;

use aral_contract::host_pattern::Host;
use aral_contract::limits::HTTP_FIELD_BYTES_MAX;
use aral_contract::trace::TraceState;
use aral_contract::{Grant, GrantParts, Limits, Permission, TraceContext};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use rustls::HandshakeKind;
use serde_json::{Value, json};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::connect::TRIES_MAX;
use super::hooks::Hooks;
use super::resolve::{ResolveError, Resolver};
use super::{Egress, EgressOptions, share};
use crate::bound::{Services, Ungranted};
use crate::testing::{self, Trial};
use servers::{Listener, NameServer};

const LOOPBACK: &[&str] = &["127.0.0.0/8"];
/// What ends by itself ends before this, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(30);

fn limits() -> Limits {
    Limits {
        http_ms: 3_000,
        ..Limits::default()
    }
}

fn trial(permissions: Value, limits: Limits, networks: &[&str], options: EgressOptions) -> Trial {
    let egress = Arc::new(Egress::new(options).unwrap());
    Trial::lending(
        testing::grant(permissions, limits, networks),
        Ungranted::Refuse,
        |least| Services { egress, ..least },
    )
}

fn read(host: &str) -> Value {
    json!({ "network:read": { "hosts": [host] } })
}

fn empty() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn request(method: Method, uri: &str) -> Request<WasiBody> {
    Request::builder().method(method).uri(uri).body(empty()).unwrap()
}

async fn send_with(
    trial: &Trial,
    request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<(StatusCode, Bytes), Error> {
    let mut hooks = Hooks::new(Arc::clone(&trial.call));
    let sent = Box::into_pin(hooks.send_request(request, options, Box::new(async { Ok(()) })));
    let (response, driver) = sent.await?;
    let driver = tokio::spawn(Box::into_pin(driver));
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok((parts.status, body))
}

async fn get(trial: &Trial, uri: &str) -> Result<(StatusCode, Bytes), Error> {
    send_with(trial, request(Method::GET, uri), None).await
}

#[tokio::test]
async fn a_granted_request_arrives_with_our_host_and_nothing_of_a_proxy() {
    let listener = Listener::plain(|_| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".into()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let trial = trial(read(&origin), limits(), LOOPBACK, EgressOptions::default());
    let mut request = request(Method::GET, &format!("{origin}/a?b=c"));
    for (name, value) in [
        ("host", "evil.example"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x_forwarded_for", "1.2.3.4"),
        ("true-client-ip", "1.2.3.4"),
        ("client-ip", "1.2.3.4"),
        ("proxy-authorization", "x"),
        ("accept", "*/*"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (status, body) = send_with(&trial, request, None).await.unwrap();
    assert_eq!((status, body.as_ref()), (StatusCode::OK, b"hi".as_slice()));
    let seen = listener.seen();
    let expected = format!("host: 127.0.0.1:{}\r\n", listener.port());
    assert!(
        seen.starts_with("GET /a?b=c HTTP/1.1\r\n") && seen.contains(&expected),
        "{seen}"
    );
    assert!(
        !seen.contains("evil") && !seen.contains("1.2.3.4") && !seen.contains("proxy") && seen.contains("accept: */*"),
        "{seen}"
    );
    assert_eq!(trial.kept.host_calls(), [(Permission::NetworkRead, origin, None)]);
    assert_eq!(trial.call.http_requests(), 1);
}

#[tokio::test]
async fn the_host_says_to_which_trace_a_request_belongs_and_the_guest_cannot() {
    let listener = Listener::plain(|_| "HTTP/1.1 204 No Content\r\n\r\n".into()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let pattern = |text: &str| text.parse().unwrap();
    let mut spans = std::collections::HashSet::new();
    for (hosts, parent, state) in [
        (None, true, false),
        (Some(vec![pattern(&origin)]), true, true),
        (Some(vec![pattern("https://elsewhere.example")]), false, false),
        (Some(Vec::new()), false, false),
    ] {
        let mut trial = trial(read(&origin), limits(), LOOPBACK, EgressOptions::default());
        let record = Arc::get_mut(&mut trial.call).unwrap();
        record.context.state = TraceState::parse(&["vendor=1"]);
        record.context.sampled = true;
        let frame = Arc::get_mut(&mut record.frame).unwrap();
        Arc::make_mut(&mut frame.services).trace_hosts = hosts;
        let mut request = request(Method::GET, &origin);
        for (name, value) in [
            ("traceparent", "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-00"),
            ("tracestate", "forged=1"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        send_with(&trial, request, None).await.unwrap();
        let seen = listener.seen();
        let field = |name: &str| seen.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        assert!(!seen.contains("forged") && !seen.contains("ffff"), "{seen}");
        assert_eq!(field("tracestate: "), state.then(|| "vendor=1".to_owned()), "{seen}");
        let sent = field("traceparent: ");
        assert_eq!(sent.is_some(), parent, "{seen}");
        if let Some(sent) = sent {
            let context = TraceContext::parse(&sent, &[]).unwrap();
            assert_eq!(context.trace, trial.call.context.trace);
            assert!(context.sampled);
            assert!(
                spans.insert(context.parent.unwrap()),
                "each request has a name of its own"
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_granted_never_connects_and_says_which_line_is_missing() {
    let listener = Listener::plain(|_| unreachable!()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let other = format!("http://127.0.0.1:{}", listener.port().wrapping_sub(1));
    for (permissions, method) in [
        (json!({}), Method::GET),
        (read(&other), Method::GET),
        (read(&origin.replace("http:", "https:")), Method::GET),
        (read(&origin), Method::POST),
        (read("*"), Method::CONNECT),
        (
            json!({ "network:read": { "hosts": ["*"] }, "network:write": { "hosts": ["*"] } }),
            Method::TRACE,
        ),
    ] {
        let trial = trial(permissions.clone(), limits(), LOOPBACK, EgressOptions::default());
        let error = send_with(&trial, request(method.clone(), &origin), None)
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::HttpRequestDenied),
            "{method} {permissions}: {error}"
        );
        let (target, reason) = trial.kept.denial();
        assert_eq!(target, origin);
        assert!(
            reason.contains(&format!("hosts = [\"{origin}\"]")) || reason.contains("never sent"),
            "{reason}"
        );
        assert_eq!(trial.call.http_requests(), 0);
    }
    assert_eq!(listener.accepted(), 0);
}

#[tokio::test]
async fn a_password_in_an_address_is_not_recorded() {
    let trial = trial(read("*"), limits(), LOOPBACK, EgressOptions::default());
    let error = get(&trial, "https://user:hunter2@api.example/x").await.unwrap_err();
    assert!(matches!(error, Error::HttpRequestDenied), "{error}");
    let (target, reason) = trial.kept.denial();
    assert_eq!(target, "https://…@api.example");
    assert!(
        reason.contains("user information") && !reason.contains("hunter2"),
        "{reason}"
    );
}

#[tokio::test]
async fn an_address_that_is_not_public_needs_the_word_of_the_policy() {
    let listener = Listener::plain(|_| "HTTP/1.1 204 No Content\r\n\r\n".into()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let closed = trial(read(&origin), limits(), &[], EgressOptions::default());
    let error = get(&closed, &origin).await.unwrap_err();
    assert!(matches!(error, Error::DestinationIpProhibited), "{error}");
    assert!(
        closed.kept.denial().1.contains("networks = [\"127.0.0.1/32\"]"),
        "{:?}",
        closed.kept.denial()
    );
    assert_eq!(listener.accepted(), 0);
    let open = trial(read(&origin), limits(), &["127.0.0.1/32"], EgressOptions::default());
    assert_eq!(get(&open, &origin).await.unwrap().0, StatusCode::NO_CONTENT);
    assert_eq!(listener.accepted(), 1);
}

#[tokio::test]
async fn a_name_is_resolved_by_the_host_and_one_forbidden_answer_refuses_it() {
    let listener = Listener::plain(|_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let names = NameServer::start(&[
        ("good.test", &["127.0.0.1"]),
        ("loopback.test", &["127.0.0.2"]),
        ("private.test", &["10.0.0.1"]),
        ("linklocal.test", &["169.254.169.254"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
        ("nat64.test", &["64:ff9b::7f00:1"]),
        ("mixed.test", &["127.0.0.1", "10.0.0.1"]),
        ("v6.test", &["::1"]),
    ])
    .await;
    let options = EgressOptions {
        nameservers: vec![names.address()],
        ..EgressOptions::default()
    };
    let trial = trial(read("*"), limits(), &["127.0.0.1/32"], options);
    let uri = |name: &str| listener.origin("http", name);
    assert_eq!(get(&trial, &uri("good.test")).await.unwrap().0, StatusCode::OK);
    assert!(
        listener
            .seen()
            .contains(&format!("host: good.test:{}\r\n", listener.port()))
    );
    for name in [
        "loopback.test",
        "private.test",
        "linklocal.test",
        "mapped.test",
        "nat64.test",
        "mixed.test",
        "v6.test",
    ] {
        let error = get(&trial, &uri(name)).await.unwrap_err();
        assert!(matches!(error, Error::DestinationIpProhibited), "{name}: {error}");
    }
    let error = get(&trial, &uri("missing.test")).await.unwrap_err();
    assert!(
        matches!(&error, Error::DnsError { rcode: Some(code), .. } if code == "NXDOMAIN"),
        "{error}"
    );
    assert_eq!(listener.accepted(), 1);
}

#[tokio::test]
async fn addresses_are_kept_for_a_while_and_not_those_of_a_name_that_has_too_many() {
    // As many in one answer as fit into a datagram.
    let v4 = |count: usize| (1..=count).map(|last| format!("127.0.0.{last}"));
    let v6 = || (1..=16).map(|last| format!("2606:4700::{last}"));
    let (few, many): (Vec<_>, Vec<_>) = (v4(16).chain(v6()).collect(), v4(17).chain(v6()).collect());
    let few: Vec<&str> = few.iter().map(String::as_str).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let names = NameServer::start(&[("few.test", few.as_slice()), ("many.test", many.as_slice())]).await;
    let resolver = Resolver::new(vec![names.address()]);
    let networks: [ipnet::IpNet; 1] = ["127.0.0.0/8".parse().unwrap()];
    let name = |name: &str| Host::Name(name.to_owned());
    for _ in 0..3 {
        let found = resolver.resolve(&name("few.test"), &networks).await.unwrap();
        assert_eq!(found.len(), 32);
        let refused = resolver.resolve(&name("many.test"), &networks).await.unwrap_err();
        assert!(matches!(refused, ResolveError::TooMany), "{refused}");
    }
    assert_eq!((names.asked("few.test"), names.asked("many.test")), (1, 3));
    // What is kept is checked like what is fresh.
    let refused = resolver.resolve(&name("few.test"), &[]).await.unwrap_err();
    assert!(matches!(refused, ResolveError::Forbidden(_)), "{refused}");
    assert_eq!(names.asked("few.test"), 1);
}

#[tokio::test]
async fn a_name_is_reached_over_one_family_where_no_address_of_the_other_answers() {
    let listener = Listener::plain(|_| "HTTP/1.1 204 No Content\r\n\r\n".into()).await;
    // Packets for these are thrown away, wherever there is a way for them at all.
    let silent: Vec<String> = (1..=8).map(|last| format!("100::{last}")).collect();
    let with = |count: usize| {
        let silent = silent.iter().take(count).map(String::as_str);
        silent.chain(["127.0.0.1"]).collect::<Vec<_>>()
    };
    let (four, eight) = (with(4), with(8));
    let names = NameServer::start(&[("four.test", four.as_slice()), ("eight.test", eight.as_slice())]).await;
    let options = EgressOptions {
        nameservers: vec![names.address()],
        ..EgressOptions::default()
    };
    let trial = trial(read("*"), limits(), &["127.0.0.0/8", "100::/64"], options);
    for name in ["four.test", "eight.test"] {
        let (status, _) = get(&trial, &listener.origin("http", name)).await.unwrap();
        assert_eq!(status, StatusCode::NO_CONTENT, "{name}");
    }
}

#[tokio::test]
async fn so_many_addresses_of_a_name_are_tried_and_no_more() {
    let listener = Listener::plain(|_| "HTTP/1.1 204 No Content\r\n\r\n".into()).await;
    // Nobody listens on any other address of this machine under that port.
    let refusing: Vec<String> = (1..=TRIES_MAX).map(|last| format!("127.0.1.{last}")).collect();
    let behind = |count: usize| {
        let refusing = refusing.iter().take(count).map(String::as_str);
        refusing.chain(["127.0.0.1"]).collect::<Vec<_>>()
    };
    let (tried, untried) = (behind(TRIES_MAX - 1), behind(TRIES_MAX));
    let names = NameServer::start(&[("tried.test", tried.as_slice()), ("untried.test", untried.as_slice())]).await;
    let options = EgressOptions {
        nameservers: vec![names.address()],
        ..EgressOptions::default()
    };
    let trial = trial(read("*"), limits(), LOOPBACK, options);
    assert!(get(&trial, &listener.origin("http", "tried.test")).await.is_ok());
    let error = get(&trial, &listener.origin("http", "untried.test")).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionRefused), "{error}");
    assert_eq!(listener.accepted(), 1);
}

#[tokio::test]
async fn what_waits_in_a_body_that_is_never_sent_is_no_more_than_fields_may_be() {
    let trial = trial(json!({}), limits(), &[], EgressOptions::default());
    let mut hooks = Hooks::new(Arc::clone(&trial.call));
    let chunks = hooks.p2_outgoing_body_buffer_chunks() + 1;
    assert!(chunks * hooks.p2_outgoing_body_chunk_size() <= HTTP_FIELD_BYTES_MAX);
}

#[tokio::test]
async fn requests_of_one_call_are_counted() {
    let listener = Listener::plain(|_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let trial = trial(
        read(&origin),
        Limits {
            http_requests: 2,
            ..limits()
        },
        LOOPBACK,
        EgressOptions::default(),
    );
    assert!(get(&trial, &origin).await.is_ok() && get(&trial, &origin).await.is_ok());
    assert!(matches!(
        get(&trial, &origin).await.unwrap_err(),
        Error::ConnectionLimitReached
    ));
    assert!(trial.kept.denial().1.contains("http_requests"));
    assert_eq!((listener.accepted(), trial.call.http_requests()), (2, 2));
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let inner = Listener::plain(|_| unreachable!()).await;
    let target = inner.origin("http", "127.0.0.1");
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
    let listener = Listener::plain(move |_| answer.clone().into()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let trial = trial(read("*"), limits(), LOOPBACK, EgressOptions::default());
    assert_eq!(get(&trial, &origin).await.unwrap().0, StatusCode::FOUND);
    assert_eq!(inner.accepted(), 0);
}

#[tokio::test]
async fn a_response_over_the_limit_ends_the_exchange_with_and_without_a_length() {
    for head in ["content-length: 2000\r\n", ""] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n{}", "x".repeat(2000));
        let listener = Listener::plain(move |_| answer.clone().into()).await;
        let origin = listener.origin("http", "127.0.0.1");
        let small = trial(
            read(&origin),
            Limits {
                http_response_bytes: 1999,
                ..limits()
            },
            LOOPBACK,
            EgressOptions::default(),
        );
        let error = get(&small, &origin).await.unwrap_err();
        assert!(matches!(error, Error::HttpResponseBodySize(Some(1999))), "{error}");
        let enough = trial(
            read(&origin),
            Limits {
                http_response_bytes: 2000,
                ..limits()
            },
            LOOPBACK,
            EgressOptions::default(),
        );
        assert_eq!(get(&enough, &origin).await.unwrap().1.len(), 2000);
    }
}

#[tokio::test]
async fn a_head_over_the_limit_ends_the_exchange() {
    let answer = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(100_000));
    let listener = Listener::plain(move |_| answer.clone().into()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let trial = trial(read(&origin), limits(), LOOPBACK, EgressOptions::default());
    let error = get(&trial, &origin).await.unwrap_err();
    assert!(matches!(error, Error::HttpResponseHeaderSectionSize(_)), "{error}");
}

#[tokio::test]
async fn a_request_body_over_the_limit_ends_the_exchange() {
    let listener = Listener::plain(|_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let write = json!({ "network:write": { "hosts": [origin] } });
    let limits = Limits {
        http_request_bytes: 10,
        ..limits()
    };
    let post = |bytes: &'static [u8]| {
        let body: WasiBody = Full::new(Bytes::from_static(bytes))
            .map_err(|never| match never {})
            .boxed_unsync();
        Request::builder().method(Method::POST).uri(&origin).body(body).unwrap()
    };
    let trial = trial(write, limits, LOOPBACK, EgressOptions::default());
    assert_eq!(
        send_with(&trial, post(b"0123456789"), None).await.unwrap().0,
        StatusCode::OK
    );
    let error = send_with(&trial, post(b"0123456789x"), None).await.unwrap_err();
    assert!(matches!(error, Error::HttpRequestBodySize(Some(10))), "{error}");
}

#[tokio::test]
async fn a_server_that_drips_is_cut_off_at_the_deadline() {
    let whole = Limits {
        http_ms: 500,
        ..limits()
    };
    for (answer, expect_head) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nx-slow: ", false),
    ] {
        let listener = Listener::dripping(answer).await;
        let origin = listener.origin("http", "127.0.0.1");
        let trial = trial(read(&origin), whole.clone(), LOOPBACK, EgressOptions::default());
        let started = tokio::time::Instant::now();
        let ended = tokio::time::timeout(SOON, get(&trial, &origin)).await;
        let elapsed = started.elapsed();
        let error = ended.expect("it drips for ever").unwrap_err();
        assert!(
            matches!(error, Error::HttpResponseTimeout | Error::ConnectionReadTimeout),
            "{error} {expect_head}"
        );
        assert!(elapsed >= Duration::from_millis(400), "{elapsed:?}");
    }
}

#[tokio::test]
async fn a_guest_may_ask_for_less_time_and_not_for_more() {
    let listener = Listener::dripping("").await;
    let origin = listener.origin("http", "127.0.0.1");
    let options = |wait: u64| {
        Some(RequestOptions {
            first_byte_timeout: Some(Duration::from_millis(wait)),
            ..RequestOptions::default()
        })
    };
    // One of the two is over soon, and the other is not.
    for (http_ms, asked) in [(600_000, 200), (300, 600_000)] {
        let trial = trial(
            read(&origin),
            Limits { http_ms, ..limits() },
            LOOPBACK,
            EgressOptions::default(),
        );
        let sent = send_with(&trial, request(Method::GET, &origin), options(asked));
        let ended = tokio::time::timeout(SOON, sent).await;
        let error = ended.expect("it is waited for").unwrap_err();
        assert!(matches!(error, Error::ConnectionReadTimeout), "{error}");
    }
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_too() {
    let listener = Listener::plain(|_| unreachable!()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let write = json!({ "network:write": { "hosts": [origin] } });
    let trial = trial(
        write,
        Limits {
            http_ms: 300,
            ..limits()
        },
        LOOPBACK,
        EgressOptions::default(),
    );
    let body: WasiBody = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Error>>()).boxed_unsync();
    let request = Request::builder()
        .method(Method::POST)
        .uri(&origin)
        .header(header::CONTENT_LENGTH, 5)
        .body(body)
        .unwrap();
    let error = send_with(&trial, request, None).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionReadTimeout), "{error}");
}

#[tokio::test]
async fn connections_of_all_calls_together_are_bounded() {
    let listener = Listener::dripping("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
    let origin = listener.origin("http", "127.0.0.1");
    let options = EgressOptions {
        connections_max: 1,
        ..EgressOptions::default()
    };
    let trial = trial(
        read(&origin),
        Limits {
            http_ms: 600,
            ..limits()
        },
        LOOPBACK,
        options,
    );
    let (first, second) = tokio::join!(get(&trial, &origin), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let options = RequestOptions {
            connect_timeout: Some(Duration::from_millis(200)),
            ..RequestOptions::default()
        };
        send_with(&trial, request(Method::GET, &origin), Some(options)).await
    });
    assert!(matches!(first.unwrap_err(), Error::HttpResponseTimeout));
    assert!(matches!(second.unwrap_err(), Error::ConnectionLimitReached));
    assert_eq!(listener.accepted(), 1);
}

#[tokio::test]
async fn the_guests_of_one_persona_leave_connections_to_those_of_others() {
    let silent = Listener::dripping("").await;
    let listener = Listener::plain(|_| "HTTP/1.1 204 No Content\r\n\r\n".into()).await;
    let (silence, origin) = (silent.origin("http", "127.0.0.1"), listener.origin("http", "127.0.0.1"));
    let options = EgressOptions {
        connections_max: 8,
        ..EgressOptions::default()
    };
    let greedy = trial(read("*"), limits(), LOOPBACK, options);
    let mut other = trial(read("*"), limits(), LOOPBACK, EgressOptions::default());
    let record = Arc::get_mut(&mut other.call).unwrap();
    let frame = Arc::get_mut(&mut record.frame).unwrap();
    Arc::make_mut(&mut frame.services).egress = Arc::clone(&greedy.call.frame.services.egress);
    frame.grant = Arc::new(Grant::new(GrantParts {
        persona: "other".parse().unwrap(),
        ..testing::grant_parts(read("*"), limits(), LOOPBACK)
    }));
    let all = futures::future::join_all((0..8).map(|_| get(&greedy, &silence)));
    // The greedy ones come first in each turn: without a share of their own they have every place at once.
    tokio::select! {
        biased;
        _ended = all => panic!("a server that says nothing was heard"),
        answered = get(&other, &origin) => assert_eq!(answered.unwrap().0, StatusCode::NO_CONTENT),
    }
    assert!(silent.accepted() <= 2, "{}", silent.accepted());
    assert_eq!(get(&greedy, &origin).await.unwrap().0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_answer_that_nobody_reads_holds_no_connection_once_that_has_ended() {
    let listener = Listener::plain(|_| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".into()).await;
    let origin = listener.origin("http", "127.0.0.1");
    let options = EgressOptions {
        connections_max: 1,
        ..EgressOptions::default()
    };
    let trial = trial(read(&origin), limits(), LOOPBACK, options);
    let mut hooks = Hooks::new(Arc::clone(&trial.call));
    let first = request(Method::GET, &origin);
    let sent = Box::into_pin(hooks.send_request(first, None, Box::new(async { Ok(()) })));
    let (_unread, driver) = sent.await.unwrap();
    let _ended = Box::into_pin(driver).await;
    let (status, _) = get(&trial, &origin).await.unwrap();
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn servers_that_fail_write_no_warnings_into_the_log_of_the_host() {
    let listener = Listener::dripping("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
    let origin = listener.origin("http", "127.0.0.1");
    let limits = Limits {
        http_ms: 1_000,
        ..limits()
    };
    let trial = trial(read(&origin), limits, LOOPBACK, EgressOptions::default());
    let warnings = testing::Warnings::default();
    let _listening = tracing::subscriber::set_default(warnings.clone());
    let mut hooks = Hooks::new(Arc::clone(&trial.call));
    let first = request(Method::GET, &origin);
    let sent = Box::into_pin(hooks.send_request(first, None, Box::new(async { Ok(()) })));
    let (_unread, driver) = sent.await.unwrap();
    // The library writes a warning of an error.
    assert!(Box::into_pin(driver).await.is_ok());
    let failed = || std::io::Error::other("unreachable");
    let code = hooks.p2_error_from_connect(&failed());
    assert!(matches!(code, ErrorCode::ConnectionRefused), "{code:?}");
    let code = hooks.p2_error_from_tls(&failed());
    assert!(matches!(code, ErrorCode::TlsProtocolError), "{code:?}");
    assert_eq!(warnings.count(), 0);
}

#[tokio::test]
async fn tls_is_verified_against_the_name_of_the_url() {
    let (listener, authority) = Listener::tls("good.test", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let names = NameServer::start(&[("good.test", &["127.0.0.1"]), ("other.test", &["127.0.0.1"])]).await;
    let options = |roots: Option<&str>| EgressOptions {
        nameservers: vec![names.address()],
        extra_roots_pem: roots.map(|pem| pem.as_bytes().to_vec()),
        ..EgressOptions::default()
    };
    let trusting = trial(read("*"), limits(), LOOPBACK, options(Some(&authority)));
    let (status, body) = get(&trusting, &listener.origin("https", "good.test")).await.unwrap();
    assert_eq!((status, body.as_ref()), (StatusCode::OK, b"ok".as_slice()));
    let error = get(&trusting, &listener.origin("https", "other.test"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TlsCertificateError), "{error}");
    let stranger = trial(read("*"), limits(), LOOPBACK, options(None));
    let error = get(&stranger, &listener.origin("https", "good.test"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TlsCertificateError), "{error}");
    assert!(Egress::new(options(Some("no certificate"))).is_err());
}

#[tokio::test]
async fn no_tls_session_is_taken_up_again() {
    let (listener, authority) = Listener::tls("good.test", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let names = NameServer::start(&[("good.test", &["127.0.0.1"])]).await;
    let options = EgressOptions {
        nameservers: vec![names.address()],
        extra_roots_pem: Some(authority.into_bytes()),
        ..EgressOptions::default()
    };
    let trial = trial(read("*"), limits(), LOOPBACK, options);
    for _ in 0..2 {
        get(&trial, &listener.origin("https", "good.test")).await.unwrap();
    }
    assert_eq!(listener.handshakes(), [HandshakeKind::Full; 2]);
}

#[test]
fn a_persona_has_a_quarter_and_at_least_two() {
    for (connections_max, of_one) in [(1, 2), (4, 2), (8, 2), (12, 3), (256, 64)] {
        assert_eq!(share(connections_max), of_one, "of {connections_max}");
    }
}
