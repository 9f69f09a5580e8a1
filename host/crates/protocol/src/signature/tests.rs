//! What RFC 9421 and RFC 9530 print, and every change to a good request, each with the reason for which it is refused.

use std::sync::{Arc, Mutex};

use aral_contract::Clock;
use aral_contract::document::PrivateKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;

const VECTORS: &str = include_str!("../../../../../tests/vectors/message_signatures.json");
const NOW: i64 = 1_800_000_000;
const BODY: &str = r#"{"hello": "world"}"#;
const DIGEST: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";

fn key(seed: u8) -> PrivateKey {
    let pem = |seed: u8| {
        let mut der = vec![
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
        ];
        der.extend([seed; 32]);
        let text = STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    };
    PrivateKey::from_pem(&pem(seed)).unwrap()
}

/// A clock that the test sets: the time of day, and what passed.
#[derive(Debug)]
pub(super) struct Hand(Mutex<(Timestamp, Duration)>);

impl Hand {
    /// Nothing has passed.
    pub(super) fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self(Mutex::new((now, Duration::ZERO))))
    }

    pub(super) fn set(&self, now: i64, passed: u64) {
        *self.0.lock().unwrap() = (Timestamp::from_second(now).unwrap(), Duration::from_secs(passed));
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

/// A request that can be changed before and after it is signed.
#[derive(Clone)]
struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn message(&self) -> Message<'_> {
        Message {
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
        }
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(name, value.parse().unwrap());
    }

    fn add(&mut self, name: &'static str, value: &str) {
        self.headers.append(name, value.parse().unwrap());
    }
}

fn request() -> Request {
    let mut request = Request {
        method: Method::POST,
        uri: "/v1/invoke/echo?version=1".parse().unwrap(),
        headers: HeaderMap::new(),
        body: BODY.into(),
    };
    request.set("host", "Aral.example");
    request.set("content-type", "application/json");
    request.set("content-digest", DIGEST);
    request.set("authorization", "Bearer aral_1");
    request.set("idempotency-key", "order-1");
    request.set("mcp-session-id", "session-1");
    request.set("last-event-id", "7");
    request
}

const COMPONENTS: &str = concat!(
    r#""@method" "@authority" "@path" "@query" "content-digest" "authorization" "idempotency-key" "#,
    r#""mcp-session-id" "last-event-id""#
);

fn parameters() -> String {
    let id = key(1).public().id();
    format!(
        r#";created={NOW};expires={};nonce="n1";keyid="{id}";alg="ed25519""#,
        NOW + 60
    )
}

/// Signs as it stands, without asking whether anybody should.
fn sign_with(request: &mut Request, signer: &PrivateKey, components: &str, parameters: &str) {
    let input = format!("({components}){parameters}");
    request.set("signature-input", &format!("sig={input}"));
    request.set("signature", &format!("sig=:{}:", STANDARD.encode([0; 64])));
    let signature = match Input::of(&request.headers).and_then(|input| base::base(request.message(), &input.covered)) {
        Ok(base) => signer.sign(base.as_bytes()),
        Err(_) => [0; 64],
    };
    request.set("signature", &format!("sig=:{}:", STANDARD.encode(signature)));
}

fn signed() -> Request {
    let mut request = request();
    sign_with(&mut request, &key(1), COMPONENTS, &parameters());
    request
}

fn check_at(request: &Request, nonces: &Nonces, now: i64) -> Result<(), &'static str> {
    let rule = SignatureRule {
        required: true,
        keys: vec![key(9).public(), key(1).public()],
    };
    let times = Times {
        now: Timestamp::from_second(now).unwrap(),
        // Begun seconds are whole ones: 300 and 30.
        age_max: Duration::from_millis(299_001),
        skew: Duration::from_millis(29_001),
    };
    let used_up = check(request.message(), &rule, times).and_then(|signed| {
        signed.use_up(&"me".parse().unwrap(), nonces)?;
        Ok(signed)
    });
    used_up
        .and_then(|signed| signed.check_body(&request.headers, &request.body))
        .map_err(Doubt::reason)
}

/// Remembers since long ago.
fn remembering(entries_max: usize) -> Nonces {
    Nonces::new(entries_max, Hand::at(Timestamp::UNIX_EPOCH))
}

