//! The server over sockets, with a host behind it that has no capability: what needs one is in the integration tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aral_capability::egress::{Egress, EgressOptions};
use aral_capability::{Registry, Roots, Services};
use aral_contract::document::TrustStore;
use aral_contract::{AuditSink, Clock, Event, EventKind};
use aral_orchestration::dispatch::GateOptions;
use aral_orchestration::policy::PolicyParts;
use aral_orchestration::{Dispatcher, DispatcherParts, Policy, Session};
use aral_runtime::{Allocation, Runtime, RuntimeOptions, SystemClock};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

/// Takes every event, or panics while it is broken and a call ends.
#[derive(Debug, Default)]
struct Sink {
    broken: AtomicBool,
}

impl AuditSink for Sink {
    fn record(&self, event: Event) {
        let ends = matches!(event.kind, EventKind::InvocationEnded { .. });
        assert!(!(ends && self.broken.load(Ordering::Relaxed)), "the sink is broken");
    }
}

/// Well or not, as the test says.
#[derive(Debug, Default)]
struct Patient(AtomicBool);

impl Health for Patient {
    fn checks(&self) -> Vec<Check> {
        let fault = self.0.load(Ordering::Relaxed).then(|| "/srv/secret is full".to_owned());
        vec![Check { name: "disk", fault }]
    }
}

/// There is no log.
#[derive(Debug)]
struct NoReceipts;

impl Receipts for NoReceipts {
    fn receipt(&self, _user: &aral_contract::id::CallerName, _seq: u64) -> Result<Vec<u8>, aral_contract::Failure> {
        Err(receipts::unknown())
    }
}

struct Fixture {
    address: std::net::SocketAddr,
    sink: Arc<Sink>,
    patient: Arc<Patient>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

fn session(dispatcher: &Dispatcher) -> Session {
    let document = json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2025-01-01T00:00:00Z", "expires_at": "2100-01-01T00:00:00Z",
        "id": "analyst", "name": "Analyst",
    });
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let persona = aral_persona::persona::dangerous_accept_unsigned(document.to_string().as_bytes(), now);
    dispatcher.open(persona.unwrap()).unwrap()
}

async fn start(bounds: Bounds) -> Fixture {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (sink, patient) = (Arc::new(Sink::default()), Arc::new(Patient::default()));
    let options = RuntimeOptions {
        allocation: Allocation::OnDemand,
        ..RuntimeOptions::default()
    };
    let dispatcher = Dispatcher::new(DispatcherParts {
        runtime: Runtime::new(options).unwrap(),
        registry: Registry::default(),
        services: Services {
            clock: Arc::clone(&clock),
            sink: Arc::clone(&sink) as Arc<dyn AuditSink>,
            egress: Arc::new(Egress::new(EgressOptions::default()).unwrap()),
            roots: Roots::default(),
            memory: None,
            secrets: None,
            trace_hosts: None,
        },
        policy: Policy::new(PolicyParts::default()).unwrap(),
        gate: GateOptions::default(),
        trust: TrustStore::default(),
        blinder: None,
        sampling: aral_contract::Sampling::PASS,
    });
    let caller = Caller {
        name: "somebody".parse().unwrap(),
        session: session(&dispatcher),
        keys: Vec::new(),
    };
    let options = ServerOptions {
        listeners: vec![ListenerOptions {
            address: "127.0.0.1:0".parse().unwrap(),
            hosts: Vec::new(),
            origins: Vec::new(),
            anonymous: Some("somebody".parse().unwrap()),
        }],
        bounds,
    };
    let parts = ServerParts {
        dispatcher: Arc::new(dispatcher),
        callers: Callers::new(vec![caller]).unwrap(),
        health: Arc::clone(&patient) as Arc<dyn Health>,
        receipts: Arc::new(NoReceipts),
        clock,
        sink: Arc::clone(&sink) as Arc<dyn AuditSink>,
    };
    let server = Server::bind(options, parts).await.unwrap();
    let address = server.addresses()[0];
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Fixture {
        address,
        sink,
        patient,
        stop,
        task,
    }
}

impl Fixture {
    /// Status and document of one request on a connection of its own.
    async fn ask(&self, request: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut text));
        read.await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    async fn invoke(&self) -> (u16, Value) {
        self.ask(concat!(
            "POST /v1/invoke/none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n",
            "content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        ))
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_fails_one_request_and_the_server_goes_on() {
    let it = start(Bounds::default()).await;
    assert_eq!(it.invoke().await.0, 404);
    it.sink.broken.store(true, Ordering::Relaxed);
    let (status, problem) = it.invoke().await;
    assert_eq!((status, &problem["code"]), (500, &json!("host.internal")));
    assert_eq!(problem["trace_id"].as_str().unwrap().len(), 32);
    assert!(!problem.to_string().contains("broken"), "{problem}");
    it.sink.broken.store(false, Ordering::Relaxed);
    assert_eq!(it.invoke().await.0, 404);
    let _ = it.stop.send(());
    it.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_one_word_for_strangers() {
    let it = start(Bounds::default()).await;
    assert_eq!(it.get("/health").await, (200, json!({"status": "ok"})));
    it.patient.0.store(true, Ordering::Relaxed);
    assert_eq!(it.get("/health").await.0, 200, "what was seen a moment ago");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(it.get("/health").await, (503, json!({"status": "failing"})));
}

#[test]
fn the_description_is_the_one_that_was_reviewed() {
    insta::assert_snapshot!(openapi());
}
