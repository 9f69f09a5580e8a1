//! Copies at real servers: an index that goes down and comes back, one that refuses single records, and a collector.
//! `cargo xtask test --services` says where the programs are; without it these fail.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::config::audit::{ElasticsearchConfig, OtlpConfig, ServerConfig};

/// Everything here takes a second or two; a machine that is busy with other things is given more.
const PATIENCE: Duration = Duration::from_secs(60);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("`{name}` is not set: run `cargo xtask test --services`, or take the lines that `cargo xtask services` prints")
    })
}

/// A server of one test, which ends with it.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A port that nobody has. It is below those that the system gives to whoever takes any, and each process of the tests has
/// its own: nobody else takes it before it is used.
fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(8);
    loop {
        let number = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = 10_000 + u16::try_from(number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn start(mut command: Command, port: u16) -> Server {
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let mut server = Server { child, port };
    wait(|| {
        assert!(server.child.try_wait().unwrap().is_none(), "it has ended");
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    server
}

fn osmem(port: u16) -> Server {
    let mut command = Command::new(variable("ARAL_SERVICE_OSMEM"));
    command.args(["-addr", &format!("127.0.0.1:{port}"), "-no-stdin-watch"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    start(command, port)
}

fn wait(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "it does not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn server(port: u16) -> ServerConfig {
    ServerConfig {
        address: format!("http://127.0.0.1:{port}"),
        ca_pem: None,
        authorization_file: None,
        timeout_ms: 5000,
    }
}

fn elastic(port: u16) -> Config {
    config(|audit| {
        audit.elasticsearch = Some(ElasticsearchConfig {
            server: server(port),
            index: "audit".to_owned(),
        });
    })
}

/// A request to the index, with what comes back.
fn ask(method: reqwest::Method, port: u16, path: &str, body: Value) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.request(method, format!("http://127.0.0.1:{port}{path}"));
        let request = request
            .header("content-type", "application/json")
            .body(body.to_string());
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
    })
}

/// The numbers of the records that are in the index.
fn indexed(port: u16) -> Vec<u64> {
    ask(reqwest::Method::POST, port, "/audit/_refresh", json!({}));
    let found = ask(
        reqwest::Method::POST,
        port,
        "/audit/_search",
        json!({"size": 1000, "query": {"match_all": {}}}),
    );
    let hits = found["hits"]["hits"].as_array().cloned().unwrap_or_default();
    let mut seqs: Vec<u64> = hits.iter().map(|hit| hit["_source"]["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    seqs
}

fn calls(host: &Host, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let session = session(host);
    for _ in 0..count {
        runtime.block_on(call(host, &session, b"1")).result.unwrap();
    }
}

fn position(host: &Host) -> u64 {
    host.audit().unwrap().sinks()[0].1.position
}

fn all_delivered(host: &Host) -> bool {
    let log = host.audit().unwrap().log();
    log.flush().unwrap();
    position(host) >= log.durable()
}

#[test]
fn an_index_that_goes_down_and_comes_back_has_every_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let state = folder.path().join("state");
    // Down from the beginning.
    let host = host(&state, elastic(port)).unwrap();
    calls(&host, 3);
    wait(|| host.audit().unwrap().sinks()[0].1.failing.is_some());
    assert_eq!(position(&host), 0);
    let up = osmem(port);
    wait(|| all_delivered(&host));
    let first = indexed(port);
    assert!(first.iter().copied().eq(0..host.audit().unwrap().log().durable()));
    assert!(host.audit().unwrap().sinks()[0].1.failing.is_none());
    // Down while calls are made, and up again empty: what was delivered is not sent again, what was not is.
    drop(up);
    calls(&host, 3);
    wait(|| host.audit().unwrap().sinks()[0].1.failing.is_some());
    let before = position(&host);
    let up = osmem(port);
    wait(|| all_delivered(&host));
    assert!(
        indexed(port)
            .into_iter()
            .eq(before..host.audit().unwrap().log().durable())
    );
    // Down when the host ends: the next host delivers.
    drop(up);
    calls(&host, 3);
    let before = position(&host);
    drop(host);
    let end = records(&state).len() as u64;
    assert!(before < end);
    let up = osmem(port);
    let host = self::super::host(&state, elastic(port)).unwrap();
    wait(|| all_delivered(&host));
    let seqs: BTreeSet<u64> = indexed(port).into_iter().collect();
    assert!((before..end).all(|seq| seqs.contains(&seq)));
    drop((host, up));
}

#[test]
fn a_record_that_the_index_refuses_is_counted_and_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let _up = osmem(port);
    // `event.resources` as a number: every record of the end of a call breaks it, and no other one does.
    let mapping = json!({"mappings": {"properties": {"event": {"properties": {"resources": {"type": "long"}}}}}});
    let made = ask(reqwest::Method::PUT, port, "/audit", mapping);
    assert_eq!(made["acknowledged"], true, "{made}");
    let state = folder.path().join("state");
    let host = host(&state, elastic(port)).unwrap();
    calls(&host, 2);
    // Something that it takes, behind the last one that it refuses.
    host.set_policy(policy(""));
    wait(|| all_delivered(&host));
    let refused = host.audit().unwrap().sinks()[0].1.refused;
    assert_eq!(refused, 2);
    let seqs = indexed(port);
    let ends = records(&state)
        .into_iter()
        .filter(|record| record.event.type_name() == "invocation");
    for end in ends {
        assert!(!seqs.contains(&end.seq), "record {} was taken after all", end.seq);
    }
    assert_eq!(seqs.len() as u64 + refused, position(&host));
}

#[test]
fn a_collector_gets_every_record_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let (port, grpc) = (free_port(), free_port());
    let said: PathBuf = folder.path().join("rotel.log");
    let mut command = Command::new(variable("ARAL_SERVICE_ROTEL"));
    command
        .args([
            "start",
            "--exporter",
            "blackhole",
            "--debug-log",
            "logs",
            "--debug-log-verbosity",
            "detailed",
        ])
        .args([
            "--otlp-http-endpoint",
            &format!("127.0.0.1:{port}"),
            "--otlp-grpc-endpoint",
            &format!("127.0.0.1:{grpc}"),
        ])
        .stdout(std::fs::File::create(&said).unwrap())
        .stderr(Stdio::null());
    let collector = start(command, port);
    let state = folder.path().join("state");
    let settings = config(|audit| {
        audit.otlp = Some(OtlpConfig {
            server: server(collector.port),
            service: "aral-tests".to_owned(),
        });
    });
    let host = host(&state, settings).unwrap();
    calls(&host, 3);
    wait(|| all_delivered(&host));
    drop(host);
    let entries = query(&state.join("audit"), Filter::default()).unwrap();
    for entry in entries {
        let line = String::from_utf8(entry.unwrap().0.line).unwrap();
        wait(|| std::fs::read_to_string(&said).unwrap().contains(&line));
    }
    assert!(std::fs::read_to_string(&said).unwrap().contains("aral-tests"));
}