fn check_now(request: &Request) -> Result<(), &'static str> {
    check_at(request, &remembering(10), NOW)
}

#[test]
fn what_the_rfcs_print_is_what_is_computed() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let public = PublicKey::from_pem(vectors["public_key"].as_str().unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for vector in vectors["signatures"].as_array().unwrap() {
        let source = &vector["source"];
        let mut request = Request {
            method: text(&vector["method"]).parse().unwrap(),
            uri: text(&vector["target"]).parse().unwrap(),
            headers: HeaderMap::new(),
            body: text(&vector["body"]).into_bytes(),
        };
        for field in vector["fields"].as_array().unwrap() {
            let name: HeaderName = text(&field[0]).parse().unwrap();
            request.headers.append(name, text(&field[1]).parse().unwrap());
        }
        // It has no nonce: this host would not take it, but must compute the same.
        let input = format!("sig={}", text(&vector["input"]));
        request.headers.insert(SIGNATURE_INPUT, input.parse().unwrap());
        let parsed = fields::dictionary(&request.headers, &SIGNATURE_INPUT).unwrap();
        let Some(sfv::ListEntry::InnerList(covered)) = parsed.into_values().next() else {
            panic!("{source}")
        };
        let base = base::base(request.message(), &covered).unwrap();
        let lines: Vec<&str> = vector["base"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap())
            .collect();
        assert_eq!(base, lines.join("\n"), "{source}");
        let signature = STANDARD.decode(text(&vector["signature"])).unwrap().try_into().unwrap();
        assert!(public.verify(base.as_bytes(), &signature), "{source}");
        assert!(
            !public.verify(base.replace("/", "//").as_bytes(), &signature),
            "{source}"
        );
    }
    for vector in vectors["digests"].as_array().unwrap() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_DIGEST, text(&vector["field"]).parse().unwrap());
        let valid = digest::check(&headers, text(&vector["body"]).as_bytes()).is_ok();
        assert_eq!(valid, vector["valid"].as_bool().unwrap(), "{}", vector["source"]);
    }
}

#[test]
fn a_request_that_is_signed_is_taken_once() {
    let nonces = remembering(2);
    assert_eq!(check_at(&signed(), &nonces, NOW), Ok(()));
    assert_eq!(
        check_at(&signed(), &nonces, NOW),
        Err("a signature that was used before")
    );
    let with_nonce = |nonce: &str| {
        let mut request = request();
        let parameters = parameters().replace("n1", nonce);
        sign_with(&mut request, &key(1), COMPONENTS, &parameters);
        request
    };
    assert_eq!(check_at(&with_nonce("n2"), &nonces, NOW), Ok(()));
    let full = "a signature for which there is no room to remember it";
    assert_eq!(check_at(&with_nonce("n3"), &nonces, NOW), Err(full));
    // A wrong signature takes no room.
    let (mut wrong, nonces) = (with_nonce("n4"), remembering(1));
    wrong.uri = "/v1/invoke/other?version=1".parse().unwrap();
    assert_eq!(check_at(&wrong, &nonces, NOW), Err("a wrong signature"));
    assert_eq!(check_at(&with_nonce("n5"), &nonces, NOW), Ok(()));
}

#[test]
fn a_signature_is_used_up_whatever_becomes_of_the_body() {
    let nonces = remembering(10);
    let mut changed = signed();
    changed.body = b"{}".to_vec();
    assert_eq!(
        check_at(&changed, &nonces, NOW),
        Err("a body that is not the one of its digest")
    );
    assert_eq!(
        check_at(&signed(), &nonces, NOW),
        Err("a signature that was used before")
    );
}

#[test]
fn what_was_signed_before_the_server_began_may_have_been_used() {
    let at = |start: i64| {
        let nonces = Nonces::new(10, Hand::at(Timestamp::from_millisecond(start).unwrap()));
        check_at(&signed(), &nonces, NOW)
    };
    let before = Err("a signature from before the start of the server");
    assert_eq!(at((NOW - 1) * 1000 + 999), Ok(()));
    // Whether it was made before or after is not known: it says the second.
    assert_eq!(at(NOW * 1000), before);
    assert_eq!(at((NOW + 10) * 1000), before);
    // Nobody else is told that.
    let mut wrong = signed();
    wrong.method = Method::PUT;
    let nonces = Nonces::new(10, Hand::at(Timestamp::from_second(NOW).unwrap()));
    assert_eq!(check_at(&wrong, &nonces, NOW), Err("a wrong signature"));
}

