//! The server over sockets, with a host behind it that has no capability: what needs one is in the integration tests.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_capability::egress::{Egress, EgressOptions};
use aral_capability::{FileWork, Programs, Registry, Roots, SecretUses, Services};
use aral_contract::document::TrustStore;
use aral_contract::event::{RoomFuture, SinkUnavailable};
use aral_contract::{AuditSink, Clock, Event, EventKind};
use aral_orchestration::dispatch::GateOptions;
use aral_orchestration::policy::PolicyParts;
use aral_orchestration::{Dispatcher, DispatcherParts, Policy, Session};
use aral_runtime::{Allocation, Runtime, RuntimeOptions, SystemClock};
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};

use super::*;

/// Type, flags and payload of the next frame of HTTP/2; none: the connection has ended.
pub(crate) async fn next_frame<T: AsyncRead + Unpin>(stream: &mut T) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], payload))
}

/// Reads a body of so many single bytes, of which the next is always there. Others must run before it is read whole.
pub(crate) async fn read_beside_others<T, F>(bytes: usize, read: impl FnOnce(BoxBody<Bytes, Infallible>) -> F) -> T
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let pieces = (0..bytes).map(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x")))
    });
    let reading = tokio::spawn(read(StreamBody::new(stream::iter(pieces)).boxed()));
    // It begins after that.
    let other = tokio::spawn(async move { taken.load(Ordering::Relaxed) });
    let seen = other.await.unwrap();
    assert!((1..bytes).contains(&seen), "{seen}");
    reading.await.unwrap()
}

/// Takes every event, or panics while it is broken and a call ends. While it is full there is no room in it.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    broken: AtomicBool,
    pub(crate) full: AtomicBool,
    kinds: Mutex<Vec<EventKind>>,
}

impl Sink {
    /// What was recorded since this was last asked.
    pub(crate) fn take(&self) -> Vec<EventKind> {
        std::mem::take(&mut *self.kinds.lock().unwrap())
    }
}

impl AuditSink for Sink {
    fn record(&self, event: Event) {
        let ends = matches!(event.kind, EventKind::InvocationEnded { .. });
        self.kinds.lock().unwrap().push(event.kind);
        assert!(!(ends && self.broken.load(Ordering::Relaxed)), "the sink is broken");
    }

    fn room(&self) -> Option<RoomFuture> {
        let reason = "its disk hangs".to_owned();
        let full = Box::pin(std::future::ready(Err::<(), _>(SinkUnavailable { reason })));
        self.full.load(Ordering::Relaxed).then_some(full as RoomFuture)
    }
}

/// A clock that a test sets.
#[derive(Debug, Default)]
pub(crate) struct Hand(Mutex<Duration>);

impl Hand {
    pub(crate) fn pass(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }
}

impl Clock for Hand {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }
    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
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

pub(crate) struct Fixture {
    /// Of the first listener, and of all.
    pub(crate) address: std::net::SocketAddr,
    pub(crate) addresses: Vec<std::net::SocketAddr>,
    pub(crate) reloader: TlsReloader,
    pub(crate) sink: Arc<Sink>,
    patient: Arc<Patient>,
    changes: watch::Sender<()>,
    handle: ServerHandle,
    options: ServerOptions,
    dispatcher: Arc<Dispatcher>,
    callers: Vec<Caller>,
    clock: Arc<dyn Clock>,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

fn session(dispatcher: &Dispatcher, id: &str) -> Session {
    let document = json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2025-01-01T00:00:00Z", "expires_at": "2100-01-01T00:00:00Z",
        "id": id, "name": "Analyst",
    });
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let persona = aral_persona::persona::dangerous_accept_unsigned(document.to_string().as_bytes(), now);
    dispatcher.open(persona.unwrap()).unwrap()
}

/// The one path, with nothing on it.
fn dispatcher(clock: &Arc<dyn Clock>, sink: Arc<dyn AuditSink>) -> Dispatcher {
    let options = RuntimeOptions {
        allocation: Allocation::OnDemand,
        ..RuntimeOptions::default()
    };
    Dispatcher::new(DispatcherParts {
        runtime: Runtime::new(options).unwrap(),
        registry: Registry::default(),
        services: Services {
            clock: Arc::clone(clock),
            sink,
            egress: Arc::new(Egress::new(EgressOptions::default()).unwrap()),
            file_work: FileWork::default(),
            programs: Programs::default(),
            roots: Roots::default(),
            memory: None,
            secrets: None,
            secret_uses: SecretUses::default(),
            trace_hosts: None,
        },
        policy: Policy::new(PolicyParts::default()).unwrap(),
        gate: GateOptions::default(),
        trust: TrustStore::default(),
        blinder: None,
        sampling: aral_contract::Sampling::PASS,
    })
}

