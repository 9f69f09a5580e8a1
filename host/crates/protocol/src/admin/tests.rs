//! The management over its socket and its port, with something behind it that does not answer.

use std::sync::atomic::Ordering;

use aral_contract::Code;
use aral_runtime::SystemClock;
use axum::routing;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::tests::Sink;

const KEY: &str = "aral_the-key-of-the-operator";

struct Fixture {
    address: SocketAddr,
    socket: PathBuf,
    sink: Arc<Sink>,
    _folder: tempfile::TempDir,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(router: Router) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let options = AdminOptions {
        socket: Some(socket.clone()),
        address: Some("127.0.0.1:0".parse().unwrap()),
        keys: vec![Digest::of(KEY.as_bytes())],
    };
    let sink = Arc::new(Sink::default());
    let parts = AdminParts {
        clock: Arc::new(SystemClock::new()),
        sink: Arc::clone(&sink) as Arc<dyn AuditSink>,
    };
    let server = AdminServer::bind(options, parts).await.unwrap();
    let address = server.address().unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(router, async {
        let _ = stopped.await;
    }));
    Fixture {
        address,
        socket,
        sink,
        _folder: folder,
        stop,
        task,
    }
}

/// Everything that comes until the other end closes.
async fn whole(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut text));
    read.await.unwrap().unwrap();
    text
}