#[test]
fn a_clock_that_was_ahead_at_the_start_and_was_set_back_keeps_nobody_out() {
    let before = Err("a signature from before the start of the server");
    for (started, now, passed, expected) in [
        // Two hours ahead, and as it was at the start.
        (NOW + 7200, NOW + 7201, 1, before),
        // Set right: the server has been there for one second, or for none.
        (NOW + 7200, NOW, 1, Ok(())),
        (NOW + 7200, NOW, 0, before),
        (NOW + 7200, NOW + 10, 10, before),
        (NOW + 7200, NOW + 10, 11, Ok(())),
        // It goes right.
        (NOW, NOW + 100, 100, before),
        (NOW - 1, NOW + 99, 100, Ok(())),
        // Set forward: it began no later for that.
        (NOW - 1, NOW + 100, 1, Ok(())),
        (NOW, NOW + 100, 1, before),
    ] {
        let clock = Hand::at(Timestamp::from_second(started).unwrap());
        let nonces = Nonces::new(10, Arc::clone(&clock) as Arc<dyn Clock>);
        clock.set(now, passed);
        let found = check_at(&signed(), &nonces, NOW);
        assert_eq!(found, expected, "{started} {now} {passed}");
    }
}

#[test]
fn the_host_is_compared_as_callers_write_it() {
    for host in ["aral.example", "ARAL.example", "aral.example:443", "aral.example:80"] {
        let mut request = signed();
        request.set("host", host);
        assert_eq!(check_now(&request), Ok(()), "{host}");
    }
    let mut request = signed();
    request.uri = "https://aral.example/v1/invoke/echo?version=1".parse().unwrap();
    assert_eq!(check_now(&request), Ok(()), "HTTP/2 has it in the address");
    for host in ["aral.example:8443", "other.example"] {
        let mut request = signed();
        request.set("host", host);
        assert_eq!(check_now(&request), Err("a wrong signature"), "{host}");
    }
}

/// What is changed, how, and why it is refused.
type Change = (&'static str, fn(&mut Request), &'static str);

