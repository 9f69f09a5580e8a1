//! A connection byte by byte: what no HTTP library would send, and what it would not show.

use std::io::{ErrorKind, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No answer is waited for longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    /// A whole answer, as it came.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        Self {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        let found = lines.find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        found.filter(|value| !value.is_empty())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Fails the test unless this is a problem document with this status and code.
    pub(crate) fn assert_problem(&self, case: &str, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{case}: {self:#?}");
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{case}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{case}: {self:#?}");
        assert_eq!(problem["status"], status, "{case}");
        assert_eq!(problem["type"], format!("urn:aral:error:{code}"), "{case}");
        assert_eq!(problem["trace_id"].as_str(), self.field("aral-trace-id"), "{case}");
        problem
    }
}

impl Wire {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Sends these bytes. The other side may have closed already.
    pub(crate) fn send(&mut self, bytes: &str) {
        let _closed_already = self.stream.write_all(bytes.as_bytes());
    }

    /// A whole request with the fields that it needs, and more.
    pub(crate) fn ask(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Reply {
        self.send(&request(method, path, fields, body));
        self.reply()
    }

    /// Calls a capability.
    pub(crate) fn invoke(&mut self, id: &str, fields: &[(&str, &str)], input: &str) -> Reply {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend_from_slice(fields);
        self.ask("POST", &format!("/v1/invoke/{id}"), &all, input)
    }

    /// The next answer.
    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply().expect("an answer")
    }

    /// The next answer; none: the connection ended before one.
    pub(crate) fn try_reply(&mut self) -> Option<Reply> {
        let reply = self.head()?;
        let length = reply
            .field("content-length")
            .map_or(0, |text| text.parse().expect("a length"));
        while self.unread.len() < length {
            assert_ne!(self.more(), 0, "half a body");
        }
        let rest = self.unread.split_off(length);
        let body = String::from_utf8(std::mem::replace(&mut self.unread, rest)).expect("text");
        Some(Reply { body, ..reply })
    }

    /// The next message of an answer that is a stream of events; none: the stream has ended.
    pub(crate) fn event(&mut self) -> Option<Value> {
        const BEGIN: &[u8] = b"data: {";
        loop {
            let begin = self.unread.windows(BEGIN.len()).position(|bytes| bytes == BEGIN);
            let line = begin.and_then(|begin| {
                let rest = &self.unread[begin..];
                let end = rest.iter().position(|byte| *byte == b'\n')?;
                Some((begin + BEGIN.len() - 1, begin + end))
            });
            if let Some((begin, end)) = line {
                let message = serde_json::from_slice(&self.unread[begin..end]).expect("JSON");
                self.unread.drain(..end);
                return Some(message);
            }
            if self.unread.ends_with(b"0\r\n\r\n") || self.more() == 0 {
                return None;
            }
        }
    }

    /// The id of the first event of a stream of which nothing was read yet.
    pub(crate) fn event_id(&mut self) -> String {
        const BEGIN: &[u8] = b"id:";
        loop {
            let begin = self.unread.windows(BEGIN.len()).position(|bytes| bytes == BEGIN);
            let id = begin.and_then(|begin| {
                let rest = &self.unread[begin + BEGIN.len()..];
                let end = rest.iter().position(|byte| *byte == b'\n')?;
                Some(std::str::from_utf8(&rest[..end]).expect("text").trim().to_owned())
            });
            if let Some(id) = id {
                return id;
            }
            assert_ne!(self.more(), 0, "no event has an id");
        }
    }

    /// The next answer as far as its body; none: the connection ended before one.
    pub(crate) fn head(&mut self) -> Option<Reply> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if self.more() == 0 {
                assert!(self.unread.is_empty(), "half an answer: {:?}", self.unread);
                return None;
            }
        };
        let rest = self.unread.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.unread, rest)).expect("text");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        Some(Reply {
            status,
            head,
            body: String::new(),
        })
    }

    /// Whether the other side ends the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.more() == 0
    }

    /// Whether nothing comes for this long and the connection stays.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
        let read = self.stream.read(&mut [0; 1]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// How many bytes came; 0: the connection has ended.
    fn more(&mut self) -> usize {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                count
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}

/// The next frame of HTTP/2 (RFC 9113, section 4.1): its kind, its flags and its payload.
pub(crate) fn frame(stream: &mut impl Read) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("a frame");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).expect("it is short")];
    stream.read_exact(&mut payload).expect("a whole frame");
    (head[3], head[4], payload)
}

/// The bytes of a request; `Host` and `Content-Length` stand in it unless `fields` say otherwise.
pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> String {
    let has = |name: &str| fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !has("host") {
        text.push_str("Host: localhost\r\n");
    }
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() && !has("content-length") && !has("transfer-encoding") {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    format!("{text}\r\n{body}")
}
