//! Guests that attack the network, against a name server, honest and dishonest servers, and a port that counts every
//! connection that should not have been.

use std::time::Duration;

use aral_contract::Permission;
use aral_host::policy::{Policy, PolicyParts};
use serde_json::{Value, json};

use crate::support::dns::Dns;
use crate::support::guests::*;
use crate::support::http::Http;
use crate::support::lab::Lab;
use crate::support::listener::Forbidden;
use crate::support::outcome::Outcome;
use crate::support::setup::Setup;
use crate::support::tls::Authority;

foreach_network!(assert_test_exists);

/// What a guest is told when the host does not let a request out.
const DENIED: &str = "ErrorCode::HttpRequestDenied";
/// What it is told when the name leads where it may not go.
const PROHIBITED: &str = "ErrorCode::DestinationIpProhibited";

/// An honest server on 127.0.0.1, which the policy allows, and a name server.
pub(crate) struct Net {
    server: Http,
    dns: Dns,
}

impl Net {
    pub(crate) async fn start(zone: &[(&str, &[&str])]) -> Self {
        let mut all: Vec<(&str, &[&str])> = vec![("api.example.test", &["127.0.0.1"])];
        all.extend_from_slice(zone);
        Self {
            server: Http::start().await,
            dns: Dns::start(&all).await,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://api.example.test:{}{path}", self.server.port())
    }

    pub(crate) fn dns(&self) -> std::net::SocketAddr {
        self.dns.address
    }

    pub(crate) fn origin(&self) -> String {
        self.url("")
    }

    /// A lab in which the guest may read from and write to these hosts.
    pub(crate) fn setup(&self, hosts: &[&str]) -> Setup {
        Setup::of(NETWORK_HTTP)
            .permissions(json!({ "network:read": { "hosts": hosts }, "network:write": { "hosts": hosts } }))
            .networks(&["127.0.0.1/32"])
            .nameserver(self.dns.address)
    }

    async fn lab(&self, hosts: &[&str]) -> Lab {
        Lab::start(self.setup(hosts)).await
    }
}

fn get(url: &str) -> Value {
    json!({ "method": "GET", "url": url })
}

/// Lets the guest send these. It must get as far as each of them, and leave the neighbour alone.
async fn send(lab: &Lab, requests: &[Value]) -> Outcome {
    let outcome = lab.call(NETWORK_HTTP, json!({ "requests": requests })).await;
    let logs = outcome.logs();
    let markers = logs.iter().filter(|line| line.starts_with("marker: ")).count();
    assert_eq!(markers, requests.len(), "{logs:?}");
    lab.neighbour_works().await;
    outcome
}

fn assert_ok(outcome: &Outcome, index: usize, status: u16) {
    let one = &outcome.answer()[index];
    assert_eq!(one["result"], "ok", "request {index}: {one}");
    assert_eq!(one["response"]["status"], status, "request {index}: {one}");
}

/// Each request failed with this error and nothing else.
fn assert_errors(outcome: &Outcome, expected: &[&str]) {
    let answers = outcome.answer().as_array().expect("answers");
    assert_eq!(answers.len(), expected.len());
    for (index, (answer, expected)) in answers.iter().zip(expected).enumerate() {
        let found = answer["result"].as_str().expect("a result");
        assert!(
            found.contains(expected),
            "request {index}: `{found}` instead of `{expected}`"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_http() {
    // Deny by default, then exactly what was granted: host, port, scheme.
    let forbidden = Forbidden::start("127.0.0.1").await;
    let net = Net::start(&[
        ("evil-api.example.test", &["127.0.0.1"]),
        ("sub.api.example.test", &["127.0.0.1"]),
    ])
    .await;
    let (port, other) = (net.server.port(), forbidden.address.port());
    let lab = net.lab(&[&net.origin()]).await;
    let denied = [
        format!("http://evil-api.example.test:{other}/"),
        format!("http://sub.api.example.test:{other}/"),
        format!("http://127.0.0.1:{other}/"),
        format!("http://api.example.test:{other}/"),
        format!("https://api.example.test:{port}/"),
        format!("http://api.example.test@127.0.0.1:{other}/"),
        format!("http://127.1:{other}/"),
        format!("http://2130706433:{other}/"),
        format!("http://localhost:{other}/"),
        "http://api.example.test/".to_owned(),
    ];
    let requests: Vec<Value> = denied.iter().map(|url| get(url)).collect();
    let outcome = send(&lab, &requests).await;
    for (index, url) in denied.iter().enumerate() {
        let found = outcome.answer()[index]["result"].as_str().expect("a result");
        // A user name in the authority is refused before there is a request.
        assert!(
            found.contains(DENIED) || found.contains("Build(\"authority\""),
            "{url}: {found}"
        );
        outcome.assert_marker(&format!("GET {url}"));
    }
    outcome.assert_denied(Permission::NetworkRead);
    assert_eq!(
        net.dns.queries(),
        <[&str; 0]>::default(),
        "a host that is not granted is not even looked up"
    );
    forbidden.assert_untouched().await;
    let outcome = send(&lab, &[get(&net.url("/"))]).await;
    assert_ok(&outcome, 0, 200);
    assert_eq!(outcome.answer()[0]["response"]["body"], "hello");
    assert_eq!(outcome.usage.http_requests, 1);
    // With the other port granted the same request goes through.
    let lab = net.lab(&[&format!("http://api.example.test:{other}")]).await;
    let outcome = send(&lab, &[get(&format!("http://api.example.test:{other}/"))]).await;
    assert_eq!(outcome.answer()[0]["response"]["body"], "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_permission_no_request_leaves() {
    let forbidden = Forbidden::start("127.0.0.1").await;
    let net = Net::start(&[]).await;
    let url = format!("http://api.example.test:{}/", forbidden.address.port());
    // Reading is granted, writing is not, and the other way round.
    for (permission, method) in [("network:read", "POST"), ("network:write", "GET")] {
        let mut permissions = json!({});
        permissions[permission] = json!({ "hosts": [format!("http://api.example.test:{}", forbidden.address.port())] });
        let setup = net.setup(&[]).permissions(permissions);
        let lab = Lab::start(setup).await;
        let outcome = send(&lab, &[json!({ "method": method, "url": url })]).await;
        outcome.assert_marker(&format!("{method} {url}"));
        assert_errors(&outcome, &[DENIED]);
        outcome.assert_denied(if method == "POST" {
            Permission::NetworkWrite
        } else {
            Permission::NetworkRead
        });
    }
    forbidden.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_says_which_hosts_learn_to_which_trace_a_request_belongs() {
    async fn is_told(net: &Net, lab: &Lab) -> bool {
        let before = net.server.requests().len();
        assert_ok(&send(lab, &[get(&net.url("/"))]).await, 0, 200);
        let heads = net.server.requests().split_off(before);
        assert_eq!(heads.len(), 1);
        heads[0].to_ascii_lowercase().contains("\ntraceparent: ")
    }
    let net = Net::start(&[]).await;
    fn trace_hosts(config: &mut Value, hosts: Value) {
        config["policy"]["network"]["trace_hosts"] = hosts;
    }
    type Change = fn(&mut Value);
    let cases: [(Change, bool); 4] = [
        (|_| (), true),
        (|config| trace_hosts(config, json!(["*"])), true),
        (
            |config| trace_hosts(config, json!(["https://elsewhere.example"])),
            false,
        ),
        (|config| trace_hosts(config, json!([])), false),
    ];
    for (number, (change, told)) in cases.into_iter().enumerate() {
        let lab = Lab::start(net.setup(&[&net.origin()]).configure(change)).await;
        assert_eq!(is_told(&net, &lab).await, told, "case {number}");
        // A policy that takes its place holds from the next call on.
        let policy = |hosts| {
            let parts = PolicyParts {
                trace_hosts: hosts,
                ..PolicyParts::clone(&lab.host.policy())
            };
            Policy::new(parts).expect("a policy")
        };
        lab.host.set_policy(policy(Some(Vec::new())));
        assert!(!is_told(&net, &lab).await, "case {number}");
        lab.host.set_policy(policy(None));
        assert!(is_told(&net, &lab).await, "case {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_method_needs_its_permission_and_some_have_none() {
    let net = Net::start(&[]).await;
    let (read, write) = (["GET", "HEAD", "OPTIONS"], ["POST", "PUT", "PATCH", "DELETE"]);
    let request = |method: &&str| json!({ "method": method, "url": net.url("/") });
    for (permission, good, bad) in [
        ("network:read", &read[..], &write[..]),
        ("network:write", &write[..], &read[..]),
    ] {
        let mut permissions = json!({});
        permissions[permission] = json!({ "hosts": [net.origin()] });
        let lab = Lab::start(net.setup(&[]).permissions(permissions)).await;
        let outcome = send(&lab, &good.iter().map(request).collect::<Vec<_>>()).await;
        (0..good.len()).for_each(|index| assert_ok(&outcome, index, 200));
        let outcome = send(&lab, &bad.iter().map(request).collect::<Vec<_>>()).await;
        assert_errors(&outcome, &vec![DENIED; bad.len()]);
    }
    // Both permissions, and still no tunnel and no reflection.
    let before = net.server.requests().len();
    let lab = net.lab(&[&net.origin()]).await;
    let never = ["CONNECT", "TRACE", "PROPFIND", "get", "QUERY"];
    let outcome = send(&lab, &never.iter().map(request).collect::<Vec<_>>()).await;
    for (index, method) in never.iter().enumerate() {
        let found = outcome.answer()[index]["result"].as_str().expect("a result");
        assert!(
            found.contains(DENIED) || found.contains("Build(\"method\""),
            "{method}: {found}"
        );
        outcome.assert_marker(&format!("{method} {}", net.url("/")));
    }
    assert_eq!(net.server.requests().len(), before, "none of them left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_name_that_leads_inside_is_refused() {
    // 127.0.0.2 and ::1 are not in the networks that the policy names; 127.0.0.1 is.
    let four = Forbidden::start("127.0.0.2").await;
    // Without IPv6 nobody listens there, and the request must be refused all the same.
    let six = Forbidden::try_start("::1").await;
    let any = Forbidden::start("0.0.0.0").await;
    let names: [(&str, &[&str]); 22] = [
        ("loopback.test", &["127.0.0.2"]),
        ("loopback-six.test", &["::1"]),
        ("mapped.test", &["::ffff:127.0.0.2"]),
        ("compatible.test", &["::127.0.0.2"]),
        ("six-to-four.test", &["2002:7f00:2::"]),
        ("nat64.test", &["64:ff9b::7f00:2"]),
        ("teredo.test", &["2001:0:4136:e378:8000:63bf:80ff:fffd"]),
        ("unspecified.test", &["0.0.0.0"]),
        ("unspecified-six.test", &["::"]),
        ("private-ten.test", &["10.0.0.1"]),
        ("private-oneseventwo.test", &["172.16.0.1"]),
        ("private-onenineteen.test", &["192.168.0.1"]),
        ("link-local.test", &["169.254.169.254"]),
        ("link-local-six.test", &["fe80::1"]),
        ("unique-local.test", &["fd00::1"]),
        ("shared.test", &["100.64.0.1"]),
        ("multicast.test", &["224.0.0.1"]),
        ("multicast-six.test", &["ff02::1"]),
        ("broadcast.test", &["255.255.255.255"]),
        ("documentation.test", &["192.0.2.1"]),
        ("documentation-six.test", &["2001:db8::1"]),
        ("this-network.test", &["0.1.2.3"]),
    ];
    let net = Net::start(&names).await;
    let setup = net.setup(&["*"]).limits(json!({ "http_requests": 100 }));
    let lab = Lab::start(setup).await;
    let six_port = six.as_ref().unwrap_or(&four).address.port();
    let port = |name: &str| match name {
        "loopback-six.test" => six_port,
        name if name.starts_with("unspecified") => any.address.port(),
        _ => four.address.port(),
    };
    let mut urls: Vec<String> = names
        .iter()
        .map(|(name, _)| format!("http://{name}:{}/", port(name)))
        .collect();
    // The same places without a name.
    urls.extend([
        format!("http://127.0.0.2:{}/", four.address.port()),
        format!("http://[::1]:{six_port}/"),
        format!("http://[::ffff:127.0.0.2]:{}/", four.address.port()),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ]);
    let outcome = send(&lab, &urls.iter().map(|url| get(url)).collect::<Vec<_>>()).await;
    assert_errors(&outcome, &vec![PROHIBITED; urls.len()]);
    outcome.assert_marker(&format!("GET {}", urls[0]));
    outcome.assert_denied(Permission::NetworkRead);
    assert!(outcome.elapsed < Duration::from_secs(60), "{:?}", outcome.elapsed);
    for forbidden in six.iter().chain([&four, &any]) {
        forbidden.assert_untouched().await;
    }
    // The same request when the policy names that network.
    let lab = Lab::start(net.setup(&["*"]).networks(&["127.0.0.2/32"])).await;
    let outcome = send(&lab, &[get(&urls[0])]).await;
    assert_eq!(outcome.answer()[0]["response"]["body"], "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_with_one_bad_address_is_never_dialled_there() {
    let forbidden = Forbidden::start("127.0.0.2").await;
    let net = Net::start(&[("mixed.test", &["127.0.0.2", "10.0.0.1"])]).await;
    let lab = net.lab(&["*"]).await;
    let url = format!("http://mixed.test:{}/", forbidden.address.port());
    assert_errors(&send(&lab, &[get(&url)]).await, &[PROHIBITED]);
    forbidden.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_changes_its_address_is_dialled_where_it_was_checked() {
    // The first answer is fine, every later one is not: whoever resolves twice connects to the second.
    let forbidden = Forbidden::start("127.0.0.2").await;
    let server = Http::start_on(&format!("127.0.0.1:{}", forbidden.address.port()), None).await;
    let dns = Dns::start_changing(&[("rebinding.test", vec![&["127.0.0.1"], &["127.0.0.2"]])]).await;
    let net = Net { server, dns };
    let lab = net.lab(&["*"]).await;
    let url = format!("http://rebinding.test:{}/", forbidden.address.port());
    let outcome = send(&lab, &[get(&url), get(&url)]).await;
    assert_ok(&outcome, 0, 200);
    let second = outcome.answer()[1]["result"].as_str().expect("a result");
    // A cache may serve the first answer again; the second answer may not be used.
    assert!(second == "ok" || second.contains(PROHIBITED), "{second}");
    forbidden.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_handed_back_and_never_followed() {
    let forbidden = Forbidden::start("127.0.0.1").await;
    let net = Net::start(&[]).await;
    let lab = net.lab(&[&net.origin()]).await;
    let target = format!("http://127.0.0.1:{}/secret", forbidden.address.port());
    let redirect = net.url(&format!("/redirect/{}", target.replacen("://", ":", 1)));
    let outcome = send(&lab, &[get(&redirect), get(&target)]).await;
    assert_ok(&outcome, 0, 302);
    let headers = outcome.answer()[0]["response"]["headers"].to_string();
    assert!(headers.contains(&target), "{headers}");
    // Following it oneself is a new request, with a new decision.
    let second = outcome.answer()[1]["result"].as_str().expect("a result");
    assert!(second.contains(DENIED), "{second}");
    outcome.assert_marker(&format!("GET {target}"));
    forbidden.assert_untouched().await;
    // Where the target is granted too, the guest may go there.
    let lab = net
        .lab(&[&net.origin(), &format!("http://127.0.0.1:{}", forbidden.address.port())])
        .await;
    let outcome = send(&lab, &[get(&redirect), get(&target)]).await;
    assert_eq!(outcome.answer()[1]["response"]["body"], "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_requests_than_allowed() {
    let net = Net::start(&[]).await;
    let requests = vec![get(&net.url("/")); 5];
    let lab = Lab::start(net.setup(&[&net.origin()]).limits(json!({ "http_requests": 3 }))).await;
    let outcome = send(&lab, &requests).await;
    (0..3).for_each(|index| assert_ok(&outcome, index, 200));
    for index in 3..5 {
        let found = outcome.answer()[index]["result"].as_str().expect("a result");
        assert!(found.contains("ErrorCode::ConnectionLimitReached"), "{found}");
    }
    assert_eq!((net.server.requests().len(), outcome.usage.http_requests), (3, 3));
    // The count is one call's.
    assert_ok(&send(&lab, &requests[..1]).await, 0, 200);
    let lab = Lab::start(net.setup(&[&net.origin()]).limits(json!({ "http_requests": 5 }))).await;
    let outcome = send(&lab, &requests).await;
    (0..5).for_each(|index| assert_ok(&outcome, index, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_silent_servers_are_given_up() {
    let net = Net::start(&[]).await;
    for path in ["/drip", "/drip-head", "/silent"] {
        let lab = Lab::start(
            net.setup(&[&net.origin()])
                .limits(json!({ "http_ms": 500, "wall_ms": 60_000 })),
        )
        .await;
        let outcome = send(&lab, &[get(&net.url(path))]).await;
        outcome.assert_marker(&format!("GET {}", net.url(path)));
        let found = outcome.answer()[0]["result"].as_str().expect("a result");
        assert!(
            found.contains("Timeout") || found.contains("HTTP response timeout"),
            "{path}: {found}"
        );
        // What the guest is told has nothing of the host in it, however the host was built or started.
        assert!(
            !found.contains("backtrace") && !found.contains(".rs"),
            "{path}: {found}"
        );
        assert!(
            outcome.elapsed < Duration::from_secs(20),
            "{path}: {:?}",
            outcome.elapsed
        );
    }
    // A server that needs less than the limit is waited for.
    let lab = Lab::start(net.setup(&[&net.origin()]).limits(json!({ "http_ms": 20_000 }))).await;
    assert_ok(&send(&lab, &[get(&net.url("/bytes/100"))]).await, 0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_cannot_outwait_the_host() {
    // The options of a request can shorten the host's patience, not lengthen it.
    let net = Net::start(&[]).await;
    let lab = Lab::start(
        net.setup(&[&net.origin()])
            .limits(json!({ "http_ms": 500, "wall_ms": 60_000 })),
    )
    .await;
    let patient = json!({ "url": net.url("/silent"), "timeout_ms": 3_600_000 });
    let outcome = send(&lab, &[patient]).await;
    assert!(
        outcome.answer()[0]["result"]
            .as_str()
            .expect("a result")
            .contains("Timeout")
    );
    assert!(outcome.elapsed < Duration::from_secs(20), "{:?}", outcome.elapsed);
    let lab = net.lab(&[&net.origin()]).await;
    let outcome = send(&lab, &[json!({ "url": net.url("/silent"), "timeout_ms": 200 })]).await;
    assert!(
        outcome.answer()[0]["result"]
            .as_str()
            .expect("a result")
            .contains("Timeout")
    );
    assert!(outcome.elapsed < Duration::from_secs(8), "{:?}", outcome.elapsed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_over_the_cap_is_cut_off() {
    let net = Net::start(&[]).await;
    let lab = Lab::start(
        net.setup(&[&net.origin()])
            .limits(json!({ "http_response_bytes": 100_000 })),
    )
    .await;
    for path in ["/bytes/100001", "/endless", "/bytes/10000000000"] {
        let outcome = send(&lab, &[get(&net.url(path))]).await;
        outcome.assert_marker(&format!("GET {}", net.url(path)));
        let found = outcome.answer()[0]["result"].as_str().expect("a result");
        assert!(
            found.contains("HTTP response body size exceeds limit"),
            "{path}: {found}"
        );
        assert!(
            outcome.elapsed < Duration::from_secs(20),
            "{path}: {:?}",
            outcome.elapsed
        );
    }
    let outcome = send(&lab, &[get(&net.url("/bytes/100000"))]).await;
    assert_eq!(outcome.answer()[0]["response"]["bytes"], 100_000);
    let lab = Lab::start(
        net.setup(&[&net.origin()])
            .limits(json!({ "http_response_bytes": 200_000 })),
    )
    .await;
    let outcome = send(&lab, &[get(&net.url("/bytes/100001"))]).await;
    assert_eq!(outcome.answer()[0]["response"]["bytes"], 100_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_and_nonsense_from_a_server_are_refused() {
    let net = Net::start(&[]).await;
    let lab = net.lab(&[&net.origin()]).await;
    let outcome = send(
        &lab,
        &[
            get(&net.url("/fields/1000000")),
            get(&net.url("/not-http")),
            get(&net.url("/fields/100")),
        ],
    )
    .await;
    assert_ne!(outcome.answer()[0]["result"], "ok", "a megabyte of fields");
    assert_ne!(outcome.answer()[1]["result"], "ok", "a protocol that is not HTTP");
    assert_ok(&outcome, 2, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_over_the_cap_is_cut_off() {
    let net = Net::start(&[]).await;
    let post = |bytes: u64| json!({ "method": "POST", "url": net.url("/"), "body": "x".repeat(1000), "body_repeat": bytes / 1000 });
    let lab = Lab::start(
        net.setup(&[&net.origin()])
            .limits(json!({ "http_request_bytes": 50_000 })),
    )
    .await;
    let outcome = send(&lab, &[post(60_000)]).await;
    let found = outcome.answer()[0]["result"].as_str().expect("a result");
    assert!(found.contains("HttpRequestBodySize"), "{found}");
    assert_ok(&send(&lab, &[post(50_000)]).await, 0, 200);
    let lab = Lab::start(
        net.setup(&[&net.origin()])
            .limits(json!({ "http_request_bytes": 60_000 })),
    )
    .await;
    assert_ok(&send(&lab, &[post(60_000)]).await, 0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_headers_do_not_leave() {
    let net = Net::start(&[]).await;
    let lab = net.lab(&[&net.origin()]).await;
    let forged = [
        ("Host", "internal.example.test"),
        ("host", "internal.example.test"),
        ("Connection", "keep-alive"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "websocket"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Proxy-Connection", "keep-alive"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "internal.example.test"),
        ("Forwarded", "for=127.0.0.1"),
        ("TE", "trailers"),
        ("Keep-Alive", "timeout=5"),
    ];
    let request = |(name, value): &(&str, &str)| json!({ "url": net.url("/"), "headers": [[name, value]] });
    let outcome = send(&lab, &forged.iter().map(request).collect::<Vec<_>>()).await;
    for (index, (name, _)) in forged.iter().enumerate() {
        let found = outcome.answer()[index]["result"].as_str().expect("a result");
        assert!(
            found.contains("Build(\"header\"") || found.contains(DENIED),
            "{name}: {found}"
        );
    }
    assert_eq!(net.server.requests(), <[&str; 0]>::default(), "no forged request left");
    // A second request, or another host, inside a part of the first.
    let smuggled = [
        json!({ "url": net.url("/ HTTP/1.1\r\nhost: internal.example.test\r\n\r\n") }),
        json!({ "url": net.url("/\r\nx-smuggled: 1") }),
        json!({ "url": net.url("/"), "headers": [["x-own", "1\r\nhost: internal.example.test"]] }),
        json!({ "url": net.url("/"), "headers": [["x-own\r\nhost", "internal.example.test"]] }),
        json!({ "url": net.url("/"), "method": "GET / HTTP/1.1\r\nhost: internal.example.test\r\n\r\nGET" }),
    ];
    for (index, answer) in send(&lab, &smuggled)
        .await
        .answer()
        .as_array()
        .expect("answers")
        .iter()
        .enumerate()
    {
        assert!(
            answer["result"].as_str().is_some_and(|found| found.contains("Build(")),
            "{index}: {answer}"
        );
    }
    assert_eq!(
        net.server.requests(),
        <[&str; 0]>::default(),
        "no smuggled request left"
    );
    // What goes out says where it goes, and carries the guest's own headers.
    let own = json!({ "url": net.url("/"), "headers": [["x-own", "mine"]] });
    assert_ok(&send(&lab, &[own]).await, 0, 200);
    let head = net.server.requests().remove(0).to_ascii_lowercase();
    assert!(
        head.contains(&format!("host: api.example.test:{}\r\n", net.server.port())),
        "{head}"
    );
    assert!(head.contains("x-own: mine\r\n"), "{head}");
    assert_eq!(head.matches("\nhost:").count(), 1, "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let good = Http::start_on("127.0.0.1:0", Some(ours.server(&["api.example.test"]))).await;
    let wrong_name = Http::start_on("127.0.0.1:0", Some(ours.server(&["other.example.test"]))).await;
    let wrong_issuer = Http::start_on("127.0.0.1:0", Some(theirs.server(&["api.example.test"]))).await;
    let net = Net::start(&[]).await;
    let urls = [&good, &wrong_name, &wrong_issuer, &net.server]
        .map(|server| format!("https://api.example.test:{}/", server.port()));
    let lab = Lab::start(
        net.setup(&["*"])
            .authority(&ours.pem())
            .limits(json!({ "http_ms": 3_000 })),
    )
    .await;
    let outcome = send(&lab, &urls.iter().map(|url| get(url)).collect::<Vec<_>>()).await;
    assert_ok(&outcome, 0, 200);
    for (index, url) in urls.iter().enumerate().skip(1) {
        let found = outcome.answer()[index]["result"].as_str().expect("a result");
        assert!(
            ["Tls", "Connection"].iter().any(|word| found.contains(word)),
            "{url}: {found}"
        );
    }
    assert_eq!((wrong_name.requests().len(), wrong_issuer.requests().len()), (0, 0));
    // Without the authority in the configuration the good one is a stranger as well.
    let lab = net.lab(&["*"]).await;
    assert_ne!(send(&lab, &[get(&urls[0])]).await.answer()[0]["result"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_socket() {
    let forbidden = Forbidden::start("127.0.0.1").await;
    let address = forbidden.address.to_string();
    // No permission opens a socket, the one for the network neither.
    for permissions in [json!({}), json!({ "network:read": { "hosts": ["*"] } })] {
        let lab = Lab::start(
            Setup::of(NETWORK_SOCKET)
                .permissions(permissions)
                .networks(&["127.0.0.0/8"]),
        )
        .await;
        let outcome = lab.call(NETWORK_SOCKET, json!({ "target": address })).await;
        let attempts = outcome.answer().as_array().expect("attempts");
        assert_eq!(attempts.len(), 6);
        for attempt in attempts {
            let found = attempt["result"].as_str().expect("a result");
            assert!(found.contains("kind: PermissionDenied"), "{attempt}");
            outcome.assert_marker(attempt["what"].as_str().expect("a name"));
        }
        lab.neighbour_works().await;
    }
    forbidden.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_dns() {
    let net = Net::start(&[("exfiltrated-secret.attacker.test", &["127.0.0.1"])]).await;
    let names = json!({ "names": ["exfiltrated-secret.attacker.test", "localhost", "api.example.test"] });
    for permissions in [json!({}), json!({ "network:read": { "hosts": ["*"] } })] {
        let setup = Setup::of(NETWORK_DNS)
            .permissions(permissions)
            .networks(&["127.0.0.0/8"])
            .nameserver(net.dns.address);
        let lab = Lab::start(setup).await;
        let outcome = lab.call(NETWORK_DNS, names.clone()).await;
        for attempt in outcome.answer().as_array().expect("attempts") {
            let found = attempt["result"].as_str().expect("a result");
            assert!(found.contains("failed to lookup address information"), "{attempt}");
            outcome.assert_marker(attempt["what"].as_str().expect("a name"));
        }
        lab.neighbour_works().await;
    }
    assert_eq!(net.dns.queries(), <[&str; 0]>::default());
    // A request to a granted host is how a name gets looked up.
    let lab = net.lab(&[&net.origin()]).await;
    assert_ok(&send(&lab, &[get(&net.url("/"))]).await, 0, 200);
    assert!(net.dns.queries().iter().all(|name| name == "api.example.test") && !net.dns.queries().is_empty());
}