#[test]
fn a_change_on_the_way_is_seen() {
    let changes: [Change; 23] = [
        (
            "body",
            |it| it.body = b"{}".to_vec(),
            "a body that is not the one of its digest",
        ),
        (
            "no body any more",
            |it| it.body.clear(),
            "a body that is not the one of its digest",
        ),
        (
            "body and digest",
            |it| {
                it.body = b"{\"hello\": \"world\"}\n".to_vec();
                it.set(
                    "content-digest",
                    "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
                );
            },
            "a wrong signature",
        ),
        (
            "path",
            |it| it.uri = "/v1/invoke/other?version=1".parse().unwrap(),
            "a wrong signature",
        ),
        (
            "path, encoded",
            |it| it.uri = "/v1/invoke/%65cho?version=1".parse().unwrap(),
            "a wrong signature",
        ),
        (
            "query",
            |it| it.uri = "/v1/invoke/echo?version=2".parse().unwrap(),
            "a wrong signature",
        ),
        (
            "no query",
            |it| it.uri = "/v1/invoke/echo".parse().unwrap(),
            "a wrong signature",
        ),
        ("method", |it| it.method = Method::PUT, "a wrong signature"),
        (
            "another credential",
            |it| it.set("authorization", "Bearer aral_2"),
            "a wrong signature",
        ),
        (
            "a second credential",
            |it| it.add("authorization", "Bearer aral_2"),
            "a wrong signature",
        ),
        (
            "no credential",
            |it| drop(it.headers.remove("authorization")),
            "a signature over a field that is not there",
        ),
        (
            "another key of the call",
            |it| it.set("idempotency-key", "order-2"),
            "a wrong signature",
        ),
        (
            "another session",
            |it| it.set("mcp-session-id", "session-2"),
            "a wrong signature",
        ),
        (
            "a later time",
            |it| {
                let input = it.headers["signature-input"]
                    .to_str()
                    .unwrap()
                    .replace("1800000000", "1800000001");
                it.set("signature-input", &input);
            },
            "a wrong signature",
        ),
        (
            "no signature",
            |it| drop(it.headers.remove("signature")),
            "a signature with a field missing",
        ),
        (
            "no input",
            |it| drop(it.headers.remove("signature-input")),
            "a signature with a field missing",
        ),
        (
            "two signatures",
            |it| {
                let (input, value) = (it.headers["signature-input"].clone(), it.headers["signature"].clone());
                let other = |value: &http::HeaderValue| value.to_str().unwrap().replacen("sig=", "two=", 1);
                it.add("signature-input", &other(&input));
                it.add("signature", &other(&value));
            },
            "two signatures",
        ),
        (
            "one label twice",
            |it| {
                let (input, value) = (it.headers["signature-input"].clone(), it.headers["signature"].clone());
                it.add("signature-input", input.to_str().unwrap());
                it.add("signature", value.to_str().unwrap());
            },
            "a signature with a field that is not in canonical form",
        ),
        (
            "another label",
            |it| {
                let value = it.headers["signature"].to_str().unwrap().replacen("sig=", "two=", 1);
                it.set("signature", &value);
            },
            "a signature without its input",
        ),
        (
            "other spaces",
            |it| {
                let input = it.headers["signature-input"]
                    .to_str()
                    .unwrap()
                    .replace(";nonce", "; nonce");
                it.set("signature-input", &input);
            },
            "a signature with a field that is not in canonical form",
        ),
        (
            "another encoding of the signature",
            |it| {
                let value = it.headers["signature"].to_str().unwrap().replace("==:", ":");
                it.set("signature", &value);
            },
            "a signature with a field that is not in canonical form",
        ),
        (
            "a shorter signature",
            |it| it.set("signature", "sig=:AAAA:"),
            "a signature of another length",
        ),
        (
            "rubbish",
            |it| it.set("signature", "sig=:"),
            "a signature with a field that is no dictionary",
        ),
    ];
    for (case, change, reason) in changes {
        let mut request = signed();
        change(&mut request);
        assert_eq!(check_now(&request), Err(reason), "{case}");
    }
}

#[test]
fn a_second_encoding_of_the_same_scalar_is_refused() {
    // The order of the group, little-endian: added to the scalar it gives what lax verifiers accept.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut request = signed();
    let mut bytes = Input::of(&request.headers).unwrap().signature;
    let mut carry = 0_u16;
    for (byte, add) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    request.set("signature", &format!("sig=:{}:", STANDARD.encode(bytes)));
    assert_eq!(check_now(&request), Err("a wrong signature"));
}