#[tokio::test]
async fn a_port_without_places_keeps_nobody_from_the_socket_and_not_the_server_from_its_end() {
    let (begun, mut begins) = mpsc::unbounded_channel();
    let hang = move || {
        let begun = begun.clone();
        async move {
            let _ = begun.send(());
            std::future::pending::<&'static str>().await
        }
    };
    let router = Router::new()
        .route("/hang", routing::get(hang))
        .route("/well", routing::get(|| async { "well" }));
    let it = start(router).await;
    let request = format!("GET /hang HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n\r\n");
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(it.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        held.push(stream);
    }
    for _ in 0..CONNECTIONS_MAX {
        begins.recv().await.unwrap();
    }
    let socket = UnixStream::connect(&it.socket).await.unwrap();
    let answer = whole(
        socket,
        "GET /well HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("well"),
        "{answer}"
    );
    tokio::time::pause();
    it.stop.send(()).unwrap();
    tokio::time::timeout(DRAIN * 3, it.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_takes_as_long_as_it_takes_is_waited_for() {
    let (begun, mut begins) = mpsc::unbounded_channel();
    let slow = move || {
        let begun = begun.clone();
        async move {
            let _ = begun.send(());
            tokio::time::sleep(client::PATIENCE * 3).await;
            "\"taken\""
        }
    };
    let it = start(Router::new().route("/slow", routing::post(slow))).await;
    let mut server = client::AdminClient::connect(&it.socket).await.unwrap().unwrap();
    let asked = tokio::spawn(async move { server.ask_patiently(Method::POST, "/slow", client::whole("")).await });
    begins.recv().await.unwrap();
    tokio::time::pause();
    let answer = tokio::time::timeout(client::PATIENCE * 10, asked).await;
    assert_eq!(answer.unwrap().unwrap().unwrap(), "taken");
}

#[tokio::test]
async fn who_may_not_go_to_the_socket_is_not_told_that_no_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let none = client::AdminClient::connect(&folder.path().join("admin.sock")).await;
    assert!(none.unwrap().is_none());
    let link = folder.path().join("loop");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let failure = client::AdminClient::connect(&link.join("admin.sock"))
        .await
        .unwrap_err();
    assert_eq!((failure.code, &failure.hint), (Code::Unavailable, &None), "{failure}");
    let denied = client::not_reached(&FilesError::Io {
        action: "connect to",
        path: "/state/admin.sock".into(),
        source: std::io::ErrorKind::PermissionDenied.into(),
    });
    let message =
        "it cannot be found out whether a server runs: cannot connect to `/state/admin.sock`: permission denied";
    assert_eq!((denied.code, denied.message.as_str()), (Code::Unavailable, message));
    assert_eq!(denied.hint.as_deref(), Some(client::AS_ITS_USER));
}

#[tokio::test]
async fn who_is_refused_has_no_further_request() {
    let it = start(Router::new()).await;
    for (status, fields) in [
        (401, "host: localhost\r\n"),
        (401, "host: localhost\r\nauthorization: Bearer aral_other\r\n"),
        (421, "host: evil.example\r\n"),
        (403, "host: localhost\r\norigin: https://evil.example\r\n"),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{fields}\r\n").repeat(2);
        let stream = TcpStream::connect(it.address).await.unwrap();
        let answers = whole(stream, &request).await;
        assert!(answers.starts_with(&format!("HTTP/1.1 {status}")), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
        // No line of the listeners of callers helps here, and one of them would open those.
        assert!(!answers.contains("[[serve.listener]]"), "{answers}");
        assert_eq!(answers.contains("ask it as `localhost`"), status == 421, "{answers}");
    }
}

#[tokio::test]
async fn who_comes_as_an_attack_comes_is_on_record() {
    let it = start(Router::new()).await;
    for (fields, rule) in [
        ("host: evil.example\r\n", "http.host"),
        ("host: localhost\r\norigin: https://evil.example\r\n", "http.origin"),
        ("host: localhost\r\nsec-fetch-site: cross-site\r\n", "http.origin"),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{fields}authorization: Bearer {KEY}\r\n\r\n");
        let stream = TcpStream::connect(it.address).await.unwrap();
        let source = stream.local_addr().unwrap().ip();
        whole(stream, &request).await;
        let expected = EventKind::Security {
            severity: Severity::Medium,
            rule,
            subject: "management".to_owned(),
            reason: None,
            source: Some(source),
        };
        assert_eq!(it.sink.take(), [expected]);
    }
}

#[tokio::test]
async fn while_the_log_has_no_room_an_operator_may_look_and_changes_nothing() {
    let act = routing::get(|| async { "seen" }).post(|| async { "done" });
    let it = start(Router::new().route("/act", act)).await;
    let ask = async |method: &str| {
        let stream = UnixStream::connect(&it.socket).await.unwrap();
        let fields = "host: localhost\r\nconnection: close\r\ncontent-length: 0\r\n";
        whole(stream, &format!("{method} /act HTTP/1.1\r\n{fields}\r\n")).await
    };
    it.sink.full.store(true, Ordering::Relaxed);
    assert!(ask("GET").await.ends_with("seen"));
    let refused = ask("POST").await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("audit.unavailable"),
        "{refused}"
    );
    assert!(it.sink.take().is_empty());
    it.sink.full.store(false, Ordering::Relaxed);
    assert!(ask("POST").await.ends_with("done"));
    assert_eq!(it.sink.take().len(), 1);
}

#[test]
fn processes_of_this_user_and_of_root_are_believed_and_no_others() {
    assert!(is_ours(1000, 1000) && is_ours(0, 1000) && is_ours(0, 0));
    assert!(!is_ours(1001, 1000) && !is_ours(1000, 0) && !is_ours(u32::MAX, 1000));
}

#[test]
fn a_server_of_this_user_of_root_or_of_whoever_owns_the_folder_is_believed_and_no_other() {
    use client::is_believed;
    assert!(is_believed(1000, 1000, 0) && is_believed(1000, 1000, 998));
    assert!(is_believed(0, 1000, 998) && is_believed(0, 1000, 1000));
    assert!(is_believed(998, 1000, 998) && is_believed(998, 0, 998));
    assert!(!is_believed(1001, 1000, 998) && !is_believed(1001, 1000, 0) && !is_believed(1001, 1000, 1000));
    assert!(!is_believed(1001, 0, 0) && !is_believed(998, 1000, 0));
}