/// Sessions of personas with these ids.
pub(crate) fn sessions(ids: &[&str]) -> Vec<Session> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let dispatcher = dispatcher(&clock, Arc::new(Sink::default()));
    ids.iter().map(|id| session(&dispatcher, id)).collect()
}

/// The one path with nothing on it, and a session of its own.
pub(crate) fn path() -> (Arc<Dispatcher>, Session) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let dispatcher = Arc::new(dispatcher(&clock, Arc::new(Sink::default())));
    let session = session(&dispatcher, "analyst");
    (dispatcher, session)
}

async fn start(bounds: Bounds) -> Fixture {
    start_with(bounds, |_, _| ()).await
}

/// The same with the listener and the callers as the test wants.
pub(crate) async fn start_with(bounds: Bounds, change: impl FnOnce(&mut ListenerOptions, &mut Vec<Caller>)) -> Fixture {
    start_at(Arc::new(SystemClock::new()), bounds, change).await
}

/// The same by this clock.
pub(crate) async fn start_at(
    clock: Arc<dyn Clock>,
    bounds: Bounds,
    change: impl FnOnce(&mut ListenerOptions, &mut Vec<Caller>),
) -> Fixture {
    start_as(clock, bounds, |options, callers| {
        change(&mut options.listeners[0], callers)
    })
    .await
}

/// The same with all options as the test wants.
pub(crate) async fn start_as(
    clock: Arc<dyn Clock>,
    bounds: Bounds,
    change: impl FnOnce(&mut ServerOptions, &mut Vec<Caller>),
) -> Fixture {
    let (sink, patient) = (Arc::new(Sink::default()), Arc::new(Patient::default()));
    let dispatcher = Arc::new(dispatcher(&clock, Arc::clone(&sink) as Arc<dyn AuditSink>));
    let mut callers = vec![Caller {
        name: "somebody".parse().unwrap(),
        session: session(&dispatcher, "analyst"),
        keys: Vec::new(),
        certificates: Vec::new(),
        client_ca_files: Vec::new(),
        signature: None,
    }];
    let listener = ListenerOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        hosts: Vec::new(),
        origins: Vec::new(),
        anonymous: Some("somebody".parse().unwrap()),
        tls: None,
        mcp: true,
    };
    let mut options = ServerOptions {
        listeners: vec![listener],
        bounds,
        ..ServerOptions::default()
    };
    change(&mut options, &mut callers);
    let (changes, changed) = watch::channel(());
    let parts = ServerParts {
        dispatcher: Arc::clone(&dispatcher),
        callers: Callers::new(callers.clone()).unwrap(),
        issuers: Issuers::new(Vec::new(), Arc::clone(&clock)),
        health: Arc::clone(&patient) as Arc<dyn Health>,
        receipts: Arc::new(NoReceipts),
        clock: Arc::clone(&clock),
        sink: Arc::clone(&sink) as Arc<dyn AuditSink>,
        changes: changed,
    };
    let server = Server::bind(options.clone(), parts).await.unwrap();
    let addresses = server.addresses();
    let handle = server.handle();
    let reloader = handle.tls_reloader();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Fixture {
        address: addresses[0],
        addresses,
        reloader,
        sink,
        patient,
        changes,
        handle,
        options,
        dispatcher,
        callers,
        clock,
        stop,
        task,
    }
}

impl Fixture {
    /// Has it take another configuration, with the listener as the test wants.
    pub(crate) fn renew(&self, change: impl FnOnce(&mut ListenerOptions)) {
        let prepared = self.prepare(|options| change(&mut options.listeners[0]));
        prepared.unwrap().commit();
    }

    /// Another configuration, as the test wants, which does not hold yet.
    pub(crate) fn prepare(&self, change: impl FnOnce(&mut ServerOptions)) -> Result<Prepared, BindError> {
        let mut options = self.options.clone();
        change(&mut options);
        let renewal = Renewal {
            options,
            dispatcher: Arc::clone(&self.dispatcher),
            callers: Callers::new(self.callers.clone()).unwrap(),
            issuers: Issuers::new(Vec::new(), Arc::clone(&self.clock)),
        };
        self.handle.prepare(renewal)
    }

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

