//! Asks a running server for its metrics, on its socket for operators: one `GET /metrics` on a connection of its own.

use std::fmt::Display;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aral_contract::{Code, Failure};
use aral_host::protocol::admin::client::not_reached;
use aral_runtime::files;

use super::samples::Samples;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer. Stops whatever listens there from filling memory.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

pub(super) const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// A server.
pub(super) struct Source {
    socket: PathBuf,
}

impl Source {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    pub(super) fn ask(&self) -> Result<Samples, Failure> {
        let shown = self.socket.display();
        let unanswered = |why: &dyn Display| {
            Failure::new(Code::Unavailable, format!("no server answers on `{shown}`: {why}"))
                .with_hint("start one: `aral serve`, with the same configuration")
        };
        let connected = files::connect(&self.socket).map_err(|error| not_reached(&error))?;
        let (stream, _folder_owner) = connected.ok_or_else(|| unanswered(&"nobody listens there"))?;
        let text = exchange(stream).map_err(|error| unanswered(&error))?;
        let odd = |what: &str| Failure::new(Code::Unavailable, format!("what listens on `{shown}` {what}"));
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| odd("does not speak HTTP"))?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(Samples::parse(body)),
            Some(status) => Err(odd(&format!("answered with status {}", status.escape_debug()))),
            None => Err(odd("does not speak HTTP")),
        }
    }
}

fn exchange(mut stream: UnixStream) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn asked(answer: &'static str) -> Result<Samples, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; REQUEST.len()];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        let asked = Source::new(&socket).ask();
        assert_eq!(server.join().unwrap(), REQUEST);
        asked
    }

    #[test]
    fn an_answer_is_read_and_anything_else_is_a_failure() {
        assert_eq!(asked("HTTP/1.1 200 OK\r\na: b\r\n\r\nx 1\n").unwrap().sum("x"), 1.0);
        for (answer, words) in [
            ("HTTP/1.1 403 No\r\n\r\n", "answered with status 403"),
            ("hello", "does not speak HTTP"),
            ("", "does not speak HTTP"),
        ] {
            let failure = asked(answer).unwrap_err();
            assert!(failure.message.contains(words), "{failure}");
        }
        let none = Source::new(Path::new("/none/socket")).ask().unwrap_err();
        assert!(
            none.message.contains("no server answers") && none.hint.is_some(),
            "{none}"
        );
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("loop");
        std::os::unix::fs::symlink(&link, &link).unwrap();
        let unknown = Source::new(&link.join("socket")).ask().unwrap_err();
        assert!(unknown.message.contains("whether a server runs"), "{unknown}");
    }
}
