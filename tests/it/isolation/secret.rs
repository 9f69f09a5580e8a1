//! Guests that use and abuse secrets, against a real server over TLS that echoes what it can.

use aral_contract::event::SecretOperation;
use aral_contract::{Code, EventKind, Permission};
use serde_json::{Value, json};

use crate::support::dns::Dns;
use crate::support::guests::*;
use crate::support::http::Http;
use crate::support::lab::Lab;
use crate::support::outcome::Outcome;
use crate::support::setup::Setup;
use crate::support::tls::Authority;

const VALUE: &str = "T0ken/with+odd=signs&more";
/// The numbers that a guest gives its first handles.
const HANDLES: std::ops::Range<u64> = 0..12;

/// A server with TLS and one without, and a name server that leads to both.
struct Servers {
    tls: Http,
    plain: Http,
    dns: Dns,
    authority: Authority,
}

impl Servers {
    async fn start() -> Self {
        let authority = Authority::new();
        let names = ["api.example.test", "other.example.test"];
        let config = authority.server(&names);
        Self {
            tls: Http::start_on("127.0.0.1:0", Some(config)).await,
            plain: Http::start().await,
            dns: Dns::start(&names.map(|name| (name, &["127.0.0.1"][..]))).await,
            authority,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("https://api.example.test:{}{path}", self.tls.port())
    }

    fn other(&self, path: &str) -> String {
        format!("https://other.example.test:{}{path}", self.tls.port())
    }

    fn clear(&self, path: &str) -> String {
        format!("http://api.example.test:{}{path}", self.plain.port())
    }

    fn setup(&self) -> Setup {
        let hosts = [self.url(""), self.clear("")];
        Setup::of(ISOLATION_SECRET_REQUEST)
            .permissions(json!({
                "network:read": { "hosts": ["*"] },
                "network:write": { "hosts": ["*"] },
                "secret:read": { "secrets": [
                    { "name": "token", "hosts": hosts, "header": "authorization", "prefix": "Bearer " },
                    { "name": "key", "hosts": hosts, "header": "x-key" },
                    { "name": "short", "hosts": hosts, "header": "x-short" },
                    { "name": "absent", "hosts": hosts, "header": "x-absent" },
                ] },
                "secret:write": { "names": ["token"] },
            }))
            .networks(&["127.0.0.1/32"])
            .nameserver(self.dns.address)
            .authority(&self.authority.pem())
            .keeping(&[("token", VALUE), ("key", "the second value"), ("short", "eleven byte")])
            .configure(|config| config["policy"]["secret"]["plain_loopback"] = json!(true))
    }
}

fn carrying(url: &str) -> Value {
    json!({ "url": url, "secrets": ["token"] })
}

async fn send(lab: &Lab, requests: &[Value]) -> Outcome {
    let outcome = lab
        .call(ISOLATION_SECRET_REQUEST, json!({ "requests": requests }))
        .await;
    // Whatever happens, the value is neither in the guest's answer nor in anything that was recorded.
    let (answer, recorded) = (outcome.answer().to_string(), outcome.recorded());
    for text in [VALUE, "T0ken", "with+odd", "second value"] {
        assert!(!answer.contains(text), "{text}: {answer}");
        assert!(!recorded.contains(text), "{text}: {recorded}");
    }
    lab.neighbour_works().await;
    outcome
}

fn result(outcome: &Outcome, index: usize) -> &str {
    outcome.answer()[index]["result"].as_str().expect("a result")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(super) async fn isolation_secret_request() {
    let servers = Servers::start().await;
    let lab = Lab::start(servers.setup()).await;
    let both = json!({ "url": servers.url("/"), "secrets": ["token", "key", "token"] });
    let outcome = send(&lab, &[both]).await;
    let answer = &outcome.answer()[0];
    assert_eq!(
        (&answer["result"], &answer["attached"]),
        (&json!("ok"), &json!(["Ok(())", "Ok(())", "Ok(())"]))
    );
    assert_eq!(answer["headers"], json!([]), "a mark is nothing that a guest can see");
    let head = servers.tls.requests().pop().expect("a request");
    assert!(
        head.contains(&format!("\r\nauthorization: Bearer {VALUE}\r\n")),
        "{head}"
    );
    assert!(head.contains("\r\nx-key: the second value\r\n"), "{head}");
    let injected: Vec<String> = outcome
        .accesses()
        .into_iter()
        .map(|kind| match kind {
            EventKind::SecretAccess {
                secret,
                operation: SecretOperation::Inject,
                target: Some(target),
                refused: None,
                ..
            } => format!("{secret} {target}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        injected,
        [format!("token {}", servers.url("")), format!("key {}", servers.url(""))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_echoes_shows_the_guest_nothing() {
    let servers = Servers::start().await;
    let lab = Lab::start(servers.setup().limits(json!({ "http_requests": 64 }))).await;
    let spellings = [
        "plain",
        "hex",
        "upper-hex",
        "url",
        "url-all",
        "json",
        "base64",
        "base64-url",
        "base64-within",
        "chunks",
        "field",
    ];
    let requests: Vec<Value> = spellings
        .iter()
        .map(|how| carrying(&servers.url(&format!("/reflect/{how}"))))
        .collect();
    let outcome = send(&lab, &requests).await;
    for (index, how) in spellings.iter().enumerate() {
        let answer = &outcome.answer()[index];
        assert_eq!(answer["result"], "ok", "{how}: {answer}");
        let body = answer["response"]["body"].as_str().expect("a body");
        let clear = body.chars().filter(|one| one.is_ascii_alphanumeric()).count();
        // Around the value, base64 keeps digits of `user:` and `:end`; of the value itself nothing is left.
        let around = if *how == "base64-within" { 12 } else { 0 };
        assert!(body.contains("********") && clear <= around, "{how}: {body}");
    }
    let fields = outcome.answer()[10]["response"]["headers"].to_string();
    assert!(fields.contains(&"*".repeat(VALUE.len())), "{fields}");
    // It did go there each time.
    assert!(servers.tls.requests().iter().all(|head| head.contains(VALUE)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_and_partial_answers_are_neither_asked_for_nor_handed_out() {
    let servers = Servers::start().await;
    let lab = Lab::start(servers.setup()).await;
    let mut asking = carrying(&servers.url("/reflect/plain"));
    asking["headers"] = json!([
        ["accept-encoding", "gzip"],
        ["range", "bytes=0-4"],
        ["if-range", "\"x\""]
    ]);
    let packed = carrying(&servers.url("/reflect/gzip"));
    let part = carrying(&servers.url("/reflect/part"));
    let outcome = send(&lab, &[asking, packed, part]).await;
    assert_eq!(result(&outcome, 0), "ok");
    assert!(
        result(&outcome, 1).contains("HttpResponseContentCoding"),
        "{}",
        result(&outcome, 1)
    );
    assert!(
        result(&outcome, 2).contains("HttpProtocolError"),
        "{}",
        result(&outcome, 2)
    );
    outcome.assert_denied(Permission::SecretRead);
    let head = servers.tls.requests().remove(0);
    assert!(
        head.contains("accept-encoding: identity") && !head.contains("range"),
        "{head}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_goes_to_its_hosts_in_its_header_and_nowhere_else() {
    let servers = Servers::start().await;
    let lab = Lab::start(servers.setup()).await;
    let mut own = carrying(&servers.url("/"));
    own["headers"] = json!([["Authorization", "Bearer mine"]]);
    let short = json!({ "url": servers.url("/"), "secrets": ["short"] });
    let absent = json!({ "url": servers.url("/"), "secrets": ["absent"] });
    let wrong_port = carrying(&format!("https://api.example.test:{}/", servers.plain.port()));
    let outcome = send(&lab, &[carrying(&servers.other("/")), own, short, absent, wrong_port]).await;
    for index in [0, 1, 2, 4] {
        assert_eq!(
            result(&outcome, index),
            "Exchange(ErrorCode::HttpRequestDenied)",
            "{index}"
        );
    }
    assert_eq!(result(&outcome, 3), "Exchange(ErrorCode::DestinationUnavailable)");
    let recorded = outcome.recorded();
    for line in [
        "may not go to",
        "leave it out of the request",
        "shorter than 12 bytes",
        "there is no secret `absent`",
    ] {
        assert!(recorded.contains(line), "{line} in {recorded}");
    }
    assert!(servers.tls.requests().is_empty() && servers.plain.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_clear_text_it_goes_to_this_machine_if_the_policy_says_so() {
    let servers = Servers::start().await;
    let lab = Lab::start(servers.setup()).await;
    let outcome = send(&lab, &[carrying(&servers.clear("/reflect/plain"))]).await;
    assert_eq!(result(&outcome, 0), "ok");
    assert!(servers.plain.requests()[0].contains(VALUE));
    // Without that line the host is not even part of the grant.
    let closed = servers
        .setup()
        .configure(|config| config["policy"]["secret"]["plain_loopback"] = json!(false));
    let outcome = send(
        &Lab::start(closed).await,
        &[carrying(&servers.clear("/")), carrying(&servers.url("/"))],
    )
    .await;
    assert_eq!(result(&outcome, 0), "Exchange(ErrorCode::HttpRequestDenied)");
    assert_eq!(result(&outcome, 1), "ok");
    assert_eq!(servers.plain.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_and_a_request_that_takes_the_place_of_another_carry_nothing() {
    let servers = Servers::start().await;
    let lab = Lab::start(servers.setup()).await;
    let redirected = carrying(&servers.url("/reflect/redirect"));
    let dropped = json!({ "url": servers.url("/"), "dropped": ["token"] });
    let outcome = send(&lab, &[redirected, dropped.clone(), json!({ "url": servers.url("/") })]).await;
    assert_eq!(outcome.answer()[0]["response"]["status"], 302);
    let location = outcome.answer()[0]["response"]["headers"].to_string();
    assert!(location.contains("reflect/plain?*****"), "{location}");
    assert_eq!(outcome.answer()[1]["attached"], json!(["Ok(())", "Ok(())", "Ok(())"]));
    let heads = servers.tls.requests();
    assert_eq!(heads.len(), 3, "the host follows no redirect: {heads:?}");
    assert!(heads[0].contains(VALUE));
    assert!(
        !heads[1].contains("authorization") && !heads[2].contains("authorization"),
        "{heads:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
pub(super) async fn isolation_secret_handle() {
    let servers = Servers::start().await;
    let thief = Setup::of(ISOLATION_SECRET_HANDLE).permissions(json!({
        "secret:read": { "secrets": [{ "name": "key", "use": "reveal" }] },
    }));
    let lab = Lab::start(servers.setup().also(thief)).await;
    // A number is all that it takes where the secret is its own.
    let own = lab.call(ISOLATION_SECRET_HANDLE, json!({ "own": "key" })).await;
    assert_eq!(own.answer()["revealed"]["result"], "ok", "{}", own.answer());
    // While the first capability holds its secret, waiting for an answer, the second one tries its number.
    let requests = json!({ "requests": [carrying(&servers.url("/silent"))] });
    let holding = lab.call(ISOLATION_SECRET_REQUEST, requests);
    let stealing = async {
        while servers.tls.requests().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        for number in HANDLES {
            lab.contained(
                ISOLATION_SECRET_HANDLE,
                json!({ "number": number }),
                Code::GuestTrap,
                &format!("reveal handle {number}"),
            )
            .await;
        }
    };
    let ((), held) = tokio::join!(stealing, holding);
    assert!(result(&held, 0).contains("Timeout"), "{}", held.answer());
    let handles = held.answer()[0]["handles"].as_array().expect("handles").clone();
    assert!(!handles.is_empty());
    for handle in handles {
        let handle = handle.as_u64().expect("it was opened");
        assert!(HANDLES.contains(&handle), "{handle} was not tried");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revealing_hands_out_the_value_and_takes_a_right_of_its_own() {
    let permissions =
        |usage: Value| json!({ "secret:read": { "secrets": [usage] }, "secret:write": { "names": ["stored"] } });
    let reveal = json!({ "name": "shown", "use": "reveal" });
    let inject = json!({ "name": "shown", "hosts": ["https://api.example.test"], "header": "x-key" });
    let names = json!({ "names": ["shown"] });
    for (usage, opens) in [(reveal, true), (inject, false)] {
        let setup = Setup::of(ISOLATION_SECRET)
            .permissions(permissions(usage))
            .keeping(&[("shown", "for the guest")]);
        let lab = Lab::start(setup).await;
        let outcome = lab.call(ISOLATION_SECRET, names.clone()).await;
        let attempts = outcome.answer().as_array().expect("attempts");
        let revealed = attempts
            .iter()
            .find(|one| one["what"] == "reveal shown")
            .expect("it was tried");
        assert_eq!(revealed["result"] == "ok", opens, "{revealed}");
        let uses = outcome.accesses().into_iter();
        let reveals = uses.filter(|kind| {
            matches!(
                kind,
                EventKind::SecretAccess {
                    operation: SecretOperation::Reveal,
                    refused: None,
                    ..
                }
            )
        });
        assert_eq!(reveals.count(), usize::from(opens));
        assert!(!outcome.recorded().contains("for the guest"));
    }
}