    /// A request of MCP on a connection of its own, with more fields.
    async fn mcp(&self, method: &str, fields: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} /mcp HTTP/1.1\r\nhost: localhost\r\naccept: application/json, text/event-stream\r\n{fields}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_of_redis_that_was_renewed_keeps_no_configuration_from_holding() {
    // Nobody is there, and each process counts for itself.
    let redis = |password: &str, text: &str| RedisOptions {
        url: "redis://127.0.0.1:1".parse().unwrap(),
        password: Some(aral_contract::SecretValue::new(password.into())),
        ca_pem: Some(format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n").into()),
        prefix: limit::Prefix::default(),
        timeout_ms: 250,
        when_down: limit::WhenDown::Local,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let start = start_as(clock, Bounds::default(), |options, _| {
        options.redis = Some(redis("one", "AAAA"));
    });
    let it = start.await;
    for (password, text, told) in [
        ("one", "AAAA", 0),
        ("two", "AAAA", 1),
        ("two", "AAAA", 0),
        ("two", "BBBB", 1),
        ("one", "AAAA", 0),
    ] {
        it.sink.take();
        let prepared = it.prepare(|options| options.redis = Some(redis(password, text)));
        assert_eq!(prepared.unwrap().commit().len(), told, "{password} {text}");
        let rules = it.sink.take().into_iter().filter_map(|kind| match kind {
            EventKind::Security { rule, .. } => Some(rule),
            _ => None,
        });
        let of_rule = rules.filter(|rule| *rule == "rates.redis_credentials");
        assert_eq!(of_rule.count(), told, "{password} {text}");
        assert_eq!(it.get("/ready").await.0, 200);
    }
    let without = RedisOptions {
        password: None,
        ..redis("one", "AAAA")
    };
    let slow = RedisOptions {
        timeout_ms: 251,
        ..redis("one", "AAAA")
    };
    for moved in [Some(without), Some(slow), None] {
        let refused = it.prepare(|options| options.redis = moved).unwrap_err();
        assert!(matches!(refused, BindError::LimitsMoved), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_listener_has_a_place_for_a_connection() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let bounds = Bounds {
        connections_max: 2,
        connections_per_address_max: 2,
        ..Bounds::default()
    };
    let start = start_as(clock, bounds, |options, _| {
        let second = options.listeners[0].clone();
        options.listeners.push(second);
    });
    let it = start.await;
    let first = answered("127.0.0.1", it.addresses[0]).await;
    let second = answered("127.0.0.1", it.addresses[1]).await;
    assert!(first.0 && second.0);
    let refused = it.prepare(|options| options.bounds.connections_max = 1).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "there are 2 listeners, and connections_max = 1 is less than one connection for each"
    );
    assert!(refused.hint().unwrap().contains("connections_max = 2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_beyond_its_limits_leaves_no_record_for_each_request() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let start = start_as(clock, Bounds::default(), |options, callers| {
        callers[0].keys = vec![aral_contract::Digest::of(b"aral_key")];
        let one = limit::RateRequest {
            per_second: None,
            per_minute: Some(1),
            burst: Some(1),
        };
        options.rates.persona = limit::Rate::resolve(&one, limit::Limit::Persona.count_max()).unwrap();
    });
    let it = start.await;
    let request = concat!(
        "GET /v1/capabilities HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n",
        "authorization: Bearer aral_key\r\n\r\n"
    );
    assert_eq!(it.ask(request).await.0, 200);
    for _ in 0..20 {
        assert_eq!(it.ask(request).await.0, 429);
    }
    let recorded = it.sink.take().into_iter();
    let believed = recorded.filter(|kind| matches!(kind, EventKind::Authentication { .. }));
    assert_eq!(believed.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_log_has_no_room_nothing_begins_and_nobody_waits_to_be_refused() {
    let start = start_with(Bounds::default(), |_, callers| {
        callers[0].keys = vec![aral_contract::Digest::of(b"aral_key")];
    });
    let it = start.await;
    let list = |fields: &str| format!("GET /v1/capabilities HTTP/1.1\r\nconnection: close\r\n{fields}\r\n");
    let known = list("host: localhost\r\nauthorization: Bearer aral_key\r\n");
    it.sink.full.store(true, Ordering::Relaxed);
    let (status, problem) = it.ask(&known).await;
    assert_eq!((status, &problem["code"]), (503, &json!("audit.unavailable")));
    assert!(!problem.to_string().contains("hangs"), "{problem}");
    assert_eq!(it.invoke().await.0, 503);
    assert_eq!(it.get("/ready").await.0, 200);
    assert!(it.sink.take().is_empty());
    let stranger = "host: localhost\r\nauthorization: Bearer aral_other\r\n";
    for (fields, refused) in [(stranger, 401), ("host: evil.example\r\n", 421)] {
        assert_eq!(it.ask(&list(fields)).await.0, refused, "{fields}");
        assert_eq!(it.sink.take().len(), 1, "{fields}");
    }
    it.sink.full.store(false, Ordering::Relaxed);
    assert_eq!(it.ask(&known).await.0, 200);
}

/// Whether a connection from an address is answered, and the connection.
async fn answered(from: &str, to: std::net::SocketAddr) -> (bool, TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    // What is closed may be so before or after this.
    let _closed = stream
        .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    let mut buffer = [0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer));
    let count = read.await.unwrap().unwrap_or(0);
    (count > 0, stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_its_share_of_connections_and_is_told_of_once() {
    let it = start(Bounds {
        connections_per_address_max: 2,
        ..Bounds::default()
    })
    .await;
    let here = "127.0.0.1";
    let (first, second) = (answered(here, it.address).await, answered(here, it.address).await);
    assert!(first.0 && second.0);
    for _ in 0..3 {
        assert!(!answered(here, it.address).await.0);
    }
    assert!(answered("127.0.0.2", it.address).await.0, "another address");
    let crowds = it.sink.take().into_iter().filter_map(|kind| match kind {
        EventKind::Security { rule, source, .. } => Some((rule, source)),
        _ => None,
    });
    let expected = ("connections.address", Some(here.parse::<std::net::IpAddr>().unwrap()));
    assert_eq!(crowds.collect::<Vec<_>>(), [expected]);
    drop(first);
    let again = async { while !answered(here, it.address).await.0 {} };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}

/// Reads until these words have come.
async fn until(stream: &mut TcpStream, words: &str) -> String {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(words) {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer));
        let count = read.await.unwrap().unwrap();
        assert_ne!(count, 0, "{seen}");
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    seen
}

const LIST_CHANGED: &str = "notifications/tools/list_changed";

/// More fields and the body of a request of the newest revision of MCP.
pub(crate) fn newest(method: &str, params: Value) -> (String, String) {
    let mut body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    body["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    });
    let name = body["params"]["name"]
        .as_str()
        .map_or_else(String::new, |name| format!("mcp-name: {name}\r\n"));
    let fields = format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: {method}\r\n{name}");
    (fields, body.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_mcp_are_told_that_the_list_of_tools_has_changed() {
    let it = start(Bounds::default()).await;
    let (fields, body) = newest(
        "subscriptions/listen",
        json!({ "notifications": { "toolsListChanged": true } }),
    );
    let mut listens = it.mcp("POST", &fields, &body).await;
    until(&mut listens, "notifications/subscriptions/acknowledged").await;
    // An older revision: a session, and a stream of its own.
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    } });
    let mut begun = it.mcp("POST", "", &initialize.to_string()).await;
    let head = until(&mut begun, "protocolVersion").await;
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("mcp-session-id: "))
        .unwrap();
    let session = format!("mcp-session-id: {id}\r\nmcp-protocol-version: 2025-06-18\r\n");
    let mut news = it.mcp("GET", &session, "").await;
    until(&mut news, "text/event-stream").await;
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
    let mut said = it.mcp("POST", &session, &initialized).await;
    until(&mut said, "202").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    it.changes.send_replace(());
    until(&mut listens, LIST_CHANGED).await;
    until(&mut news, LIST_CHANGED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_for_nothing_that_there_is_waits_for_the_end() {
    let bounds = Bounds {
        mcp_streams_max: 2,
        ..Bounds::default()
    };
    let it = start(bounds).await;
    let listen = |wanted: Value| newest("subscriptions/listen", json!({ "notifications": wanted }));
    let (fields, body) = listen(json!({ "promptsListChanged": true }));
    let mut silent = it.mcp("POST", &fields, &body).await;
    until(&mut silent, "notifications/subscriptions/acknowledged").await;
    let (fields, body) = listen(json!({ "toolsListChanged": true }));
    let mut listens = it.mcp("POST", &fields, &body).await;
    until(&mut listens, "notifications/subscriptions/acknowledged").await;
    for _ in 0..2 {
        it.changes.send_replace(());
        until(&mut listens, LIST_CHANGED).await;
    }
    let mut third = it.mcp("POST", &fields, &body).await;
    until(&mut third, "HTTP/1.1 503").await;
    it.stop.send(()).unwrap();
    for mut stream in [silent, listens] {
        until(&mut stream, "\"result\"").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_callers_together_have_so_many_sessions_and_streams_of_mcp() {
    let all = bounds::of_all(1);
    let bounds = Bounds {
        mcp_sessions_max: 1,
        mcp_streams_max: 1,
        ..Bounds::default()
    };
    let it = start_with(bounds, |_, callers| {
        let first = callers[0].clone();
        callers.extend((0..=2 * all).map(|number| Caller {
            name: format!("caller-{number}").parse().unwrap(),
            keys: vec![aral_contract::Digest::of(format!("aral_{number}").as_bytes())],
            ..first.clone()
        }));
    })
    .await;
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    } });
    let (listen, wanted) = newest(
        "subscriptions/listen",
        json!({ "notifications": { "toolsListChanged": true } }),
    );
    let mut held = Vec::new();
    // Those who have none are the last to be shut out, and are not told to end what they have not.
    for number in 0..=2 * all {
        let expected = if number < 2 * all {
            "HTTP/1.1 200"
        } else {
            "try again later"
        };
        let key = format!("authorization: Bearer aral_{number}\r\n");
        for (fields, body) in [
            (String::new(), initialize.to_string()),
            (listen.clone(), wanted.clone()),
        ] {
            let mut stream = it.mcp("POST", &format!("{key}{fields}"), &body).await;
            until(&mut stream, expected).await;
            held.push(stream);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_fails_one_call_of_a_tool() {
    let it = start(Bounds::default()).await;
    let (fields, body) = newest("tools/call", json!({ "name": "none" }));
    it.sink.broken.store(true, Ordering::Relaxed);
    let mut stream = it.mcp("POST", &fields, &body).await;
    let answer = until(&mut stream, "host.internal").await;
    assert!(answer.contains("-32603") && !answer.contains("broken"), "{answer}");
    it.sink.broken.store(false, Ordering::Relaxed);
    let mut stream = it.mcp("POST", &fields, &body).await;
    until(&mut stream, "capability.unknown").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_may_call_is_no_empty_list_once_a_newer_issue_took_the_place_of_its_persona() {
    let it = start(Bounds::default()).await;
    let list = || it.get("/v1/capabilities");
    assert_eq!(list().await, (200, json!({ "capabilities": [] })));
    let (fields, body) = newest("tools/list", json!({}));
    let mut stream = it.mcp("POST", &fields, &body).await;
    until(&mut stream, "\"tools\":[]").await;
    // As for a request that came in before its configuration was replaced.
    it.dispatcher.end(&it.callers[0].session);
    let (status, problem) = list().await;
    assert_eq!((status, &problem["code"]), (403, &json!("document.stale")), "{problem}");
    assert!(problem["hint"].as_str().unwrap().starts_with("ask again"), "{problem}");
    let mut stream = it.mcp("POST", &fields, &body).await;
    let answer = until(&mut stream, "document.stale").await;
    assert!(
        answer.contains("ask again") && !answer.contains("\"tools\""),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_is_not_said_to_be_gone_once_a_newer_issue_took_the_place_of_its_callers_persona() {
    let it = start(Bounds::default()).await;
    let (fields, body) = newest("tools/call", json!({ "name": "none" }));
    let mut stream = it.mcp("POST", &fields, &body).await;
    until(&mut stream, "there is no tool `none`").await;
    it.dispatcher.end(&it.callers[0].session);
    let mut stream = it.mcp("POST", &fields, &body).await;
    let answer = until(&mut stream, "document.stale").await;
    assert!(!answer.contains("there is no tool"), "{answer}");
}

#[test]
fn the_description_is_the_one_that_was_reviewed() {
    insta::assert_snapshot!(openapi());
}
