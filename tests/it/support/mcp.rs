//! MCP byte by byte: its messages, requests of the newest revision, sessions of the older ones, and a process with its standard
//! input. For what no client would send, and for what clients do not show.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::desk::Desk;
use super::wire::{Reply, Wire, request};

/// The newest revision, which knows no sessions.
pub(crate) const NEWEST: &str = "2026-07-28";
/// The newest of those that do.
pub(crate) const WITH_SESSIONS: &str = "2025-11-25";

/// No answer is waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fields that every request of MCP has.
const FIELDS: [(&str, &str); 2] = [
    ("Content-Type", "application/json"),
    ("Accept", "application/json, text/event-stream"),
];

/// A request of JSON-RPC.
pub(crate) fn message(id: u64, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// The same in the newest revision, where each says what it speaks.
pub(crate) fn newest(id: u64, method: &str, mut params: Value) -> Value {
    let meta = &mut params["_meta"];
    meta["io.modelcontextprotocol/protocolVersion"] = json!(NEWEST);
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    message(id, method, params)
}

/// A call of a tool.
pub(crate) fn call(name: &str, arguments: Value) -> Value {
    json!({ "name": name, "arguments": arguments })
}

/// Sends bytes to `/mcp` with more fields.
pub(crate) fn send(address: SocketAddr, fields: &[(&str, &str)], body: &str) -> Wire {
    let mut wire = Wire::open(address);
    let mut all = FIELDS.to_vec();
    all.extend_from_slice(fields);
    wire.send(&request("POST", "/mcp", &all, body));
    wire
}

/// Sends a request of the newest revision.
pub(crate) fn send_newest(address: SocketAddr, fields: &[(&str, &str)], method: &str, params: Value) -> Wire {
    let name = params["name"].as_str().unwrap_or_default().to_owned();
    let mut all = vec![("MCP-Protocol-Version", NEWEST), ("Mcp-Method", method)];
    if !name.is_empty() {
        all.push(("Mcp-Name", &name));
    }
    all.extend_from_slice(fields);
    send(address, &all, &newest(1, method, params).to_string())
}

/// Its answer, which is JSON.
pub(crate) fn ask_newest(address: SocketAddr, fields: &[(&str, &str)], method: &str, params: Value) -> Reply {
    send_newest(address, fields, method, params).reply()
}

/// A session of an older revision.
pub(crate) struct Session {
    address: SocketAddr,
    pub(crate) id: String,
    fields: Vec<(String, String)>,
}

impl Session {
    /// Begins one; none: it is refused.
    pub(crate) fn try_begin(address: SocketAddr, fields: &[(&str, &str)]) -> Result<Self, Reply> {
        let params = json!({
            "protocolVersion": WITH_SESSIONS, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        });
        let mut wire = send(address, fields, &message(0, "initialize", params).to_string());
        let head = wire.head().expect("an answer");
        if head.status != 200 {
            return Err(head);
        }
        let id = head.field("mcp-session-id").expect("a session").to_owned();
        let answer = wire.event().expect("an answer");
        assert_eq!(answer["result"]["protocolVersion"], WITH_SESSIONS, "{answer}");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let session = Self {
            address,
            id,
            fields: fields.iter().map(owned).collect(),
        };
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        assert_eq!(session.send(&initialized).reply().status, 202);
        Ok(session)
    }

    /// Begins one.
    pub(crate) fn begin(address: SocketAddr, fields: &[(&str, &str)]) -> Self {
        Self::try_begin(address, fields).unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    fn fields(&self) -> Vec<(&str, &str)> {
        let mut fields = vec![
            ("Mcp-Session-Id", self.id.as_str()),
            ("MCP-Protocol-Version", WITH_SESSIONS),
        ];
        fields.extend(self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        fields
    }

    /// Says something in it.
    pub(crate) fn send(&self, message: &Value) -> Wire {
        send(self.address, &self.fields(), &message.to_string())
    }

    /// A request and the result of it.
    pub(crate) fn result(&self, method: &str, params: Value) -> Value {
        let mut wire = self.send(&message(1, method, params));
        assert_eq!(wire.head().expect("an answer").status, 200);
        let answer = wire.event().expect("an answer");
        assert!(answer["result"].is_object(), "{answer}");
        answer["result"].clone()
    }

    /// The stream on which news come.
    pub(crate) fn news(&self) -> (Wire, Reply) {
        self.listen(&[])
    }

    /// A stream that was heard up to this event, taken up again.
    pub(crate) fn resume(&self, last: &str) -> (Wire, Reply) {
        self.listen(&[("Last-Event-ID", last)])
    }

    fn listen(&self, more: &[(&str, &str)]) -> (Wire, Reply) {
        let mut wire = Wire::open(self.address);
        let mut fields = self.fields();
        fields.push(("Accept", "text/event-stream"));
        fields.extend_from_slice(more);
        wire.send(&request("GET", "/mcp", &fields, ""));
        let head = wire.head().expect("an answer");
        (wire, head)
    }

    /// Ends it.
    pub(crate) fn end(&self) -> Reply {
        Wire::open(self.address).ask("DELETE", "/mcp", &self.fields(), "")
    }
}

/// `aral mcp` as a process.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    pub(crate) fn start(desk: &Desk, arguments: &[&str]) -> Self {
        let (mut process, output) = Self::start_unread(desk, arguments);
        let (sender, lines) = channel();
        process.lines = lines;
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let _nobody_waits = sender.send(line.expect("text"));
            }
        });
        process
    }

    /// The same, and its output, which nobody reads.
    pub(crate) fn start_unread(desk: &Desk, arguments: &[&str]) -> (Self, ChildStdout) {
        let mut all = vec!["mcp"];
        all.extend_from_slice(arguments);
        let mut child = desk
            .command(&all)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output = child.stdout.take().expect("a pipe");
        let (_nobody, lines) = channel();
        let process = Self {
            input: child.stdin.take(),
            child,
            lines,
        };
        (process, output)
    }

    /// Writes a line.
    pub(crate) fn write(&mut self, line: &str) {
        let input = self.input.as_mut().expect("an input");
        input.write_all(format!("{line}\n").as_bytes()).expect("it reads");
    }

    /// Writes a message.
    pub(crate) fn send(&mut self, message: &Value) {
        self.write(&message.to_string());
    }

    /// The next message. Whatever is no message fails the test.
    pub(crate) fn receive(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("a line");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        message
    }

    /// The result of a request of the newest revision.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(&newest(1, method, params));
        self.receive()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process"), signal).expect("it runs");
    }

    /// Ends its input.
    pub(crate) fn close(&mut self) {
        drop(self.input.take());
    }

    /// Hears what it still says, until it ends its output.
    pub(crate) fn hear_out(&self) {
        let start = Instant::now();
        while self.lines.recv_timeout(PATIENCE).is_ok() {
            assert!(start.elapsed() < PATIENCE, "it does not end");
        }
    }

    /// The exit code, once it has ended, and that it wrote nothing more.
    pub(crate) fn wait(mut self) -> Option<i32> {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => panic!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        assert_eq!(self.lines.recv().ok(), None, "it says nothing more");
        status.code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Waits until the audit log has a record of this kind with these words.
pub(crate) fn assert_recorded(desk: &Desk, kind: &str, words: &[&str]) {
    let start = Instant::now();
    loop {
        let run = desk.aral(&["audit", "query", "--json", "--type", kind]);
        if words.iter().all(|word| run.stdout.contains(word)) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "no {kind} with {words:?}: {run:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