#[test]
fn what_is_signed_too_thinly_or_strangely_is_refused_although_the_signature_is_good() {
    let sign = |components: &str, parameters: &str| {
        let mut request = request();
        sign_with(&mut request, &key(1), components, parameters);
        check_now(&request)
    };
    assert_eq!(sign(COMPONENTS, &parameters()), Ok(()));
    for component in COMPONENTS.split(' ') {
        let fewer: Vec<&str> = COMPONENTS.split(' ').filter(|one| *one != component).collect();
        assert_eq!(
            sign(&fewer.join(" "), &parameters()),
            Err("a signature that covers too little"),
            "{component}"
        );
    }
    let more = |component: &str| sign(&format!("{COMPONENTS} {component}"), &parameters());
    assert_eq!(more("\"content-type\""), Ok(()));
    assert_eq!(more("\"@request-target\""), Ok(()));
    for (component, reason) in [
        ("\"@path\"", "a signature over one component twice"),
        (
            "\"@query-param\";name=\"a\"",
            "a signature over a component with parameters",
        ),
        ("\"content-type\";bs", "a signature over a component with parameters"),
        ("\"@method\";req", "a signature over a component with parameters"),
        ("\"@status\"", "a signature over a component that is not taken"),
        (
            "\"@signature-params\"",
            "a signature over a component that is not taken",
        ),
        ("\"x-none\"", "a signature over a field that is not there"),
        ("\"Content-Type\"", "a signature over something without a name"),
        ("\"a b\"", "a signature over something without a name"),
        ("token", "a signature over something without a name"),
        ("1", "a signature over something without a name"),
    ] {
        assert_eq!(more(component), Err(reason), "{component}");
    }
    let change = |from: &str, to: &str| {
        let changed = parameters().replace(from, to);
        assert_ne!(changed, parameters(), "{from}");
        sign(COMPONENTS, &changed)
    };
    let id = key(1).public().id();
    for (from, to, reason) in [
        (format!(";created={NOW}"), "", "a signature without `created`"),
        (";nonce=\"n1\"".to_owned(), "", "a signature without `nonce`"),
        (
            "n1".to_owned(),
            "",
            "a signature with a `nonce` that is too long or empty",
        ),
        (format!(";keyid=\"{id}\""), "", "a signature without `keyid`"),
        (id.to_string(), "0000000000000000", "a signature with an unknown key"),
        (
            "ed25519".to_owned(),
            "hmac-sha256",
            "a signature with another algorithm",
        ),
        (
            ";alg".to_owned(),
            ";algorithm",
            "a signature with a parameter that is not taken",
        ),
        (
            format!("created={NOW}"),
            "created=\"1\"",
            "a signature with a parameter that is not taken",
        ),
    ] {
        assert_eq!(change(&from, to), Err(reason), "{from}");
    }
    assert_eq!(
        change("n1", &"n".repeat(129)),
        Err("a signature with a `nonce` that is too long or empty")
    );
    assert_eq!(change("n1", &"n".repeat(128)), Ok(()));
    assert_eq!(change(";alg=\"ed25519\"", ""), Ok(()));
    assert_eq!(change(";alg", ";tag=\"app\";alg"), Ok(()));
    let many: Vec<String> = (0..40).map(|index| format!("\"x-{index}\"")).collect();
    assert_eq!(more(&many.join(" ")), Err("a signature that covers too much"));
}

#[test]
fn the_key_of_somebody_else_signs_nothing() {
    let mut request = request();
    sign_with(&mut request, &key(2), COMPONENTS, &parameters());
    assert_eq!(
        check_now(&request),
        Err("a wrong signature"),
        "it says that it is the other"
    );
    let own = parameters().replace(&key(1).public().id().to_string(), &key(2).public().id().to_string());
    sign_with(&mut request, &key(2), COMPONENTS, &own);
    assert_eq!(check_now(&request), Err("a signature with an unknown key"));
}

#[test]
fn a_signature_is_good_for_a_while() {
    let at = |created: i64, expires: Option<i64>| {
        let mut request = request();
        let expires = expires.map(|moment| format!(";expires={moment}")).unwrap_or_default();
        let parameters = format!(
            ";created={created}{expires};nonce=\"n\";keyid=\"{}\"",
            key(1).public().id()
        );
        sign_with(&mut request, &key(1), COMPONENTS, &parameters);
        check_now(&request)
    };
    let (expired, future) = (Err("a signature that has expired"), Err("a signature of the future"));
    assert_eq!(at(NOW - 300, None), Ok(()));
    assert_eq!(at(NOW - 301, None), expired);
    assert_eq!(at(NOW + 30, None), Ok(()));
    assert_eq!(at(NOW + 31, None), future);
    assert_eq!(at(NOW, Some(NOW)), Ok(()));
    assert_eq!(at(NOW - 10, Some(NOW - 1)), expired);
    // It may say less than the host allows, not more.
    assert_eq!(at(NOW - 301, Some(NOW + 1000)), expired);
}

#[test]
fn a_request_without_a_body_needs_no_digest() {
    let mut request = request();
    request.method = Method::GET;
    request.body.clear();
    request.headers.remove("content-digest");
    let components = COMPONENTS.replace(" \"content-digest\"", "");
    sign_with(&mut request, &key(1), &components, &parameters());
    assert_eq!(check_now(&request), Ok(()));
    request.body = BODY.into();
    assert_eq!(
        check_now(&request),
        Err("a signature that covers too little"),
        "a body was added"
    );
    // It may have one, of nothing.
    request.body.clear();
    request.set(
        "content-digest",
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
    );
    sign_with(&mut request, &key(1), COMPONENTS, &parameters());
    assert_eq!(check_now(&request), Ok(()));
}
