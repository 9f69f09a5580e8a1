//! One connection to a server under load: a request goes out whole, an answer comes in whole. It blocks its thread, which
//! costs the machine least, and which waits for nothing but its own answer.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// The largest answer with its fields.
const ANSWER_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 32;
/// Whoever waits for longer counts an error.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent to a server, and what has to come back.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// How it is known, if it speaks TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The whole request.
    pub(crate) request: Vec<u8>,
    /// The body of the answer.
    pub(crate) answer: Vec<u8>,
}

/// What goes over the connection, in clear or not.
trait Stream: Read + Write + Send + fmt::Debug {}

impl<T: Read + Write + Send + fmt::Debug> Stream for T {}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    target: &'a Target,
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl<'a> Client<'a> {
    pub(crate) fn open(target: &'a Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address).context("no connection")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let stream: Box<dyn Stream> = match &target.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::from(target.address.ip());
                let mut secured = StreamOwned::new(ClientConnection::new(Arc::clone(config), name)?, stream);
                // The handshake, which would come with the first request.
                secured.conn.complete_io(&mut secured.sock)?;
                Box::new(secured)
            }
        };
        Ok(Self {
            target,
            stream,
            buffer: Vec::new(),
        })
    }

    /// One request, whose answer must be the right one.
    pub(crate) fn ask(&mut self) -> Result<()> {
        let answer = self.answer()?;
        let right = self.buffer.get(answer).is_some_and(|body| body == self.target.answer);
        ensure!(right, "another answer: {}", String::from_utf8_lossy(&self.buffer));
        Ok(())
    }

    /// The body of the first answer.
    pub(crate) fn first(target: &Target) -> Result<Vec<u8>> {
        let mut client = Client::open(target)?;
        let answer = client.answer()?;
        Ok(client.buffer.get(answer).unwrap_or_default().to_vec())
    }

    /// Where in the buffer the body of the answer is.
    fn answer(&mut self) -> Result<Range<usize>> {
        self.stream.write_all(&self.target.request)?;
        self.buffer.clear();
        let mut chunk = [0; 4 << 10];
        loop {
            let read = self.stream.read(&mut chunk)?;
            ensure!(read > 0, "the server closed the connection");
            self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default());
            if let Some(body) = whole(&self.buffer)? {
                return Ok(body);
            }
        }
    }
}

/// The place of the body, once the answer is there whole; an error if it is not a good one.
fn whole(bytes: &[u8]) -> Result<Option<Range<usize>>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes)? else {
        ensure!(bytes.len() < ANSWER_BYTES_MAX, "the fields of an answer do not end");
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let mut lengths = response
        .headers
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().context("an answer without `content-length`")?;
    let length: usize = std::str::from_utf8(length.value)?.parse()?;
    let end = head.saturating_add(length);
    ensure!(
        end <= ANSWER_BYTES_MAX && bytes.len() <= end,
        "more than an answer came"
    );
    if bytes.len() < end {
        return Ok(None);
    }
    if status != 200 {
        bail!("status {status}: {}", String::from_utf8_lossy(bytes));
    }
    Ok(Some(head..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_not_yet_or_wrong() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42";
        for end in 0..text.len() {
            assert_eq!(whole(&text[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(whole(text).unwrap(), Some(38..40));
        for wrong in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n421",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",
            "no HTTP at all\r\n\r\n",
        ] {
            assert!(whole(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
