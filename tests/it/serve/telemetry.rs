//! Traces and metrics at a real collector, which `cargo xtask test --services` installs; without it these fail.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aral_contract::metric;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::port::free_port;
use crate::support::server::{Server, desk};

const ECHO: &str = "runtime-echo-tool";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// A machine that is busy with other things is given more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A collector of one test, which ends with it. It writes what it gets to a file.
struct Collector {
    child: Child,
    port: u16,
    said: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Collector {
    fn start() -> Self {
        let program =
            std::env::var_os("ARAL_SERVICE_ROTEL").expect("ARAL_SERVICE_ROTEL: run `cargo xtask test --services`");
        let (port, grpc, folder) = (free_port(), free_port(), tempfile::tempdir().expect("a folder"));
        let said = folder.path().join("said");
        let mut command = Command::new(program);
        command
            .args(["start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"])
            .args(["--debug-log", "traces", "--debug-log", "metrics"])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{port}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&said).expect("a file"))
            .stderr(Stdio::null());
        let child = command.spawn().expect("it starts");
        let mut collector = Self {
            child,
            port,
            said,
            _folder: folder,
        };
        wait(|| {
            assert!(collector.child.try_wait().expect("a child").is_none(), "it has ended");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        collector
    }

    fn said(&self) -> String {
        read(&self.said)
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file")
}

fn wait(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "it does not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn telling(port: u16, more: &Value) -> Desk {
    let desk = desk(|config| {
        let mut otlp =
            json!({ "address": format!("http://127.0.0.1:{port}"), "service": "of-the-tests", "timeout_ms": 500 });
        let more = more.as_object().expect("keys").clone();
        otlp.as_object_mut().expect("keys").extend(more);
        config["telemetry"] = json!({ "otlp": otlp });
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk
}

#[test]
fn a_collector_gets_the_spans_of_a_call_under_the_name_that_the_caller_sees() {
    let collector = Collector::start();
    let desk = telling(collector.port, &json!({}));
    let server = Server::start(&desk);
    let input = json!({ "marker": "marker-4711" }).to_string();
    let reply = server.wire().invoke(ECHO, &[("traceparent", PARENT)], &input);
    assert_eq!((reply.status, reply.field("aral-trace-id")), (200, Some(TRACE)));
    wait(|| collector.said().contains(TRACE));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    wait(|| collector.said().contains(metric::CALLS.name));
    let said = collector.said();
    for name in [
        "POST /v1/invoke/{capability}",
        "authenticate",
        "call",
        "authorize",
        "wait",
        "instantiate",
        "run",
        "audit",
    ] {
        assert!(
            said.contains(&format!("Name           : {name}\n")),
            "{name} is not in {said}"
        );
    }
    assert!(
        said.contains("of-the-tests") && said.contains("b7ad6b7169203331") && said.contains(ECHO),
        "{said}"
    );
    for one in [
        metric::CALL_SECONDS,
        metric::HTTP_REQUESTS,
        metric::AUDIT_WRITABLE,
        metric::PROCESS_RESIDENT,
    ] {
        assert!(said.contains(one.name), "{} is not in {said}", one.name);
    }
    assert!(!said.contains("marker-47"), "{said}");
}

#[test]
fn a_part_of_the_traces_is_exported_and_callers_cannot_raise_it() {
    let collector = Collector::start();
    // Of `TRACE` the second half begins with 84, which is beyond the half of what there is; and with 04 it is not.
    let desk = telling(collector.port, &json!({ "sample_ratio": 0.5 }));
    let server = Server::start(&desk);
    let kept = TRACE.replace("dd84", "dd04");
    for parent in [PARENT, &PARENT.replace(TRACE, &kept)] {
        assert_eq!(server.wire().invoke(ECHO, &[("traceparent", parent)], "1").status, 200);
    }
    // Spans come in the order in which they ended.
    wait(|| collector.said().contains(&kept));
    assert!(!collector.said().contains(TRACE), "{}", collector.said());
}

#[test]
fn a_collector_that_is_not_there_holds_up_nobody() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let desk = telling(
        silent.local_addr().expect("an address").port(),
        &json!({ "timeout_ms": 600_000 }),
    );
    let server = Server::start(&desk);
    let mut wire = server.wire();
    for _ in 0..200 {
        assert_eq!(wire.invoke(ECHO, &[], "1").status, 200);
    }
    let begun = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
